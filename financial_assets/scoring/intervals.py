"""Intervals that know how the data arise: days are independent, stocks on one day are not.

The day is the unit of evidence. Rows are pooled for the estimate, and its variance is taken from how the estimate moves
when one day after the other is left out, whatever the correlation inside a day: the cluster jackknife, or "sandwich"
estimator CV3 (MacKinnon, Nielsen and Webb 2023, Cluster-robust inference: a guide to empirical practice). With days of
equal size it is the usual cluster-robust variance (CR1: Liang and Zeger 1986); with unequal ones it is more honest.
With G days the interval uses Student's t with G - 1 degrees of freedom. With few days of very unequal size it is still
somewhat too narrow. Correlation *between* days is not covered: overlapping labels would need more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, outcomes, vector
from financial_assets.scoring.distributions import beta_quantile, student_t_quantile

_ONE_DAY = "{} must span at least two days: one day says nothing about how days differ"


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

    @property
    def spans_zero(self) -> bool:
        """Whether zero cannot be excluded."""
        return self.low <= 0 <= self.high

    def times(self, factor: float) -> Interval:
        """The same in another unit; a negative factor swaps the bounds."""
        low, high = sorted((factor * self.low, factor * self.high))
        return Interval(factor * self.estimate, low, high, self.days, self.observations, self.level)

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
    groups = int(day.max()) + 1
    return _interval(float(data.mean()), _moves("days", data, day, groups), groups, data.size, level)


def day_clustered_difference(
    first: ArrayLike, first_days: ArrayLike, second: ArrayLike, second_days: ArrayLike, level: float = 0.95
) -> Interval:
    """Mean of the first sample less that of the second, when both were drawn on the same days.

    For two arms that got different rows of the same days (split traffic). What moves all stocks on a day moves both
    arms: the rows of a day are left out together, whichever arm they belong to. The degrees of freedom are those of the
    arm with fewer days.

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
        Bad arguments, or an arm with fewer than two days.
    """
    one, two = vector("first", first), vector("second", second)
    one_days, two_days = _days("first_days", first_days, one.size), _days("second_days", second_days, two.size)
    day = _numbered("first_days and second_days", np.concatenate([one_days, two_days]))
    of_one, of_two = day[: one.size], day[one.size :]
    groups = int(day.max()) + 1
    moves = _moves("first_days", one, of_one, groups) - _moves("second_days", two, of_two, groups)
    fewest = min(np.unique(of_one).size, np.unique(of_two).size)
    return _interval(float(one.mean() - two.mean()), moves, fewest, one.size + two.size, level)


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
    variance = _variance(_moves("days", success, day, groups))
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


def day_jackknife(
    statistic: Callable[..., float], columns: Sequence[ArrayLike], days: ArrayLike, level: float = 0.95
) -> Interval:
    """Any smooth statistic of all rows, with an interval that is robust to any correlation within a day.

    The mean's interval is ``day_clustered_mean``; a statistic of sums is quicker in ``day_jackknife_of_sums``. The
    jackknife needs a statistic that moves smoothly with its rows: it fails for a quantile.

    Parameters
    ----------
    statistic
        Takes the columns, cut to the same rows, and returns a number; NaN where it is undefined. Called once per day.
    columns
        Arrays whose first axis is the row ``[n, ...]``.
    days, level
        As for ``day_clustered_mean``.

    Returns
    -------
    Interval
        Bounds are NaN where the statistic is undefined on all rows, or without one of the days.
    """
    data = [np.asarray(column) for column in columns]
    if not data or any(column.shape[:1] != data[0].shape[:1] for column in data):
        raise ValueError("columns must hold arrays of the same number of rows")
    day = _day_numbers("days", days, len(data[0]))
    groups = _several("days", day)
    left_out = [statistic(*(column[day != one] for column in data)) for one in range(groups)]
    return jackknife_interval(statistic(*data), np.asarray(left_out, np.float64), day.size, level)


def day_jackknife_of_sums(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    columns: ArrayLike,
    days: ArrayLike,
    level: float = 0.95,
) -> Interval:
    """``day_jackknife`` of a statistic that depends on the rows through the sums of some columns only.

    Parameters
    ----------
    statistic
        Takes sums ``[m, k]`` and returns one number for each ``[m]``.
    columns
        Finite numbers ``[n, k]``; a column of ones counts rows.
    days, level
        As for ``day_clustered_mean``.
    """
    data = np.asarray(columns, np.float64)
    if data.ndim != 2 or not np.isfinite(data).all():
        raise ValueError(f"columns must be finite numbers [n, k], not of shape {data.shape}")
    day = _day_numbers("days", days, len(data))
    groups = _several("days", day)
    by_day = np.stack([np.bincount(day, weights=column, minlength=groups) for column in data.T], axis=1)
    total = by_day.sum(axis=0)
    found = statistic(np.concatenate([total[None], total - by_day]))
    return jackknife_interval(float(found[0]), found[1:], day.size, level)


def jackknife_interval(
    estimate: float, left_out: NDArray[np.float64], observations: int, level: float = 0.95
) -> Interval:
    """Interval from the estimates without one of the days each ``[days]``; NaN bounds where one is not finite."""
    return _interval(float(estimate), left_out - estimate, left_out.size, observations, level)


def numbered_days(days: ArrayLike, rows: int) -> NDArray[np.intp]:
    """Number of each row's day in order of time ``[n]``, from 0; ``ValueError`` unless ``rows`` days are known."""
    return _day_numbers("days", days, rows)


