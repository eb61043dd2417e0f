"""Whether the answers of every head vary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from financial_assets.models.answers import Answers
from financial_assets.models.heads import HEADS

_CONSTANT_DEVIATION = 1e-4

_CONSTANT_EXCESS = 1e-3
"""Standard deviation, in units of volatility, below which excess returns are rounding."""


@dataclass(frozen=True)
class ConstantCheck:
    """Whether a network's answers vary.

    Attributes
    ----------
    constant_heads
        Heads whose answers hardly move.
    probability_deviation, score_deviation
        Standard deviation of the uncalibrated probability, and of the score in units of volatility.
    quantile_deviation, quantile_5d_deviation
        The largest standard deviation among the five multiples.
    share_up
        Share of answers "up" at one half. 0 or 1 is suspicious: the original system's double sigmoid always answered
        "up".
    """

    constant_heads: tuple[str, ...]
    probability_deviation: float
    quantile_deviation: float
    quantile_5d_deviation: float
    score_deviation: float
    share_up: float

    @property
    def constant(self) -> bool:
        """True if a head hardly moves: such a model must not be registered."""
        return bool(self.constant_heads)


def check_not_constant(answers: Answers) -> ConstantCheck:
    """Look for a network that ignores its input, on answers it gave out of sample."""
    probability = 1.0 / (1.0 + np.exp(-answers.logit))
    columns = (probability[:, None], answers.multiples, answers.multiples_5d, answers.score[:, None])
    deviations = [float(column.std(axis=0).max()) for column in columns]
    # The one ticker of a universe is its own market: nothing is left to be ranked.
    asked = HEADS if answers.excess.std() > _CONSTANT_EXCESS else HEADS[:-1]
    constant = [name for name, deviation in zip(HEADS, deviations, strict=True) if not deviation > _CONSTANT_DEVIATION]
    return ConstantCheck(
        tuple(name for name in constant if name in asked), *deviations, share_up=float((answers.logit > 0).mean())
    )
