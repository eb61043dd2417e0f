"""Intervals that know how the data arise: days are independent, stocks on one day are not.

The day is the unit of evidence. Rows are pooled for the estimate, and its variance is taken from the sums of the
residuals per day, whatever the correlation inside a day (the cluster-robust or "sandwich" estimator CR1: Liang and
Zeger 1986; Cameron and Miller 2015, A practitioner's guide to cluster-robust inference, sections II and VI). With G
days the interval uses Student's t with G - 1 degrees of freedom. With few days (below about 30) or days of very
different size it is still somewhat too narrow. Correlation *between* days is not covered: overlapping labels would
need more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, outcomes, vector
from financial_assets.scoring.distributions import beta_quantile, student_t_quantile

__all__ = ["Interval", "day_clustered_difference", "day_clustered_mean", "day_clustered_proportion", "design_effect"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided confidence interval.

    Attributes
    ----------
    estimate, low, high
        In the unit of the values. ``low`` alone is a one-sided bound of confidence ``(1 + level) / 2``.
    days
        Distinct days, the independent units.
    observations
        Rows.
    level
        Confidence, for example 0.95.
    """

    estimate: float
    low: float
    high: float
    days: int
    observations: int
    level: float

    def __str__(self) -> str:
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}]"


def day_clustered_mean(values: ArrayLike, days: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of all rows, with an interval that is robust to any correlation within a day.

    A paired comparison of two forecasters is this with the differences of their scores as values.

    Parameters
    ----------
    values
        One number per row ``[n]``: hits, losses, score differences.
    days
        The day of each row ``[n]``: dates, or anything that can be compared.
    level
        Confidence of the interval.

    Raises
    ------
    ValueError
        Bad arguments, or fewer than two days.
    """
    data = vector("values", values)
    day = _day_numbers("days", days, data.size)
    return _interval(float(data.mean()), _day_sums(data, day), data.size, level)


def day_clustered_difference(
    first: ArrayLike, first_days: ArrayLike, second: ArrayLike, second_days: ArrayLike, level: float = 0.95
) -> Interval:
    """Mean of the first sample less that of the second, when both were drawn on the same days.

    For two arms that got different rows of the same days (split traffic). What moves all stocks on a day moves both
    arms: the rows of a day form one cluster, whichever arm they belong to. Equal to least squares on an indicator of
    the first arm with cluster-robust standard errors.

    Parameters
    ----------
    first, second
        One number per row of each arm, ``[n]`` and ``[m]``.
    first_days, second_days
        Their days, in one type.
    level
        Confidence of the interval.

    Raises
    ------
    ValueError
        Bad arguments, or fewer than two days in all.
    """
    one, two = vector("first", first), vector("second", second)
    one_days, two_days = _days("first_days", first_days, one.size), _days("second_days", second_days, two.size)
    day = _numbered("first_days and second_days", np.concatenate([one_days, two_days]))
    residuals = np.concatenate([(one - one.mean()) / one.size, -(two - two.mean()) / two.size])
    observations = one.size + two.size
    if observations < 3:
        raise ValueError("first and second together need at least three rows")
    scores = np.bincount(day, weights=residuals) * np.sqrt((observations - 1) / (observations - 2))
    return _interval(float(one.mean() - two.mean()), scores, observations, level)


def day_clustered_proportion(successes: ArrayLike, days: ArrayLike, level: float = 0.95) -> Interval:
    """Share of successes, with an interval that stays inside [0, 1] and is meaningful at 0 and 1.

    Clopper and Pearson's interval at the effective sample size ``p (1 - p) / V``, where V is the day-clustered
    variance, corrected for the degrees of freedom and never more than the number of rows (Korn and Graubard 1998,
    Confidence intervals for proportions with small expected number of positive counts estimated from survey data).
    Where V is 0 because all rows are equal, each day counts once.

    Parameters
    ----------
    successes
        0/1 or booleans ``[n]``.
    days, level
        As for ``day_clustered_mean``.
    """
    success = outcomes("successes", successes).astype(np.float64)
    day = _day_numbers("days", days, success.size)
    groups, share = int(day.max()) + 1, float(success.mean())
    variance = _variance(_day_sums(success, day))
    tail = (1 - levels("level", level)) / 2
    if variance > 0:
        freedom = student_t_quantile(tail, success.size - 1) / student_t_quantile(tail, groups - 1)
        effective = min(share * (1 - share) / variance * freedom**2, success.size)
    else:
        effective = groups if share in (0.0, 1.0) else success.size
    hits, misses = share * effective, (1 - share) * effective
    low = beta_quantile(tail, hits, misses + 1) if hits > 0 else 0.0
    high = beta_quantile(1 - tail, hits + 1, misses) if misses > 0 else 1.0
    return Interval(share, low, high, groups, success.size, level)


def design_effect(values: ArrayLike, days: ArrayLike) -> float:
    """How many times the variance of the mean exceeds that of as many independent rows (Kish 1965).

    1 when rows of one day are uncorrelated; n rows are worth ``n / design_effect``. NaN when all values are equal.
    """
    data = vector("values", values)
    day = _day_numbers("days", days, data.size)
    independent = float(data.var(ddof=1)) / data.size
    return _variance(_day_sums(data, day)) / independent if independent > 0 else float("nan")


def _days(name: str, days: ArrayLike, rows: int) -> NDArray[Any]:
    array = np.asarray(days)
    if array.shape != (rows,):
        raise ValueError(f"{name} must hold one day for each of {rows} rows, not shape {array.shape}")
    missing = array != array  # true for NaN and NaT only, whatever the type
    if np.any(missing):
        raise ValueError(f"{name} holds {int(np.sum(missing))} missing days")
    return array


def _numbered(name: str, days: NDArray[Any]) -> NDArray[np.intp]:
    unique, numbers = np.unique(days, return_inverse=True)
    if unique.size < 2:
        raise ValueError(f"{name} must span at least two days: one day says nothing about how days differ")
    return numbers


def _day_numbers(name: str, days: ArrayLike, rows: int) -> NDArray[np.intp]:
    return _numbered(name, _days(name, days, rows))


def _day_sums(data: NDArray[np.float64], day: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.bincount(day, weights=(data - data.mean()) / data.size).astype(np.float64)


def _variance(day_sums: NDArray[np.float64]) -> float:
    groups = day_sums.size
    return float(groups / (groups - 1) * np.sum(day_sums**2))


def _interval(estimate: float, day_sums: NDArray[np.float64], observations: int, level: float) -> Interval:
    groups = day_sums.size
    quantile = student_t_quantile((1 + levels("level", level)) / 2, groups - 1)
    half = quantile * _variance(day_sums) ** 0.5
    return Interval(estimate, estimate - half, estimate + half, groups, observations, level)