def _several(name: str, day: NDArray[np.intp]) -> int:
    groups = int(day.max(initial=-1)) + 1
    if groups < 2:
        raise ValueError(_ONE_DAY.format(name))
    return groups


def _days(name: str, days: ArrayLike, rows: int) -> NDArray[Any]:
    array = np.asarray(days)
    if array.shape != (rows,):
        raise ValueError(f"{name} must hold one day for each of {rows} rows, not shape {array.shape}")
    # NaN and NaT are the values that differ from themselves; None, which does not, is an object.
    missing = array != array
    if array.dtype == object:
        missing |= np.array([day is None for day in array.tolist()], dtype=bool)
    if missing.any():
        raise ValueError(f"{name} holds {int(missing.sum())} missing days")
    return array


def _numbered(name: str, days: NDArray[Any]) -> NDArray[np.intp]:
    try:
        if days.size and days.dtype.kind in "Miu":
            later = days[1:] != days[:-1]
            if (days[1:] >= days[:-1]).all():  # rows in order of time, as a log has them, need not be sorted
                return np.concatenate([np.zeros(1, np.intp), np.cumsum(later, dtype=np.intp)])
        return np.unique(days, return_inverse=True)[1]
    except TypeError as error:
        raise ValueError(f"{name} must be of one type: {error}") from None


def _day_numbers(name: str, days: ArrayLike, rows: int) -> NDArray[np.intp]:
    return _numbered(name, _days(name, days, rows))


def _moves(name: str, data: NDArray[np.float64], day: NDArray[np.intp], groups: int) -> NDArray[np.float64]:
    """How much each day pulls the mean to itself: the mean of all rows less the mean without that day ``[groups]``."""
    share = np.bincount(day, minlength=groups) / data.size
    if share.max() == 1:
        raise ValueError(_ONE_DAY.format(name))
    pull = np.bincount(day, weights=(data - data.mean()) / data.size, minlength=groups)
    return pull / (1 - share)


def _variance(moves: NDArray[np.float64]) -> float:
    return float((moves.size - 1) / moves.size * np.sum(moves**2))


def _interval(estimate: float, moves: NDArray[np.float64], days: int, observations: int, level: float) -> Interval:
    half = student_t_quantile((1 + levels("level", level)) / 2, days - 1) * _variance(moves) ** 0.5
    return Interval(estimate, estimate - half, estimate + half, moves.size, observations, level)
