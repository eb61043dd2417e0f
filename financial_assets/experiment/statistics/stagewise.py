"""What a group-sequential test says when it has stopped: p-value, median-unbiased effect and interval.

The ordinary estimate at a boundary is too good: it was looked for. Outcomes are ordered by the look at which the test
stopped, earlier upper exits being more extreme, and by Z at one look (Siegmund 1978; Tsiatis, Rosner and Mehta 1984,
Biometrics 40; Jennison and Turnbull 2000, section 8.4). The order does not depend on looks that were not reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.group_sequential import GroupSequentialDesign, exit_probabilities

__all__ = ["StagewiseResult", "daily_z", "stagewise", "z_of_t"]

_FARTHEST_DRIFT = 30.0


@dataclass(frozen=True, slots=True)
class StagewiseResult:
    """Result at the look where a test stopped.

    Attributes
    ----------
    look
        Number of looks used.
    p_value
        One-sided, upper.
    estimate, low, high
        Median-unbiased drift (E Z at full information) and its two-sided interval. In units of the difference: times
        the standard error of the mean at full information.
    level
        Confidence of the interval.
    """

    look: int
    p_value: float
    estimate: float
    low: float
    high: float
    level: float


def daily_z(differences: ArrayLike, margin: float = 0.0) -> float:
    """Standardised mean of daily differences minus ``margin``: the normal deviate with the p-value of Student's t.

    The significance-level approach of Jennison and Turnbull (2000, section 3.8): boundaries that were made for a known
    variance are kept honest with few days.

    Raises
    ------
    ExperimentError
        With fewer than two days, or days that do not vary.
    """
    days = np.asarray(differences, np.float64)
    if days.ndim != 1 or days.size < 2 or not np.isfinite(days).all():
        raise ExperimentError("a look needs at least two finite daily differences")
    deviation = float(days.std(ddof=1))
    if deviation == 0:
        raise ExperimentError("the daily differences do not vary: both arms answer alike, there is nothing to test")
    return float(z_of_t((float(days.mean()) - margin) / (deviation / math.sqrt(days.size)), days.size - 1))


def z_of_t(t: ArrayLike, freedom: ArrayLike) -> NDArray[np.float64]:
    """Normal deviates with the p-values of Student's t."""
    tail = special.stdtr(freedom, -np.abs(np.asarray(t, np.float64)))  # the small tail: exact far out
    return np.copysign(-special.ndtri(tail), t)


def stagewise(design: GroupSequentialDesign, z: Sequence[float], level: float = 0.95) -> StagewiseResult:
    """Inference at the last look so far, which must be the one that crossed a boundary, or the last planned one.

    Parameters
    ----------
    design
        With the information fractions that were.
    z
        Z at each look so far.
    level
        Confidence of the interval.

    Raises
    ------
    ExperimentError
        When an earlier look had crossed, or nothing has and looks are left: the test is still going on.
    """
    _check_stopped(design, z)
    fractions, upper = design.fractions[: len(z)], [*design.upper[: len(z) - 1], float(z[-1])]
    lower = None if design.lower is None else [*design.lower[: len(z) - 1], -math.inf]

    def at_least(drift: float) -> float:
        """Probability of an outcome at least as extreme upwards."""
        exits = exit_probabilities(fractions, upper, lower, drift)
        return math.fsum(exits.upper)

    tail = (1 - level) / 2
    return StagewiseResult(
        look=len(z),
        p_value=at_least(0.0),
        estimate=_solve(at_least, 0.5),
        low=_solve(at_least, tail),
        high=_solve(at_least, 1 - tail),
        level=level,
    )


def _solve(probability: Callable[[float], float], target: float) -> float:
    root: Any = optimize.brentq(lambda drift: probability(drift) - target, -_FARTHEST_DRIFT, _FARTHEST_DRIFT, xtol=1e-9)
    return float(root)


def _check_stopped(design: GroupSequentialDesign, z: Sequence[float]) -> None:
    if not 1 <= len(z) <= len(design.upper):
        raise ExperimentError(f"the design has {len(design.upper)} looks, {len(z)} values were given")
    crossed = [
        value >= bound or (design.sides == 2 and value <= -bound) for value, bound in zip(z, design.upper, strict=False)
    ]
    if any(crossed[:-1]):
        raise ExperimentError(f"the test had stopped at look {crossed.index(True) + 1}: later looks do not count")
    if not crossed[-1] and len(z) < len(design.upper):
        raise ExperimentError("no boundary has been crossed and looks are left: the test goes on")
