"""Samples beside a reference: in units of how usual its values were, and how far both lie apart.

The distances are for display only: as daily alarms both raise far too many false ones.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri

_SMALLEST_SHARE = 1e-4


def population_stability(reference: np.ndarray, sample: np.ndarray, bins: int = 10) -> float:
    """Population stability index over the reference's quantile bins; NaN without a sample.

    Its mean without drift is about ``(bins - 1) (1/n + 1/m)`` for sample sizes n and m, more than the usual 0.2 for
    small samples.
    """
    if len(reference) == 0 or len(sample) == 0:
        return float("nan")
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    shares = [
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) / len(values)
        for values in (reference, sample)
    ]
    before, after = (np.maximum(share, _SMALLEST_SHARE) for share in shares)
    return float(np.sum((after - before) * np.log(after / before)))


def kolmogorov_smirnov(reference: np.ndarray, sample: np.ndarray) -> float:
    """Largest distance of the two distribution functions, 0 to 1; NaN without a sample."""
    if len(reference) == 0 or len(sample) == 0:
        return float("nan")
    grid = np.concatenate([reference, sample])
    before, after = (
        np.searchsorted(np.sort(values), grid, side="right") / len(values) for values in (reference, sample)
    )
    return float(np.abs(before - after).max())


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
        # Both sum to twice a rank that is the mean of the lowest and the highest that the value can take.
        scores[stream, finite] = _quantiles(len(ordered))[below + not_above]
    return scores


def size_scores(reference: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Scores of the ranks that sizes take among the reference's (Klotz 1962), of mean 0 and variance 1.

    They are squares of normal scores, ranked by size: of a Gaussian stream its squares, of which a change of variance
    is best seen; a heavy tail counts no more than a normal one.

    Parameters
    ----------
    reference, sizes
        As of :func:`normal_scores`, at least 0.
    """
    half = ndtri((1.0 + ndtr(normal_scores(reference, sizes))) / 2.0)
    return (half**2 - 1.0) / np.sqrt(2.0)


@lru_cache(maxsize=128)
def _quantiles(count: int) -> np.ndarray:
    """Normal quantiles of half ranks 0 to 2 n, moved up by a half, over n + 1: never of 0 or 1, so always finite."""
    return ndtri((np.arange(2 * count + 1) + 1.0) / (2.0 * (count + 1.0)))
