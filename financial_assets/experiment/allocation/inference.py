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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.capital import log_e_process

__all__ = ["DailyDifferences", "RoutedScores", "inverse_propensity_differences", "ipw_log_e_process"]

_CENTRE = 0.5
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class RoutedScores:
    """Scores of requests that were routed to one of two arms.

    Attributes
    ----------
    session
        Session of each row ``[n]``, anything that can be ordered.
    challenger
        Whether the row went to the challenger ``[n]``, else to the champion.
    score
        ``[n]`` in [0, 1], larger is better: hits, or 1 minus the Brier score.
    propensity
        Logged probability ``[n]`` that the row went where it went, fixed before the session.
    """

    session: NDArray[Any]
    challenger: NDArray[np.bool_]
    score: NDArray[np.float64]
    propensity: NDArray[np.float64]

    def __post_init__(self) -> None:
        rows = self.score.shape
        if self.score.ndim != 1 or not self.score.size:
            raise ExperimentError("routed scores must be a list of at least one row")
        for name in ("session", "challenger", "propensity"):
            if getattr(self, name).shape != rows:
                raise ExperimentError(f"routed scores: {name} has shape {getattr(self, name).shape}, scores {rows}")
        if not np.all((self.score >= 0) & (self.score <= 1)):
            raise ExperimentError("routed scores must lie in [0, 1] and be finite")
        if not np.all((self.propensity > 0) & (self.propensity < 1)):
            raise ExperimentError(
                "propensities must lie strictly between 0 and 1: rows without one cannot be used, and an arm that "
                "never or always got the requests cannot be compared"
            )


@dataclass(frozen=True, slots=True, eq=False)
class DailyDifferences:
    """One unbiased number per day.

    Attributes
    ----------
    session
        Rising ``[day]``.
    value
        Challenger minus champion ``[day]``.
    bound
        Largest possible size of each value ``[day]``, known before the day: half of one over its smallest propensity.
    """

    session: NDArray[Any]
    value: NDArray[np.float64]
    bound: NDArray[np.float64]


def inverse_propensity_differences(rows: RoutedScores, floor: float = 0.1) -> DailyDifferences:
    """The mean over each day's rows of ``(score - 1/2) * (+1 or -1) / propensity``.

    Its expectation given the past is the difference of the mean scores, whatever the correlation within the day;
    subtracting 1/2 changes nothing in expectation and halves the bound.

    Parameters
    ----------
    rows
        All rows of the days: what failed must be among them, as the score that the plan gives a failure.
    floor
        Smallest propensity that the allocation allowed either arm.

    Raises
    ------
    ExperimentError
        If a propensity is smaller.
    """
    if not 0 < floor <= 0.5:
        raise ExperimentError(f"the floor of a propensity is {floor}; allowed: above 0, at most 0.5")
    rarer = np.minimum(rows.propensity, 1 - rows.propensity)
    if float(rarer.min()) < floor - _ROUNDING:
        raise ExperimentError(
            f"a propensity of {float(rarer.min()):g} is below the allocation's floor {floor:g}: one row could "
            "outweigh a year; raise the floor before the next experiment"
        )
    signed = np.where(rows.challenger, 1.0, -1.0) * (rows.score - _CENTRE) / rows.propensity
    sessions, day = np.unique(rows.session, return_inverse=True)
    value = np.bincount(day, weights=signed) / np.bincount(day)
    bound = np.zeros(sessions.size)
    np.maximum.at(bound, day, _CENTRE / rarer)
    return DailyDifferences(sessions, value, bound * (1 + _ROUNDING))


def ipw_log_e_process(rows: RoutedScores, floor: float = 0.1, margin: float = 0.0) -> NDArray[np.float64]:
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
    daily = inverse_propensity_differences(rows, floor)
    return log_e_process((daily.value - margin) / (daily.bound + abs(margin)))
