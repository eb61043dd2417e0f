"""Whether bars from another place continue the market that a state folder holds."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["is_same_market"]

_SAME_RETURN = 1e-4
"""Difference of two daily returns that rounding to cents explains."""
_SAME_SHARE = 0.9
"""Share of common returns that must agree; the rest may have been corrected, or lies on a split."""


def is_same_market(stored: pd.DataFrame, delivered: pd.DataFrame) -> bool:
    """Whether two price frames can be of one market.

    They have a ticker in common, and where they have sessions in common, the same daily returns of the close: a split
    or another unit changes the level of all prices at once, but not their returns. Files that begin after the stored
    sessions have none in common and contradict nothing.
    """
    if not set(stored["ticker"].unique()) & set(delivered["ticker"].unique()):
        return False
    both = stored.merge(delivered, on=["ticker", "date"], suffixes=("_stored", "_delivered"))
    if both.empty:
        return True
    both = both.sort_values(["ticker", "date"])
    returns = both.groupby("ticker")[["close_stored", "close_delivered"]].pct_change(fill_method=None).dropna()
    if returns.empty:  # one common session: the level is all there is
        before, after = both["close_stored"].to_numpy(), both["close_delivered"].to_numpy()
        return bool(np.isclose(before, after, rtol=1e-3, atol=0).mean() >= _SAME_SHARE)
    before, after = returns["close_stored"].to_numpy(), returns["close_delivered"].to_numpy()
    return bool(np.isclose(before, after, rtol=0, atol=_SAME_RETURN).mean() >= _SAME_SHARE)
