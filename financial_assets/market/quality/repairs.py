"""Faults that have one true repair: a copy of a row, a high or low that misses the body by a tick."""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.market.frames import PRICE_COLUMNS
from financial_assets.market.quality.values import ROUNDING, TICK

_SMALLEST_SHARE, _LARGEST_SHARE = 1e-3, 1e-2
"""A tick of an adjusted price is not a cent any more: up to a thousandth of the price is taken for one, and never more
than a hundredth."""


def repeated_rows(prices: pd.DataFrame) -> np.ndarray:
    """Rows that repeat an earlier row in every value."""
    return prices.duplicated(list(PRICE_COLUMNS), keep="first").to_numpy()


def order_faults(prices: pd.DataFrame) -> tuple[np.ndarray, list[tuple[np.ndarray, str]]]:
    """Rows whose high or low misses open or close by a tick, and masks of those that miss by more, with the problem."""
    close = prices["close"].to_numpy(np.float64)
    tick = np.clip(TICK / close, _SMALLEST_SHARE, _LARGEST_SHARE) * close
    high, low = prices["high"].to_numpy(), prices["low"].to_numpy()
    rules: list[tuple[np.ndarray, str]] = [(low > high + tick, "high is below low")]
    slight = low > high * (1.0 + ROUNDING)
    for name in ("open", "close"):
        value = prices[name].to_numpy()
        rules += [
            (value > high + tick, f"high is below {name}"),
            (value < low - tick, f"low is above {name}"),
        ]
        slight |= (value > high * (1.0 + ROUNDING)) | (value * (1.0 + ROUNDING) < low)
    return slight & ~np.logical_or.reduce([mask for mask, _ in rules]), rules


def widen(prices: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """The frame with high and low of ``rows`` widened to the body."""
    widened = prices.copy()
    body = prices.loc[rows, ["open", "high", "low", "close"]]
    widened.loc[rows, "high"], widened.loc[rows, "low"] = body.max(axis=1), body.min(axis=1)
    return widened
