"""The leak alarm: out-of-sample answers that are too good to be true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from financial_assets.models.answers import Answers
from financial_assets.models.heads import HEADS, QUANTILE_LEVELS
from financial_assets.models.scores.held_out import independent_blocks, rank_correlations
from financial_assets.scoring.intervals import (
    Interval,
    day_clustered_mean,
    day_clustered_proportion,
    day_jackknife_of_sums,
)
from financial_assets.scoring.quantiles import mean_pinball_losses

_ALARM_ACCURACY = 0.60
"""Daily direction of liquid stocks is right 50-53 % of the time out of sample; 60 % needs an explanation first."""

_ALARM_LOWER_BOUND = 0.55
"""What the lower confidence bound must exceed for the alarm: a lucky small sample is not a leak."""

_TWO_SIDED_LEVEL = 0.998
"""Its lower end is a one-sided 99.9 % bound."""

_ALARM_SKILL, _SKILL_BOUND = 0.15, 0.10
"""As above, of the pinball loss that outer quantiles save; an honest network saves a few per cent."""

_OUTER_LEVELS = tuple(level for level in QUANTILE_LEVELS if level != 0.5)
"""The median is judged as a direction; of the loss of all five it is two thirds, whatever the others know."""

_ALARM_CORRELATION, _CORRELATION_BOUND = 0.20, 0.10
"""As above, of the mean rank correlation of a session; of good signals it is 0.02 to 0.05."""

_ADVICE = "Look for the label among the inputs before anything is served"


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
            return f"leak alarm: {figures}. {_ADVICE}"
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


@dataclass(frozen=True)
class HeadCheck:
    """One measure of one head, held against what is believed of it.

    Attributes
    ----------
    head
        Name from ``HEADS``.
    measure
        What was measured, in words.
    value
        Estimate; ``low`` is the one-sided 99.9 % bound.
    alarm
        True blocks the run.
    """

    head: str
    measure: str
    value: Interval
    alarm: bool

    def __str__(self) -> str:
        return (
            f"{self.head} head: {self.measure} {self.value.estimate:.1%} on {self.value.observations} rows, "
            f"99.9 % lower bound {self.value.low:.1%}"
        )


@dataclass(frozen=True)
class LeakChecks:
    """The leak alarm of every head.

    Attributes
    ----------
    direction
        Of the probability.
    others
        Of the other heads, each by one measure or more.
    """

    direction: LeakCheck
    others: tuple[HeadCheck, ...]

    @property
    def alarm(self) -> bool:
        """True blocks the run."""
        return bool(self.heads)

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that know too much."""
        named = [HEADS[0]] if self.direction.alarm else []
        return tuple(dict.fromkeys([*named, *(check.head for check in self.others if check.alarm)]))

    @property
    def accuracy(self) -> Interval:
        """Of the direction, see ``LeakCheck``."""
        return self.direction.accuracy

    def __str__(self) -> str:
        found = [str(check) for check in self.others if check.alarm]
        if self.direction.alarm or not found:
            return "; ".join([str(self.direction), *found])
        return f"leak alarm: {'; '.join(found)}. {_ADVICE}"


