"""Asymptotic confidence sequence: for scores without a bound (log loss, pinball, P&L), and labelled as such.

Log and pinball losses and returns have no bound that could be bet against. Two honest ways are left: clip the daily
difference at a size named in the plan, and test the mean of the *clipped* difference with :mod:`.betting`; or this
sequence, whose promise holds only in the limit of many days, as that of the usual t interval does, but for all looks at
once (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Time-uniform central limit theory and asymptotic confidence
sequences, Ann. Stat. 52, arXiv 2103.06476, theorem 2.2). It asks for days that are independent, or differences that
are unpredictable, and of finite variance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.errors import ExperimentError

__all__ = ["AsymptoticSequence", "Clipping", "asymptotic_radius", "precision_for"]


@dataclass(frozen=True, slots=True)
class Clipping:
    """The pre-registered clipping of a daily difference to ``[-limit, limit]``.

    What is tested afterwards is the mean of the clipped difference, which is not the mean of the difference: say so
    beside the result, with the share of days clipped.
    """

    limit: float

    def __post_init__(self) -> None:
        if not 0 < self.limit < math.inf:
            raise ExperimentError(f"the clipping limit must be positive and finite, not {self.limit}")

    def __call__(self, differences: ArrayLike) -> NDArray[np.float64]:
        """Clipped differences; ``ExperimentError`` for NaN. An infinite loss is clipped like a large one."""
        days = np.asarray(differences, np.float64)
        if np.isnan(days).any():
            raise ExperimentError("a missing daily difference cannot be clipped")
        return np.clip(days, -self.limit, self.limit)


def precision_for(days: float, alpha: float) -> float:
    """The tuning ``rho`` with which a two-sided sequence is narrowest about this many days (ibid., appendix B.2)."""
    if not (days > 0 and 0 < alpha < 1):
        raise ExperimentError(f"need days > 0 and alpha in (0, 1): {days}, {alpha}")
    twice = -2 * math.log(alpha)
    return math.sqrt((twice + math.log(twice + 1)) / days)


def asymptotic_radius(days: ArrayLike, alpha: float, rho: float) -> NDArray[np.float64]:
    """Half width of the two-sided sequence in standard deviations of a day.

    Parameters
    ----------
    days
        Days seen, any shape.
    alpha
        Error rate over all looks.
    rho
        Tuning, see :func:`precision_for`.
    """
    if not (0 < alpha < 1 and rho > 0):
        raise ExperimentError(f"need alpha in (0, 1) and rho > 0: {alpha}, {rho}")
    t = np.asarray(days, np.float64)
    growth = t * rho**2 + 1
    return np.sqrt(2 * growth / (t * rho) ** 2 * np.log(np.sqrt(growth) / alpha))


@dataclass(frozen=True, slots=True)
class AsymptoticSequence:
    """State of the sequence, fed one day at a time (mean and variance by Welford's recursion).

    Attributes
    ----------
    rho
        Tuning, named in the plan: :func:`precision_for` of the planned horizon.
    fewest
        Days before which nothing is concluded: the interval is infinite.
    days, mean, squares
        Days seen, their mean, and the sum of squared deviations from it.
    """

    rho: float
    fewest: int = 50
    days: int = 0
    mean: float = 0.0
    squares: float = 0.0

    label = "asymptotic"

    def update(self, difference: float) -> AsymptoticSequence:
        """The state one day later."""
        if not math.isfinite(difference):
            raise ExperimentError(f"daily differences must be finite, not {difference}")
        days = self.days + 1
        off = difference - self.mean
        mean = self.mean + off / days
        return dataclasses.replace(self, days=days, mean=mean, squares=self.squares + off * (difference - mean))

    def extend(self, differences: Iterable[float]) -> AsymptoticSequence:
        """The state after more days."""
        state = self
        for difference in differences:
            state = state.update(difference)
        return state

    def interval(self, alpha: float) -> tuple[float, float]:
        """Two-sided confidence sequence today; infinite before ``fewest`` days."""
        if self.days < max(self.fewest, 2):
            return -math.inf, math.inf
        deviation = math.sqrt(self.squares / (self.days - 1))
        half = deviation * float(asymptotic_radius(self.days, alpha, self.rho))
        return self.mean - half, self.mean + half
