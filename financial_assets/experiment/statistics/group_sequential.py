"""Planned looks: boundaries that spend the error rate as information accrues (Lan and DeMets 1983, Biometrika 70).

A test that looks at chosen days only, up to a known horizon, needs hardly more days than one look at the end would
(about 2 % with this spending, which is that of O'Brien and Fleming's boundaries), where a test that may stop on any day
needs more than half as many again.

``Z_k``, the standardised mean difference at information fraction ``t_k``, has in the limit the joint law of
``B(t_k) / sqrt(t_k)`` with ``B`` a Brownian motion of drift theta: E Z at the full horizon. Probabilities of leaving at
each look come from the recursion of Armitage, McPherson and Rowe (1969, JRSS-A 132), by Gauss-Legendre quadrature over
what remains inside (Jennison and Turnbull 2000, Group Sequential Methods, chapter 19). Information fractions may be
unequal and need not be known beforehand: a boundary depends on those up to its own look only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from financial_assets.errors import ExperimentError

_TAIL = 9.0  # standard deviations beyond which nothing is integrated: 1e-19
_NODES_PER_DEVIATION = 4.0  # of one step's increment; the kernel is smooth, 3 already give 1e-9
_FEWEST_NODES = 96
_quadrature = cache(np.polynomial.legendre.leggauss)


def spent(fraction: float, alpha: float) -> float:
    """Error rate of one side that may be spent up to an information fraction: ``2 - 2 Phi(z_(alpha/2) / sqrt(t))``.

    Source: Lan and DeMets, alpha star 1, which gives boundaries like those of O'Brien and Fleming.
    """
    if not (0 <= fraction <= 1 and 0 < alpha < 1):
        raise ExperimentError(f"information fraction must lie in [0, 1], alpha in (0, 1): {fraction}, {alpha}")
    return 2 * float(special.ndtr(special.ndtri(alpha / 2) / math.sqrt(fraction))) if fraction else 0.0


@dataclass(frozen=True, slots=True)
class Exit:
    """Probability of leaving through the upper and the lower boundary at each look ``[look]``."""

    upper: tuple[float, ...]
    lower: tuple[float, ...]


class _Inside:
    """The part of the Brownian motion that has not left yet: quadrature nodes with density times weight."""

    def __init__(self, drift: float) -> None:
        self.drift, self.time = drift, 0.0
        self.nodes, self.mass = np.zeros(1), np.ones(1)

    def above(self, time: float, z: float) -> float:
        """Probability of being above ``z`` at a later time."""
        return float(self.mass @ special.ndtr(-self._standardised(time, z * math.sqrt(time))))

    def below(self, time: float, z: float) -> float:
        """Probability of being below ``z`` at a later time."""
        return float(self.mass @ special.ndtr(self._standardised(time, z * math.sqrt(time))))

    def step(self, time: float, lower: float, upper: float) -> None:
        """Go on to ``time`` with what stays between the z-values ``lower`` and ``upper``."""
        # Armitage, McPherson and Rowe (1969): the density at this look is that of the look before, restricted to what
        # stayed inside, convolved with the normal increment. In units of the score B(t) = Z sqrt(t) increments are
        # independent, which Z's are not. A boundary may be infinite: beyond nine deviations nothing is integrated.
        root, step = math.sqrt(time), math.sqrt(time - self.time)
        low = max(lower * root, self.drift * time - _TAIL * root)
        high = min(upper * root, self.drift * time + _TAIL * root)
        if not low < high:  # nothing to speak of stays
            self.time, self.nodes, self.mass = time, np.array([self.drift * time]), np.zeros(1)
            return
        # Nodes by the width in deviations of the increment: the kernel is that narrow, however wide the region is.
        count = max(_FEWEST_NODES, math.ceil(_NODES_PER_DEVIATION * (high - low) / step))
        unit, weight = _quadrature(count)
        nodes = low + (high - low) * (unit + 1) / 2
        away = (nodes[:, None] - self.nodes - self.drift * (time - self.time)) / step
        density = np.exp(-(away**2) / 2) @ self.mass / (math.sqrt(2 * math.pi) * step)
        # Density times quadrature weight, so that every later integral is a plain sum over the nodes.
        self.time, self.nodes, self.mass = time, nodes, density * weight * (high - low) / 2

    def _standardised(self, time: float, place: float) -> NDArray[np.float64]:
        ahead = time - self.time
        return (place - self.nodes - self.drift * ahead) / math.sqrt(ahead)


def exit_probabilities(
    fractions: Sequence[float], upper: Sequence[float], lower: Sequence[float], drift: float = 0.0
) -> Exit:
    """Probabilities of leaving at each look.

    Parameters
    ----------
    fractions
        Information fractions ``[look]``, rising, in (0, 1].
    upper, lower
        Boundaries of Z at each look.
    drift
        E Z at full information.
    """
    times = _fractions(fractions)
    if not len(times) == len(upper) == len(lower):
        raise ExperimentError("each look needs one information fraction and one boundary per side")
    inside, up, down = _Inside(drift), list[float](), list[float]()
    for time, top, bottom in zip(times, upper, lower, strict=True):
        up.append(inside.above(time, top))
        down.append(inside.below(time, bottom))
        inside.step(time, bottom, top)
    return Exit(tuple(up), tuple(down))


@dataclass(frozen=True, slots=True)
class GroupSequentialDesign:
    """Two-sided boundaries of planned looks; :meth:`of` makes them.

    Attributes
    ----------
    alpha
        Two-sided error rate in total.
    fractions
        Information fractions of the looks.
    upper
        Boundaries of Z; the design stops below minus them as well.
    spent
        Cumulative error rate of the upper side at each look.
    """

    alpha: float
    fractions: tuple[float, ...]
    upper: tuple[float, ...]
    spent: tuple[float, ...]

    @classmethod
    def of(cls, fractions: Sequence[float], alpha: float) -> GroupSequentialDesign:
        """Boundaries for looks at these information fractions.

        When a look came on another day than planned, call it again with the fractions that were: earlier boundaries
        stay as they are. The fractions must then not have been chosen by the results.
        """
        times = _fractions(fractions)
        used = [spent(time, alpha / 2) for time in times]
        inside, upper = _Inside(0.0), list[float]()
        for time, increment in zip(times, np.diff([0.0, *used]), strict=True):
            upper.append(_boundary(inside, time, float(increment)))
            inside.step(time, -upper[-1], upper[-1])
        return cls(alpha, tuple(times), tuple(upper), tuple(used))

    def exits(self, drift: float) -> Exit:
        """Exit probabilities under a drift."""
        return exit_probabilities(self.fractions, self.upper, [-z for z in self.upper], drift)

    def power(self, drift: float) -> float:
        """Probability of crossing the upper boundary at some look."""
        return math.fsum(self.exits(drift).upper)

    def drift_for(self, power: float) -> float:
        """The drift that crosses the upper boundary with this probability."""
        if not self.alpha / 2 < power < 1:
            raise ExperimentError(f"power must lie between the error rate and 1, not {power}")
        return _root(lambda drift: self.power(drift) - power, 0.0, 20.0)


def _boundary(inside: _Inside, time: float, increment: float) -> float:
    if increment < 1e-15:  # less than the quadrature can see: no stopping at this look
        return math.inf
    return _root(lambda z: inside.above(time, z) - increment, -_TAIL, _TAIL)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    root: Any = optimize.brentq(function, low, high, xtol=1e-12)
    return float(root)


def _fractions(fractions: Sequence[float]) -> list[float]:
    times = [float(t) for t in fractions]
    if not times or times[0] <= 0 or times[-1] > 1 or any(b <= a for a, b in itertools.pairwise(times)):
        raise ExperimentError(f"information fractions must rise within (0, 1], not {times}")
    return times


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
