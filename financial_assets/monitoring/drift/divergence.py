"""How far two samples lie apart, for display only: as daily alarms both raise far too many false ones."""

from __future__ import annotations

import numpy as np

__all__ = ["kolmogorov_smirnov", "population_stability"]

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