def check_answers(answers: Answers, *, bayes_accuracy: float | None = None) -> LeakChecks:
    """The leak alarm of every head, on uncalibrated answers of a block that the network never saw.

    Directions are judged by their accuracy, see ``leak_alarm``: that of the probability, of the medians of both
    horizons, and of the score, whose outcome is the sign of the excess return. Outer quantiles are judged by their
    skill: how much less their pinball loss is than that of the best constant multiples in hindsight, which know nothing
    but the volatility. A leak of the size of the next move shows there, though it says nothing of the direction. The
    score is also judged by its rank correlations, where sessions have enough tickers. The alarm sounds at a skill of
    15 %, and at a mean rank correlation of 0.2, where a one-sided 99.9 % bound exceeds 10 % and 0.1: what is honestly
    found in daily prices is a tenth of that.

    Where the best possible accuracy is known, the bounds are held against what it makes possible instead; that of the
    skill is not below 10 %, since whoever cannot know the direction may still know the volatility.

    Parameters
    ----------
    answers
        Uncalibrated.
    bayes_accuracy
        What the best possible predictor gets right; known for a simulated market only.
    """
    weeks = independent_blocks(answers.session)
    one, five = answers.scaled_return, answers.scaled_return_5d
    middle = QUANTILE_LEVELS.index(0.5)
    signs = (
        ("quantiles", "accuracy of the median", answers.multiples[:, middle], one, answers.session),
        ("quantiles_5d", "accuracy of the median", answers.multiples_5d[:, middle], five, weeks),
        ("score", "accuracy of the sign", answers.score, answers.excess, answers.session),
    )
    others = [_of_sign(*sign, bayes_accuracy) for sign in signs]
    others.append(_of_skill("quantiles", answers.multiples, one, answers.session, bayes_accuracy))
    others.append(_of_skill("quantiles_5d", answers.multiples_5d, five, weeks, bayes_accuracy))
    ranked = rank_correlations(answers)
    if len(ranked) > 1:
        value = day_clustered_mean(ranked, np.arange(len(ranked)), _TWO_SIDED_LEVEL)
        # A signal that gives the right direction with probability p has a correlation of at most 2 p - 1 with it.
        most = None if bayes_accuracy is None else 2.0 * bayes_accuracy - 1.0
        alarm = _too_much(value, _ALARM_CORRELATION, _CORRELATION_BOUND, most)
        others.append(HeadCheck("score", "mean rank correlation", value, alarm))
    direction = leak_alarm(answers.correct, answers.session, answers.majority_rate, bayes_accuracy=bayes_accuracy)
    return LeakChecks(direction, tuple(others))


def _of_sign(
    head: str,
    measure: str,
    predicted: np.ndarray,
    outcome: np.ndarray,
    days: np.ndarray,
    bayes_accuracy: float | None,
) -> HeadCheck:
    up = outcome > 0
    share = float(up.mean())
    check = leak_alarm((predicted > 0) == up, days, max(share, 1.0 - share), bayes_accuracy=bayes_accuracy)
    return HeadCheck(head, measure, check.accuracy, check.alarm)


def _of_skill(
    head: str, multiples: np.ndarray, scaled: np.ndarray, days: np.ndarray, bayes_accuracy: float | None
) -> HeadCheck:
    constant = np.broadcast_to(np.quantile(scaled, _OUTER_LEVELS), (len(scaled), len(_OUTER_LEVELS)))
    outer = multiples[:, np.isin(QUANTILE_LEVELS, _OUTER_LEVELS)]
    losses = np.stack([mean_pinball_losses(scaled, each, _OUTER_LEVELS) for each in (outer, constant)], axis=1)
    value = day_jackknife_of_sums(lambda sums: 1.0 - sums[:, 0] / sums[:, 1], losses, days, _TWO_SIDED_LEVEL)
    # Of a simulated market too the size of moves is known in part, from its volatility, and by none exactly.
    most = None if bayes_accuracy is None else max(attainable_skill(scaled, bayes_accuracy), _SKILL_BOUND)
    return HeadCheck(head, "skill of the outer quantiles", value, _too_much(value, _ALARM_SKILL, _SKILL_BOUND, most))


def _too_much(value: Interval, alarming: float, bound: float, most: float | None) -> bool:
    if most is None:
        return value.estimate >= alarming and value.low > bound
    return value.low > most


def attainable_skill(scaled: np.ndarray, accuracy: float) -> float:
    """Skill of the best outer quantiles that know the direction with some probability, and the size of no move.

    Parameters
    ----------
    scaled
        Outcomes ``[n]`` in units of volatility; their sizes are those that occur.
    accuracy
        Probability of the direction.

    Returns
    -------
    float
        Pinball loss saved, as a share of that of quantiles that do not know the direction.
    """
    sizes = np.abs(scaled)
    moves = np.concatenate([sizes, -sizes])
    order = np.argsort(moves, kind="stable")

    def loss(probability: float) -> float:
        weight = np.repeat([probability, 1.0 - probability], len(sizes)) / len(sizes)
        places = np.searchsorted(weight[order].cumsum(), _OUTER_LEVELS).clip(max=len(moves) - 1)
        best = np.broadcast_to(moves[order][places], (len(moves), len(places)))
        return float(weight @ mean_pinball_losses(moves, best, _OUTER_LEVELS))

    return 1.0 - loss(accuracy) / loss(0.5)
