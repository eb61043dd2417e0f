"""Out-of-sample scores of a training with day-clustered intervals, and the check that a network answers at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from financial_assets.models.answers import Answers
from financial_assets.models.networks import QUANTILE_LEVELS
from financial_assets.scoring.intervals import Interval, day_clustered_mean

__all__ = ["ConstantCheck", "check_not_constant", "held_out_scores"]

_CONSTANT_DEVIATION = 1e-4


@dataclass(frozen=True)
class ConstantCheck:
    """Whether a network's answers vary.

    Attributes
    ----------
    constant
        True if probabilities or median returns hardly move: such a model must not be registered.
    probability_deviation, quantile_deviation
        Standard deviation of the uncalibrated probability, and the largest among the five multiples.
    share_up
        Share of answers "up" at one half. 0 or 1 is suspicious: the original system's double sigmoid always answered
        "up".
    """

    constant: bool
    probability_deviation: float
    quantile_deviation: float
    share_up: float


def check_not_constant(answers: Answers) -> ConstantCheck:
    """Look for a network that ignores its input, on answers it gave out of sample."""
    probability = 1.0 / (1.0 + np.exp(-answers.logit))
    deviation, quantiles = float(probability.std()), float(answers.multiples.std(axis=0).max())
    return ConstantCheck(
        constant=not (deviation > _CONSTANT_DEVIATION and quantiles > _CONSTANT_DEVIATION),
        probability_deviation=deviation,
        quantile_deviation=quantiles,
        share_up=float((answers.logit > 0).mean()),
    )


def held_out_scores(answers: Answers, level: float = 0.95) -> Mapping[str, Interval]:
    """Scores of the uncalibrated answers on the calibrate block, which the network never saw.

    ``accuracy`` and ``accuracy_minus_majority`` (shares), ``brier`` and ``log_loss`` (nats), ``pinball`` (mean over the
    levels, in units of volatility) and ``coverage_<level>`` (share of outcomes at or below the quantile).
    """
    up = answers.up.astype(np.float64)
    probability = 1.0 / (1.0 + np.exp(-answers.logit))
    majority = up if up.mean() >= 0.5 else 1.0 - up
    error = answers.scaled_return[:, None] - answers.multiples
    levels = np.asarray(QUANTILE_LEVELS)
    rows = {
        "accuracy": answers.correct.astype(np.float64),
        "accuracy_minus_majority": answers.correct - majority,
        "brier": (probability - up) ** 2,
        "log_loss": np.logaddexp(0.0, answers.logit) - up * answers.logit,
        "pinball": np.maximum(levels * error, (levels - 1.0) * error).mean(axis=1),
        **{
            f"coverage_{quantile:.0%}": (error[:, column] <= 0).astype(np.float64)
            for column, quantile in enumerate(QUANTILE_LEVELS)
        },
    }
    return {name: day_clustered_mean(values, answers.session, level=level) for name, values in rows.items()}
