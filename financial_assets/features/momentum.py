"""How far and how steadily the price has moved."""

from __future__ import annotations

from financial_assets.features.bars import SCALE_LOOKBACK, in_daily_scale, log_return
from financial_assets.features.feature import Feature, define

__all__ = ["FEATURES"]


def _momentum(window: int) -> Feature:
    return define(
        f"momentum_{window}",
        "momentum",
        max(window + 1, SCALE_LOOKBACK),
        f"log(close / close[-{window}]) / (scale * sqrt({window}))",
        "Jegadeesh and Titman (1993), volatility-scaled as Moskowitz, Ooi and Pedersen (2012)",
        lambda bars: in_daily_scale(bars, log_return(bars, window), window),
        bounds=(-6.0, 6.0),
    )


FEATURES: tuple[Feature, ...] = tuple(_momentum(window) for window in (1, 2, 3, 4, 5, 10, 20, 60))
