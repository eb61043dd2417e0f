"""What another allocation would have earned, estimated from a log whose propensities are known.

Three estimates of a target policy's mean reward, each with an interval clustered by day. They agree where they should;
where they do not, the log cannot carry the question.

- inverse propensity (IPS): unbiased, wild where the target does what the log rarely did (Horvitz and Thompson 1952);
- self-normalised (SNIPS): weights are divided by their sum; slightly biased, calmer (Swaminathan and Joachims 2015, The
  self-normalized estimator for counterfactual learning);
- doubly robust (DR): a reward model, corrected where the log shows it to be wrong; unbiased as long as the propensities
  are right and the model was not made from the rows that it is corrected with (Dudik, Langford and Li 2011, Doubly
  robust policy evaluation and learning).

Refused rather than estimated: rows without overlap, weights beyond a bound, too small an effective sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from financial_assets.errors import ExperimentError
from financial_assets.scoring.distributions import student_t_quantile
from financial_assets.scoring.intervals import Interval, day_clustered_mean

_ROUNDING = 1e-9
# An estimate is refused beyond these.
MAX_WEIGHT = 10.0
"""Largest ratio of target probability and propensity: what a floor of a tenth allows."""
MIN_EFFECTIVE, MIN_DAYS = 100.0, 20
"""Smallest effective sample in rows, and fewest days."""


@dataclass(frozen=True, slots=True, eq=False)
class LoggedRewards:
    """Rewards of routed requests, with what the log knows of how they were routed.

    Attributes
    ----------
    session
        Day of each row ``[n]``, anything that can be ordered.
    arm
        Arm that the row was routed to ``[n]``, from 0.
    reward
        Its reward ``[n]``.
    propensity
        Probability of every arm for the row, fixed before it was routed ``[n, arm]``.
    inclusion
        Probability that the row was requested at all ``[n]``; ``None``: every row was. A row then stands for
        ``1 / inclusion`` of those that could have been requested (Horvitz and Thompson 1952).
    """

    session: NDArray[Any]
    arm: NDArray[np.intp]
    reward: NDArray[np.float64]
    propensity: NDArray[np.float64]
    inclusion: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        rows = len(self.reward)
        if self.reward.ndim != 1 or not rows:
            raise ExperimentError("logged rewards must be a list of at least one row")
        if self.session.shape != (rows,) or self.arm.shape != (rows,):
            raise ExperimentError(f"sessions {self.session.shape} and arms {self.arm.shape} must match {rows} rewards")
        if not np.isfinite(self.reward).all():
            raise ExperimentError("logged rewards hold NaN or infinite values: a failed request needs a reward too")
        _check_policy("propensity", self.propensity, rows)
        if self.arm.min() < 0 or self.arm.max() >= self.propensity.shape[1]:
            raise ExperimentError(f"arms must be 0 to {self.propensity.shape[1] - 1}")
        if self.inclusion is not None and not (
            self.inclusion.shape == (rows,) and np.all((self.inclusion > 0) & (self.inclusion <= 1))
        ):
            raise ExperimentError(f"inclusion must hold a probability above 0 for each of {rows} rows")
        impossible = int(np.count_nonzero(self.taken(self.propensity) <= 0))
        if impossible:
            raise ExperimentError(
                f"{impossible} rows went to an arm whose logged propensity is zero: assignment or log is broken (SRM)"
            )

    def taken(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The column of the arm that each row went to ``[n]``."""
        return values[np.arange(len(self.arm)), self.arm]

    @property
    def stands_for(self) -> NDArray[np.float64] | None:
        """How many requests each row stands for, over the mean of all ``[n]``; ``None`` where all are alike."""
        if self.inclusion is None or bool(np.all(self.inclusion == self.inclusion[0])):
            return None
        inverse = 1 / self.inclusion
        return inverse / float(inverse.mean())

    def mean(self, values: NDArray[np.float64], level: float) -> Interval:
        """Mean of ``values`` ``[n]`` over all that could have been requested, with its day-clustered interval."""
        rows = self.stands_for
        if rows is None:
            return day_clustered_mean(values, self.session, level)
        estimate = float(np.sum(rows * values) / np.sum(rows))
        # A ratio of two sums: its linear part has the same mean, and moves as the ratio does when a day is left out.
        return day_clustered_mean(estimate + rows * (values - estimate), self.session, level)

    @property
    def days(self) -> int:
        """Distinct sessions."""
        return int(np.unique(self.session).size)


def effective_sample_size(weights: NDArray[np.float64]) -> float:
    """Rows of equal weight that say as much: ``(sum w)^2 / sum w^2`` (Kish 1965); 0 without weight."""
    squares = float(np.sum(weights**2))
    return float(np.sum(weights)) ** 2 / squares if squares > 0 else 0.0


