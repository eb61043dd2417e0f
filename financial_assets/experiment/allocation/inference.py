"""What may be concluded from *routed* requests when weights followed the evidence.

An arm that was lucky early got more requests, so that the plain mean of its requests is biased, and the usual test
rejects equal arms too often; when the market gets harder or easier meanwhile, far too often (shown by
benchmarks/ab/allocation.py). There is therefore no plain comparison of such rows here. What holds for any allocation
that was decided before the day is the inverse-propensity difference of the day, whose expectation given the past is the
true difference; a betting e-process on it is valid at every look (Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro
2022, Anytime-valid off-policy inference for contextual bandits, arXiv 2210.10768).

Paired scores of all arms on the same bars are not routed: they are known whatever the weights were, adaptive
allocation does not touch them, and they need several times fewer days. Use this only for what pairing cannot see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.capital import log_e_process
from financial_assets.experiment.statistics.off_policy import LoggedRewards

_CENTRE = 0.5
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class DailyDifferences:
    """One unbiased number per day.

    Attributes
    ----------
    value
        Challenger minus champion ``[day]``.
    bound
        Largest possible size of each value ``[day]``, known before the day: half of one over its smallest propensity.
    """

    value: NDArray[np.float64]
    bound: NDArray[np.float64]


def inverse_propensity_differences(log: LoggedRewards, floor: float = 0.1) -> DailyDifferences:
    """The mean over each day's rows of ``(reward - 1/2) * (+1 or -1) / propensity``, by day.

    Its expectation given the past is the difference of the mean scores, whatever the correlation within the day;
    subtracting 1/2 changes nothing in expectation and halves the bound.

    Parameters
    ----------
    log
        All rows of the days, of champion (arm 0) and challenger (arm 1), rewards in [0, 1], larger is better: hits, or
        1 minus the Brier score. What failed must be among them, as the score that the plan gives a failure.
    floor
        Smallest propensity that the allocation allowed either arm.

    Raises
    ------
    ExperimentError
        If a propensity is smaller, a reward lies outside [0, 1], or there are other arms.
    """
    if not 0 < floor <= 0.5:
        raise ExperimentError(f"the floor of a propensity is {floor}; allowed: above 0, at most 0.5")
    if log.propensity.shape[1] != 2 or log.reward.min() < 0 or log.reward.max() > 1:
        raise ExperimentError("a difference is that of two arms whose rewards lie in [0, 1]")
    rarer = log.propensity.min(axis=1)
    if float(rarer.min()) < floor - _ROUNDING:
        raise ExperimentError(
            f"a propensity of {float(rarer.min()):g} is below the allocation's floor {floor:g}: one row could "
            "outweigh a year; raise the floor before the next experiment"
        )
    signed = np.where(log.arm == 1, 1.0, -1.0) * (log.reward - _CENTRE) / log.taken(log.propensity)
    sessions, day = np.unique(log.session, return_inverse=True)
    value = np.bincount(day, weights=signed) / np.bincount(day)
    bound = np.zeros(sessions.size)
    np.maximum.at(bound, day, _CENTRE / rarer)
    return DailyDifferences(value, bound * (1 + _ROUNDING))


def ipw_log_e_process(log: LoggedRewards, floor: float = 0.1, margin: float = 0.0) -> NDArray[np.float64]:
    """Logarithm of the e-process ``[day]`` against "the challenger's mean score is at most the champion's + margin".

    Each day stakes fractions of the most that its own propensities allow, so that days of an even split count for more.
    Reject at level alpha as soon as it reaches ``log(1 / alpha)``; valid at every look, adaptive weights or not.

    Raises
    ------
    ExperimentError
        As :func:`inverse_propensity_differences`, or for a margin that is not between -1 and 1.
    """
    if not -1 < margin < 1:
        raise ExperimentError(f"a margin of scores is {margin}; allowed: between -1 and 1")
    daily = inverse_propensity_differences(log, floor)
    return log_e_process((daily.value - margin) / (daily.bound + abs(margin)))
