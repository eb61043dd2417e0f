"""Which prices can be true: rules that name offending rows, and the screening that acts on them."""

from financial_assets.market.quality.results import Marks, QualityResult, Severity, failure_table
from financial_assets.market.quality.sessions import completeness, stray_days
from financial_assets.market.quality.shapes import not_traded
from financial_assets.market.quality.values import (
    HIGHEST_PRICE,
    IMPOSSIBLE_MOVE,
    LARGEST_ADJUSTED_VOLUME,
    LARGEST_VOLUME,
    LOWEST_ADJUSTED_CLOSE,
    ROUNDING,
    WIDEST_BAR,
    duplicates,
    extreme_moves,
    impossible_values,
    ohlc_order,
    require_possible,
)

__all__ = [
    "HIGHEST_PRICE",
    "IMPOSSIBLE_MOVE",
    "LARGEST_ADJUSTED_VOLUME",
    "LARGEST_VOLUME",
    "LOWEST_ADJUSTED_CLOSE",
    "ROUNDING",
    "WIDEST_BAR",
    "Marks",
    "QualityResult",
    "Severity",
    "completeness",
    "duplicates",
    "extreme_moves",
    "failure_table",
    "impossible_values",
    "not_traded",
    "ohlc_order",
    "require_possible",
    "stray_days",
]