def ips(log: LoggedRewards, target: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Inverse-propensity estimate of the mean reward of ``target``.

    Parameters
    ----------
    log
        What was routed.
    target
        Probability of every arm under the policy in question ``[n, arm]``, which must not have been chosen by looking
        at these rewards.
    level
        Confidence of the interval.

    Raises
    ------
    ExperimentError
        Refused: no overlap, a weight out of bounds, too small an effective sample, too few days.
    """
    weights = _weights(log, target)
    return log.mean(weights * log.reward, level)


def snips(log: LoggedRewards, target: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Self-normalised estimate; arguments and refusals as :func:`ips`. The interval is a jackknife over days."""
    weights = _weights(log, target)
    weights = weights if log.stands_for is None else weights * log.stands_for
    _, day = np.unique(log.session, return_inverse=True)
    weight, gain = np.bincount(day, weights=weights), np.bincount(day, weights=weights * log.reward)
    estimate = float(gain.sum() / weight.sum())
    if np.any(weight.sum() - weight <= 0):
        raise ExperimentError("off-policy estimate refused: all weight lies on one day")
    # Jackknife over days: the ratio is not linear in the rows, and rows of one day are not independent.
    without = (gain.sum() - gain) / (weight.sum() - weight)
    days = weight.size
    error = float(np.sqrt((days - 1) / days * np.sum((without - estimate) ** 2)))
    half = student_t_quantile((1 + level) / 2, days - 1) * error
    return Interval(estimate, estimate - half, estimate + half, days, len(log.reward), level)


def doubly_robust(
    log: LoggedRewards,
    target: NDArray[np.float64],
    expected: NDArray[np.float64],
    level: float = 0.95,
) -> Interval:
    """Doubly robust estimate; arguments and refusals as :func:`ips`.

    Parameters
    ----------
    expected
        Reward model: expected reward of every arm for the row ``[n, arm]``, made without the row's day or a later one,
        as :func:`past_means`.
    """
    weights = _weights(log, target)
    if expected.shape != target.shape or not np.isfinite(expected).all():
        raise ExperimentError(f"the reward model must give finite values of shape {target.shape}, not {expected.shape}")
    direct = np.sum(target * expected, axis=1)
    return log.mean(direct + weights * (log.reward - log.taken(expected)), level)


def past_means(log: LoggedRewards, prior: float, prior_rows: float = 10.0) -> NDArray[np.float64]:
    """The simplest honest reward model: each arm's inverse-propensity mean over the days before the row's.

    Parameters
    ----------
    log
        Rows.
    prior, prior_rows
        Reward expected before the first day, and how many rows it is worth.

    Returns
    -------
    ndarray
        ``[n, arm]``.
    """
    _, day = np.unique(log.session, return_inverse=True)
    shape = (int(day.max()) + 1, log.propensity.shape[1])
    gain, weight = np.zeros(shape), np.zeros(shape)
    inverse = 1 / log.taken(log.propensity)
    np.add.at(gain, (day, log.arm), inverse * log.reward)
    np.add.at(weight, (day, log.arm), inverse)
    # Only earlier days: a model that has seen the row's own reward is correlated with it, and biases the estimate.
    before = np.maximum(np.arange(shape[0]) - 1, 0)
    began = (np.arange(shape[0]) > 0)[:, None]  # the first day has none before it
    gained, weighed = np.cumsum(gain, axis=0)[before] * began, np.cumsum(weight, axis=0)[before] * began
    return ((gained + prior * prior_rows) / (weighed + prior_rows))[day]


def _weights(log: LoggedRewards, target: NDArray[np.float64]) -> NDArray[np.float64]:
    _check_policy("target", target, len(log.reward))
    if target.shape != log.propensity.shape:
        raise ExperimentError(f"the target has {target.shape[1]} arms, the log {log.propensity.shape[1]}")
    blind = int(np.count_nonzero(np.any((target > 0) & (log.propensity <= 0), axis=1)))
    if blind:
        raise ExperimentError(
            f"off-policy estimate refused: in {blind} rows the target uses an arm whose propensity was zero, so that "
            "nothing is known about it; allocate with a floor"
        )
    largest = float(np.max(np.divide(target, log.propensity, out=np.zeros_like(target), where=target > 0)))
    if largest > MAX_WEIGHT * (1 + _ROUNDING):
        raise ExperimentError(
            f"off-policy estimate refused: weights of up to {largest:.3g} exceed {MAX_WEIGHT:g} (max_weight); "
            "the target does what the log hardly ever did"
        )
    weights = log.taken(target) / log.taken(log.propensity)
    effective = effective_sample_size(weights if log.stands_for is None else weights * log.stands_for)
    if effective < MIN_EFFECTIVE:
        raise ExperimentError(
            f"off-policy estimate refused: {len(weights)} rows are worth {effective:.1f}, fewer than "
            f"{MIN_EFFECTIVE:g} (min_effective); log more, or ask about a target nearer to the log"
        )
    if log.days < MIN_DAYS:
        raise ExperimentError(
            f"off-policy estimate refused: {log.days} days are fewer than {MIN_DAYS} (min_days): days are the "
            "independent units"
        )
    return weights


def _check_policy(name: str, values: NDArray[np.float64], rows: int) -> None:
    if values.ndim != 2 or values.shape[0] != rows or values.shape[1] < 2:
        raise ExperimentError(
            f"{name} must have one row for each of {rows} rewards and one column per arm: {values.shape}"
        )
    if not np.all(values >= 0) or not np.allclose(values.sum(axis=1), 1.0, atol=_ROUNDING, rtol=0):
        raise ExperimentError(f"{name} must hold probabilities that add up to 1 in every row")
