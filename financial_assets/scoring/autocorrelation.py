"""Means of daily values that move together from day to day.

Two long-run variances. :func:`long_run_mean` has the equally weighted cosine estimator with Student's t, which Lazarus,
Lewis, Stock and Watson (2018), HAR inference: recommendations for practice, recommend: project the days on the first
``v`` cosines, whose squares are nearly independent estimates of it. It is never negative, and its degrees of freedom
are known, so that the interval stays honest where outcomes overlap: five-session outcomes that start every session.

:func:`hac_mean` has Newey and West's (1987), at least that of white noise: for returns of books, whose days overlap
little, and for plans (:func:`autocorrelation_effect`), which must not count on luck. It is too narrow for outcomes that
overlap.
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


def autocorrelation_effect(daily: ArrayLike, lags: int) -> float:
    """Variance of the mean of correlated days over that of independent ones, at least 1.

    ``1 + 2 sum (1 - k / (lags + 1)) r_k`` with Bartlett's weights (Newey and West 1987). Below 1 it is not believed: a
    plan does not count on luck.

    Parameters
    ----------
    daily
        One value per day.
    lags
        Days after which no correlation is left; 0 gives 1.

    Raises
    ------
    ValueError
        With days that do not vary, or not more than ``lags``.
    """
    values = vector("daily", daily)
    if lags < 0 or values.size <= lags + 1 or not np.std(values) > 0:
        raise ValueError(f"the autocorrelation of {values.size} days up to lag {lags} cannot be estimated")
    # Autocovariances are divided by all days, not by the pairs of each lag: so Bartlett's sum cannot become negative.
    off = values - np.mean(values)
    total = float(off @ off)
    weighted = (1 - lag / (lags + 1) for lag in range(1, lags + 1))
    factor = 1 + 2 * sum(w * float(off[lag:] @ off[:-lag]) / total for lag, w in enumerate(weighted, 1))
    return max(factor, 1.0)


def automatic_lags(days: int) -> int:
    """Lags of Bartlett's weights: ``4 (days / 100) ** (2 / 9)``, rounded down, at most ``days - 2``.

    Source: Newey and West (1994), Automatic lag selection in covariance matrix estimation.
    """
    return max(min(int(4 * (days / 100) ** (2 / 9)), days - 2), 0)


def hac_mean(daily: ArrayLike, level: float = 0.95) -> tuple[Interval, int]:
    """Mean of daily values with an interval that allows for days that move together.

    Parameters
    ----------
    daily
        One value per day, in order.
    level
        Confidence.

    Returns
    -------
    tuple
        The estimate, and the lags of :func:`automatic_lags`.

    Raises
    ------
    ValueError
        Bad arguments, or fewer than two days.
    """
    values = vector("daily", daily)
    days = values.size
    if days < 2:
        raise ValueError("daily must hold at least two days: a mean of one has no interval")
    half = hac_half_width(values, level)
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half, days, days, level), automatic_lags(days)


def hac_half_width(values: NDArray[np.float64], level: float) -> float:
    """Half the width of the mean's interval, by Student's t; 0 for values that do not vary."""
    days, spread = values.size, float(values.std(ddof=1))
    if not spread > 0:
        return 0.0
    error = spread * math.sqrt(autocorrelation_effect(values, automatic_lags(days)) / days)
    return student_t_quantile(0.5 + levels("level", level) / 2, days - 1) * error
