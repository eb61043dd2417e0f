"""Normal scores: a stream in units of how usual its values were in the reference."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

__all__ = ["normal_scores"]


def normal_scores(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Standard normal quantiles of the ranks that ``values`` take in the reference (van der Waerden 1952).

    Volatilities, volumes and shares are skewed, and a mean of few tickers has heavy tails: sums of such values go far
    without drift. Their ranks do not. Ties take the middle rank; whatever lies beyond the reference counts as half a
    rank beyond its extreme.

    Parameters
    ----------
    reference
        float ``[stream, session]``; NaN where unknown, at least one known value per stream.
    values
        float ``[stream, any]`` of the same streams; NaN stays NaN.
    """
    scores = np.full(values.shape, np.nan)
    for stream, (before, row) in enumerate(zip(reference, values, strict=True)):
        ordered = np.sort(before[np.isfinite(before)])
        finite = np.isfinite(row)
        below = np.searchsorted(ordered, row[finite], side="left")
        not_above = np.searchsorted(ordered, row[finite], side="right")
        # Mean of the lowest and the highest rank that the value can take, over n + 1: never 0 or 1, so always finite.
        share = (below + not_above + 1.0) / (2.0 * (len(ordered) + 1.0))
        scores[stream, finite] = ndtri(share)
    return scores
