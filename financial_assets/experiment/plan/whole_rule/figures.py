"""What a plan says of its whole rule: how often it promotes, how long it takes, and what each condition costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WholeRulePower:
    """The rule of a plan over simulated tests, with all of its conditions.

    Attributes
    ----------
    effects
        True differences: none, half of the plausible effect, the plausible effect, twice that.
    promoted
        Share of the tests in which the challenger is promoted ``[effect]``.
    days
        Mean days until a test ends ``[effect]``.
    prices
        Condition -> points of promotion probability that it costs at the plausible effect, in [0, 1].
    detectable
        The difference that is promoted with the plan's power; the largest that was tried if none is.
    worlds, seed
        Simulated tests of each effect, and the seed of all random numbers.
    basis
        Where the days come from, in words.
    """

    effects: tuple[float, ...]
    promoted: tuple[float, ...]
    days: tuple[float, ...]
    prices: Mapping[str, float]
    detectable: float
    worlds: int
    seed: int
    basis: str
