"""Confidence sequence for the running average of bounded daily differences whose mean may move.

What a forecaster is worth may change with the regime. This sequence covers, on all days at once, the average of the
conditional means of the days *so far*, whatever path they take: the weak null hypothesis "not better on average until
now", where :mod:`.betting` tests the strong one "better on no day" (Choe and Ramdas 2024, Comparing sequential
forecasters, Operations Research, arXiv 2110.00115; Howard et al. 2021, Ann. Stat. 49, empirical Bernstein bounds).

Let ``S`` be the sum of differences minus their conditional means, ``V`` the sum of squared distances to the mean of the
days before, all differences in ``[-b, b]`` so that none is farther than ``c = 2 b`` from that mean, and
``psi(s) = -log(1 - s) - s``. Then ``exp(s S / c - psi(s) V / c^2)`` is a supermartingale for each s in (0, 1) (Fan,
Grama and Liu 2015), and so is a mixture over s, in equal parts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.capital import STAKES


def bernstein_radius(variation: float, alpha: float, *, bound: float = 1.0) -> float:
    """One-sided bound of ``S``, valid at every look with probability ``1 - alpha``.

    Parameters
    ----------
    variation
        ``V``, in squared units of the difference.
    alpha
        Error rate of the one side.
    bound
        Largest possible size of a difference.
    """
    if not 0 < alpha < 1 or not bound > 0 or variation < 0:
        raise ExperimentError(f"need alpha in (0, 1), bound > 0, variation >= 0: {alpha}, {bound}, {variation}")
    reach, target = 2 * bound, -math.log(alpha)
    part = np.asarray(STAKES, np.float64)
    # Each part alone, with its share of the capital, reaches the target somewhere: the mixture does so no later.
    alone = (target + math.log(part.size) + _psi(part) * variation / reach**2) / part

    def excess(total: float) -> float:
        return float(log_mixture(total, variation, bound=bound)) - target

    root: Any = optimize.brentq(excess, 0.0, reach * float(alone.min()) * (1 + 1e-9), xtol=1e-12)
    return float(root)


def log_mixture(total: ArrayLike, variation: ArrayLike, *, bound: float = 1.0) -> NDArray[np.float64]:
    """Log of the supermartingale at ``S`` and ``V``, any shape: reaches ``log(1 / alpha)`` with probability alpha."""
    sums, squares = np.asarray(total, np.float64) / (2 * bound), np.asarray(variation, np.float64) / (2 * bound) ** 2
    log = np.full(np.broadcast_shapes(sums.shape, squares.shape), -np.inf)
    # Added as logarithms: after some thousand days single parts leave the range of a double.
    for stake in STAKES:
        log = np.logaddexp(log, stake * sums - float(_psi(np.float64(stake))) * squares)
    return log - math.log(len(STAKES))


def _psi(stake: Any) -> Any:
    return -np.log1p(-stake) - stake


def variations(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """``V`` after each day of ``[..., days]``: squared distances to the mean of those before, 0 on the first day."""
    # The mean of the days *before*: predictable, so that a day's own difference cannot shrink its variation.
    count = np.arange(differences.shape[-1])
    before = np.cumsum(differences, axis=-1) - differences
    return np.cumsum((differences - before / np.maximum(count, 1)) ** 2, axis=-1)


def average_interval(differences: ArrayLike, alpha: float, *, bound: float = 1.0) -> tuple[float, float]:
    """Bounds of the average conditional mean of the days so far; two-sided, ``alpha / 2`` each.

    They are not intersected with earlier ones: the average they speak of is another one each day.

    Parameters
    ----------
    differences
        Daily differences ``[days]``, each within ``bound``.
    alpha
        Error rate over all looks.
    bound
        Largest possible size of a difference.
    """
    days = np.asarray(differences, np.float64)
    if not np.all(np.abs(days) <= bound):  # also for NaN
        raise ExperimentError(f"daily differences must lie within +-{bound:g}")
    if not days.size:
        return -bound, bound
    mean = float(days.mean())
    half = bernstein_radius(float(variations(days)[-1]), alpha / 2, bound=bound) / days.size
    return max(mean - half, -bound), min(mean + half, bound)
