"""Which of several forecasters is better? Tests on the losses of the same days.

The unit is the day: rows of one day are averaged first, so that a day counts once, whatever its number of tickers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, same_shape, vector
from financial_assets.scoring.autocorrelation import FEWEST_DAYS, long_run_mean
from financial_assets.scoring.distributions import student_t_tail
from financial_assets.scoring.intervals import Interval, numbered_days

Variance = Literal["cosine", "truncated"]


def daily_means(values: ArrayLike, days: ArrayLike) -> NDArray[np.float64]:
    """Mean of the rows of each day, in order of time ``[day]``.

    Parameters
    ----------
    values
        Finite ``[n]``.
    days
        The day of each row ``[n]``.
    """
    data = vector("values", values)
    day = numbered_days(days, data.size)
    return np.bincount(day, data) / np.bincount(day)


@dataclass(frozen=True, slots=True)
class LossComparison:
    """Mean difference of two forecasters' losses.

    Attributes
    ----------
    difference
        First minus second, with an interval that allows for dependent days: negative where the first is better.
    statistic, p_value
        Of equal losses, two-sided.
    """

    difference: Interval
    statistic: float
    p_value: float


def diebold_mariano(
    first: ArrayLike,
    second: ArrayLike,
    days: ArrayLike,
    horizon: int = 1,
    variance: Variance = "cosine",
    level: float = 0.95,
) -> LossComparison:
    """Whether two forecasters' losses are equal on average.

    Parameters
    ----------
    first, second
        Losses of the same rows ``[n]``.
    days
        The day of each row ``[n]``.
    horizon
        Sessions of an outcome; those of the next ``horizon - 1`` days overlap with it.
    variance
        ``cosine``: ``autocorrelation.long_run_mean``, for any dependence of days: volatile weeks last longer than a
        horizon.
        ``truncated``: the autocovariances up to ``horizon - 1``, as in the original, with the correction and Student's
        t of Harvey, Leybourne and Newbold; of one session it takes days as independent.
    level
        Confidence of the interval, which is the cosine's in both cases.

    Raises
    ------
    ValueError
        Bad arguments, fewer than ``autocorrelation.FEWEST_DAYS`` days, or a truncated variance that is not positive.

    Sources: Diebold and Mariano (1995), Comparing predictive accuracy; Harvey, Leybourne and Newbold (1997), Testing
    the equality of prediction mean squared errors, equation 9.
    """
    one, two = vector("first", first), vector("second", second)
    same_shape(first=one, second=two)
    daily = daily_means(one - two, days)
    if horizon < 1 or daily.size <= horizon:
        raise ValueError(f"horizon must be at least 1 and below the number of days, not {horizon} of {daily.size}")
    tested = long_run_mean(daily, level)
    if variance == "cosine" or not daily.any():
        return LossComparison(tested.interval, tested.statistic, tested.p_value)
    statistic = _harvey_leybourne_newbold(daily, horizon)
    return LossComparison(tested.interval, statistic, 2 * student_t_tail(abs(statistic), daily.size - 1))


def _harvey_leybourne_newbold(daily: NDArray[np.float64], horizon: int) -> float:
    days, off = daily.size, daily - daily.mean()
    covariances = [float(off[lag:] @ off[: days - lag]) / days for lag in range(horizon)]
    spread = covariances[0] + 2 * sum(covariances[1:])
    if not spread > 0:
        raise ValueError("the truncated variance of the differences is not positive: choose variance='cosine'")
    correction = (days + 1 - 2 * horizon + horizon * (horizon - 1) / days) / days
    return float(daily.mean()) / math.sqrt(spread / days) * math.sqrt(correction)


@dataclass(frozen=True, slots=True)
class ModelConfidenceSet:
    """The forecasters that the best one may be among.

    Attributes
    ----------
    p_values
        Forecaster -> smallest error rate at which it would be left out, best first; the best has 1.
    included
        Those above ``alpha``, best first: they hold the truly best with probability ``1 - alpha``.
    alpha
        Error rate.
    block
        Mean length of the bootstrap's blocks, in days.
    """

    p_values: Mapping[str, float]
    included: tuple[str, ...]
    alpha: float
    block: int


def model_confidence_set(
    losses: ArrayLike,
    names: Sequence[str],
    alpha: float = 0.1,
    block: int | None = None,
    horizon: int = 1,
    repetitions: int = 1000,
    seed: int = 0,
) -> ModelConfidenceSet:
    """Forecasters that are not distinguishable from the best, with the error rate of the whole search under control.

    Parameters
    ----------
    losses
        One number per day and forecaster ``[day, forecaster]``, in order of time: see ``daily_means``.
    names
        Of the forecasters, at least two.
    alpha
        Error rate: the best is left out with at most this probability.
    block
        Mean length of the blocks of days. Default: the longest that Politis and White's (2004) rule asks of any
        forecaster's difference from the mean of all, at least ``horizon``.
    horizon
        Sessions of an outcome.
    repetitions, seed
        Of the stationary bootstrap.

    Raises
    ------
    ValueError
        Bad arguments; fewer than ``autocorrelation.FEWEST_DAYS`` days; two forecasters with the same losses on all
        days, which must be named once.

    Source: Hansen, Lunde and Nason (2011), The model confidence set, with the range statistic; ``arch.bootstrap.MCS``.
    """
    from arch.bootstrap import MCS

    data = np.asarray(losses, np.float64)
    _check_losses(data, names)
    levels("alpha", alpha)
    length = block if block is not None else _block(data, horizon)
    found = MCS(data, size=alpha, reps=repetitions, block_size=length, seed=seed)
    found.compute()
    # The library's table is in the order of elimination, the best last.
    order, values = found.pvalues.index.to_numpy(np.intp), found.pvalues["Pvalue"].to_numpy(np.float64)
    p_values = {names[int(place)]: float(p) for place, p in zip(order[::-1], values[::-1], strict=True)}
    return ModelConfidenceSet(p_values, tuple(name for name, p in p_values.items() if p > alpha), alpha, length)


def _check_losses(data: NDArray[np.float64], names: Sequence[str]) -> None:
    if data.ndim != 2 or not np.isfinite(data).all() or len(data) < FEWEST_DAYS:
        raise ValueError(f"losses must be finite [day, forecaster] of at least {FEWEST_DAYS} days, not {data.shape}")
    if data.shape[1] != len(names) or len(set(names)) != len(names) or len(names) < 2:
        raise ValueError(f"names must be {data.shape[1]} different ones, at least two: {tuple(names)}")
    for place, name in enumerate(names):
        for other in range(place):
            if np.ptp(data[:, place] - data[:, other]) == 0:
                raise ValueError(f"losses of {names[other]} and {name} differ by a constant: nothing is uncertain")


def _block(data: NDArray[np.float64], horizon: int) -> int:
    from arch.bootstrap import optimal_block_length

    apart = data - data.mean(axis=1, keepdims=True)
    # With two forecasters both columns are the same series. Of few days the rule divides the last autocovariances by a
    # variance of no days: it takes them as large, and its limit of a third of the days holds.
    with np.errstate(divide="ignore", invalid="ignore"):
        longest = float(optimal_block_length(apart)["stationary"].max())
    return int(min(max(math.ceil(longest), horizon, 1), len(data) // 2))
