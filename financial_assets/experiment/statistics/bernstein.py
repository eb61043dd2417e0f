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

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.capital import STAKES

__all__ = ["AverageSequence", "bernstein_radius", "log_mixture"]


def bernstein_radius(variation: float, alpha: float, *, bound: float = 1.0, stakes: Sequence[float] = STAKES) -> float:
    """One-sided bound of ``S``, valid at every look with probability ``1 - alpha``.

    Parameters
    ----------
    variation
        ``V``, in squared units of the difference.
    alpha
        Error rate of the one side.
    bound
        Largest possible size of a difference.
    stakes
        The values of s that are mixed.
    """
    if not 0 < alpha < 1 or not bound > 0 or variation < 0:
        raise ExperimentError(f"need alpha in (0, 1), bound > 0, variation >= 0: {alpha}, {bound}, {variation}")
    reach, target = 2 * bound, -math.log(alpha)
    part = np.asarray(stakes, np.float64)
    # Each part alone, with its share of the capital, reaches the target somewhere: the mixture does so no later.
    alone = (target + math.log(part.size) + _psi(part) * variation / reach**2) / part

    def excess(total: float) -> float:
        return float(log_mixture(total, variation, bound=bound, stakes=stakes)) - target

    root: Any = optimize.brentq(excess, 0.0, reach * float(alone.min()) * (1 + 1e-9), xtol=1e-12)
    return float(root)


def log_mixture(
    total: ArrayLike, variation: ArrayLike, *, bound: float = 1.0, stakes: Sequence[float] = STAKES
) -> NDArray[np.float64]:
    """Log of the supermartingale at ``S`` and ``V``, any shape: reaches ``log(1 / alpha)`` with probability alpha."""
    sums, squares = np.asarray(total, np.float64) / (2 * bound), np.asarray(variation, np.float64) / (2 * bound) ** 2
    log = np.full(np.broadcast_shapes(sums.shape, squares.shape), -np.inf)
    for stake in stakes:
        log = np.logaddexp(log, stake * sums - float(_psi(np.float64(stake))) * squares)
    return log - math.log(len(stakes))


def _psi(stake: Any) -> Any:
    return -np.log1p(-stake) - stake


@dataclass(frozen=True, slots=True)
class AverageSequence:
    """State of the sequence, fed one day at a time.

    Attributes
    ----------
    bound, stakes
        As in :mod:`.betting`.
    days, total
        Days seen and the sum of their differences.
    variation
        Sum of squared distances of each difference to the mean of those before (0 on the first day).
    """

    bound: float = 1.0
    stakes: tuple[float, ...] = STAKES
    days: int = 0
    total: float = 0.0
    variation: float = 0.0

    def update(self, difference: float) -> AverageSequence:
        """The state one day later."""
        if not abs(difference) <= self.bound:
            raise ExperimentError(f"daily differences must lie within +-{self.bound:g}, not {difference}")
        predicted = self.total / self.days if self.days else 0.0
        return dataclasses.replace(
            self,
            days=self.days + 1,
            total=self.total + difference,
            variation=self.variation + (difference - predicted) ** 2,
        )

    def extend(self, differences: Iterable[float]) -> AverageSequence:
        """The state after more days."""
        state = self
        for difference in differences:
            state = state.update(difference)
        return state

    def interval(self, alpha: float) -> tuple[float, float]:
        """Bounds of the average conditional mean of the days so far; two-sided, ``alpha / 2`` each.

        They are not intersected with earlier ones: the average they speak of is another one each day.
        """
        if not self.days:
            return -self.bound, self.bound
        mean = self.total / self.days
        half = bernstein_radius(self.variation, alpha / 2, bound=self.bound, stakes=self.stakes) / self.days
        return max(mean - half, -self.bound), min(mean + half, self.bound)
