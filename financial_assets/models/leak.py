"""The leak alarm: out-of-sample accuracy that is too good to be true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from financial_assets.models.answers import Answers
from financial_assets.scoring.intervals import Interval, day_clustered_proportion

__all__ = ["ALARM_ACCURACY", "ALARM_LOWER_BOUND", "LeakCheck", "check_answers", "leak_alarm"]

ALARM_ACCURACY = 0.60
"""Daily direction of liquid stocks is right 50-53 % of the time out of sample; 60 % needs an explanation first."""

ALARM_LOWER_BOUND = 0.55
"""What the lower confidence bound must exceed for the alarm: a lucky small sample is not a leak."""

_TWO_SIDED_LEVEL = 0.998
"""Its lower end is a one-sided 99.9 % bound."""


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
        alarm = accuracy.estimate >= ALARM_ACCURACY and accuracy.low > max(ALARM_LOWER_BOUND, majority_rate)
    else:
        alarm = accuracy.low > max(bayes_accuracy, majority_rate)
    return LeakCheck(alarm=bool(alarm), accuracy=accuracy, majority_rate=float(majority_rate))


def check_answers(answers: Answers, *, bayes_accuracy: float | None = None) -> LeakCheck:
    """The leak alarm on uncalibrated answers of a block that the network never saw; see ``leak_alarm``."""
    return leak_alarm(answers.correct, answers.session, answers.majority_rate, bayes_accuracy=bayes_accuracy)
