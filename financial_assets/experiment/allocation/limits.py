"""From the share that an arm deserves to the weight that it may have: whole numbers, bounded, in small steps.

All weights are percentage points that add up to 100. Limits are a matter of safety and of honesty: a floor keeps every
arm's propensity away from zero, without which nothing can be inferred from routed requests; the step keeps one odd day
from moving the traffic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from financial_assets.errors import ExperimentError

TOTAL = 100
SMALLEST_FLOOR = 10
"""Below a propensity of a tenth, inference after adaptive allocation gets bad even where it is right."""

Weights = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What weights may be.

    Attributes
    ----------
    floor, cap
        Smallest and largest weight of an arm. With k arms no weight exceeds ``100 - (k - 1) * floor`` either.
    step
        Most by which any weight moves at once.
    hold
        Sessions that weights stay at least: one label cycle (1 for direction, 2 for P&L from open to open).
    hysteresis
        Weights stay while no arm's ideal weight is this far from what it has.
    """

    floor: int = 10
    cap: int = 90
    step: int = 10
    hold: int = 1
    hysteresis: int = 3

    def __post_init__(self) -> None:
        floor = self.floor if type(self.floor) is int else 0
        for name, low, high in (
            ("floor", SMALLEST_FLOOR, TOTAL // 2),
            ("cap", floor, TOTAL - floor),
            ("step", 1, 10),
            ("hold", 1, None),
            ("hysteresis", 0, TOTAL),
        ):
            value = getattr(self, name)
            if type(value) is not int or value < low or (high is not None and value > high):
                allowed = f"{low} session or more, a label cycle" if high is None else f"{low} to {high}"
                raise ExperimentError(f"allocation {name} is {value!r}; allowed: a whole number, {allowed}")

    def check(self, weights: Sequence[int]) -> Weights:
        """``weights`` when they obey floor and cap and add up to 100.

        Raises
        ------
        ExperimentError
            Names the rule that they break, or says that so many arms do not fit between floor and cap.
        """
        arms = len(weights)
        if arms < 2 or arms * self.floor > TOTAL or arms * self.cap < TOTAL:
            raise ExperimentError(
                f"{arms} arms do not fit weights from {self.floor} to {self.cap} that add up to {TOTAL}: "
                "change the allocation's floor or cap, or the number of arms"
            )
        if any(type(weight) is not int for weight in weights) or sum(weights) != TOTAL:
            raise ExperimentError(f"weights {tuple(weights)} are not whole numbers that add up to {TOTAL}")
        if min(weights) < self.floor or max(weights) > self.cap:
            raise ExperimentError(
                f"weights {tuple(weights)} leave the allocation's floor {self.floor} or cap {self.cap}"
            )
        return tuple(weights)

    def ideal(self, shares: Sequence[float]) -> Weights:
        """The weights nearest to ``shares`` within floor and cap, from wherever the weights are now."""
        return _nearest(shares, [self.floor] * len(shares), [self.cap] * len(shares))

    def move(self, now: Weights, shares: Sequence[float]) -> Weights:
        """The weights that come next: nearest to ``shares`` within floor, cap and one step; ``now`` by hysteresis."""
        wanted = self.ideal(shares)
        if max(abs(to - at) for to, at in zip(wanted, now, strict=True)) < self.hysteresis:
            return now
        low = [max(self.floor, at - self.step) for at in now]
        high = [min(self.cap, at + self.step) for at in now]
        return _nearest(shares, low, high)


def _nearest(shares: Sequence[float], low: Sequence[int], high: Sequence[int]) -> Weights:
    """Whole numbers between ``low`` and ``high`` that add up to 100 and are nearest to ``100 * shares``.

    The Euclidean projection onto the bounded simplex is ``clip(100 * shares + tau, low, high)`` for the one tau that
    gives the sum; what rounding leaves goes to the largest remainders, the earlier arm first.
    """
    if not all(math.isfinite(share) for share in shares):
        raise ExperimentError(f"shares {tuple(shares)} are not finite")
    points = [TOTAL * share for share in shares]

    def shifted(tau: float) -> list[float]:
        return [min(max(p + tau, lo), hi) for p, lo, hi in zip(points, low, high, strict=True)]

    # The sum rises with tau, in straight lines between the places where an arm reaches a bound.
    corners = sorted(bound - p for p, lo, hi in zip(points, low, high, strict=True) for bound in (lo, hi))
    below = above = (corners[0], math.fsum(shifted(corners[0])))
    for tau in corners[1:]:
        if below[1] <= TOTAL <= above[1] and above[1] > below[1]:
            break
        below, above = above, (tau, math.fsum(shifted(tau)))
    rise = above[1] - below[1]
    exact = shifted(below[0] + (above[0] - below[0]) * ((TOTAL - below[1]) / rise if rise > 0 else 1.0))
    whole = [min(max(math.floor(value + 1e-9), lo), hi) for value, lo, hi in zip(exact, low, high, strict=True)]
    by_remainder = sorted(range(len(whole)), key=lambda arm: (whole[arm] - exact[arm], arm))
    missing = TOTAL - sum(whole)
    for arm in by_remainder:
        if missing > 0 and whole[arm] < high[arm]:
            whole[arm] += 1
            missing -= 1
    return tuple(whole)
