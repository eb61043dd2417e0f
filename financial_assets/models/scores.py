"""What out-of-sample answers say of a network: scores by the day, whether it answers at all, and the leak alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from financial_assets.models.answers import Answers
from financial_assets.models.networks import QUANTILE_LEVELS
from financial_assets.scoring.intervals import Interval, day_clustered_mean, day_clustered_proportion

_ALARM_ACCURACY = 0.60
"""Daily direction of liquid stocks is right 50-53 % of the time out of sample; 60 % needs an explanation first."""

_ALARM_LOWER_BOUND = 0.55
"""What the lower confidence bound must exceed for the alarm: a lucky small sample is not a leak."""

_TWO_SIDED_LEVEL = 0.998
"""Its lower end is a one-sided 99.9 % bound."""

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


@dataclass(frozen=True)
class LeakCheck:
    """Verdict of the leak alarm.

    Attributes
    ----------
    alarm
        True blocks the run.
    accuracy
        Day-clustered estimate; ``low`` is the one-sided 99.9 % bound.
    majority_rate
        Accuracy of the best constant answer on the same rows.
    """

    alarm: bool
    accuracy: Interval
    majority_rate: float

    def __str__(self) -> str:
        accuracy = self.accuracy
        figures = (
            f"out-of-sample accuracy {accuracy.estimate:.1%} on {accuracy.observations} rows of {accuracy.days} days, "
            f"99.9 % lower bound {accuracy.low:.1%}, majority class {self.majority_rate:.1%}"
        )
        if self.alarm:
            return f"leak alarm: {figures}. Look for the label among the inputs before anything is served"
        return f"no leak alarm: {figures}"


def leak_alarm(
    correct: np.ndarray, days: np.ndarray, majority_rate: float, *, bayes_accuracy: float | None = None
) -> LeakCheck:
    """Judge out-of-sample answers.

    The alarm sounds if accuracy is at least 60 % *and* its day-clustered one-sided 99.9 % lower bound exceeds both 55 %
    and the majority rate. Where the best possible accuracy is known, the bound is held against that instead. The unit
    of evidence is the day: stocks move together, so rows of one day are nearly one observation. The bound is that of a
    proportion: a lucky first few days, all right, have no spread that could be measured, and prove nothing.

    Parameters
    ----------
    correct
        bool ``[n]``: whether each answer was right.
    days
        ``[n]``: the session of each answer.
    majority_rate
        Share of the commoner class among the same rows.
    bayes_accuracy
        What the best possible predictor gets right; known for a simulated market only.
    """
    accuracy = day_clustered_proportion(np.asarray(correct, dtype=np.float64), days, level=_TWO_SIDED_LEVEL)
    if bayes_accuracy is None:
        alarm = accuracy.estimate >= _ALARM_ACCURACY and accuracy.low > max(_ALARM_LOWER_BOUND, majority_rate)
    else:
        alarm = accuracy.low > max(bayes_accuracy, majority_rate)
    return LeakCheck(alarm=bool(alarm), accuracy=accuracy, majority_rate=float(majority_rate))


def check_answers(answers: Answers, *, bayes_accuracy: float | None = None) -> LeakCheck:
    """The leak alarm on uncalibrated answers of a block that the network never saw; see ``leak_alarm``."""
    return leak_alarm(answers.correct, answers.session, answers.majority_rate, bayes_accuracy=bayes_accuracy)
