"""Means of daily values that move together from day to day, as losses of overlapping outcomes do.

The long-run variance is the equally weighted cosine estimator with Student's t, which Lazarus, Lewis, Stock and Watson
(2018), HAR inference: recommendations for practice, recommend: project the days on the first ``v`` cosines, whose
squares are nearly independent estimates of it. It is never negative, and its degrees of freedom are known, so that the
interval stays honest where Newey and West's is too narrow: five-session outcomes that start every session.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, vector
from financial_assets.scoring.distributions import student_t_quantile, student_t_tail
from financial_assets.scoring.intervals import Interval, numbered_days

FEWEST_DAYS = 8
"""Days below which no dependence between them can be estimated."""


@dataclass(frozen=True, slots=True)
class LongRunMean:
    """A mean of daily values that may be autocorrelated, and its test against zero.

    Attributes
    ----------
    interval
        The mean with its interval.
    statistic
        Mean over its standard error; 0 where neither differs from 0.
    p_value
        Two-sided, Student's t with ``degrees`` degrees of freedom.
    degrees
        Cosines behind the long-run variance.
    """

    interval: Interval
    statistic: float
    p_value: float
    degrees: int


def cosines(days: int) -> int:
    """Degrees of freedom of the long-run variance of so many days: ``0.4 days ** (2 / 3)`` (ibid., equation 4)."""
    return max(int(0.4 * days ** (2 / 3)), 1)


def long_run_covariance(daily: ArrayLike) -> NDArray[np.float64]:
    """Covariance of ``sqrt(n)`` times the means of daily values ``[n, k]``, whatever their autocorrelation: ``[k, k]``.

    Raises
    ------
    ValueError
        Not finite, or fewer than ``FEWEST_DAYS`` days.
    """
    data = np.asarray(daily, np.float64)
    if data.ndim != 2 or not np.isfinite(data).all():
        raise ValueError(f"daily must be finite numbers [day, series], not of shape {data.shape}")
    if len(data) < FEWEST_DAYS:
        raise ValueError(f"daily holds {len(data)} days: {FEWEST_DAYS} are needed to see how they move together")
    days = len(data)
    waves = np.cos(np.pi * np.outer(np.arange(1, cosines(days) + 1), np.arange(days) + 0.5) / days)
    # The cosines sum to zero, but rounding of a large mean would remain.
    projected = math.sqrt(2 / days) * waves @ (data - data.mean(axis=0))
    return projected.T @ projected / len(projected)


def long_run_mean(daily: ArrayLike, level: float = 0.95) -> LongRunMean:
    """Mean of daily values ``[n]`` in order of time, with an interval that allows for days that move together.

    Raises
    ------
    ValueError
        Bad arguments, or fewer than ``FEWEST_DAYS`` days.
    """
    values = vector("daily", daily)
    error = math.sqrt(float(long_run_covariance(values[:, None])[0, 0]) / values.size)
    mean, days, degrees = float(values.mean()), values.size, cosines(values.size)
    half = student_t_quantile((1 + levels("level", level)) / 2, degrees) * error
    with np.errstate(divide="ignore"):
        statistic = float(np.divide(mean, error)) if mean else 0.0
    p_value = 2 * student_t_tail(abs(statistic), degrees)
    return LongRunMean(Interval(mean, mean - half, mean + half, days, days, level), statistic, p_value, degrees)


def day_blocks(days: ArrayLike, length: int) -> NDArray[np.intp]:
    """The block of ``length`` consecutive days that each row belongs to ``[n]``, numbered from 0.

    Instead of the days, for the intervals of statistics that are not means (``classification``, ``direction``,
    ``intervals.day_jackknife``) where outcomes overlap over a few sessions: blocks of five times as many are nearly
    independent of each other. What is left over at the end belongs to the last block.

    Parameters
    ----------
    days
        The day of each row ``[n]``.
    length
        Days of a block, at least 1.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, not {length}")
    day = numbered_days(days, np.size(days))
    last = max((int(day.max(initial=-1)) + 1) // length - 1, 0)
    return np.minimum(day // length, last)
