"""Figures of merit as what they are: estimates from a number of days, with intervals.

Smooth figures (a mean, a ratio of means, Sharpe and Sortino ratios) move with each day by its influence. Their interval
is that of the mean influence, with the long-run variance of :mod:`financial_assets.scoring.autocorrelation`: days may
move together and have fat tails (Lo 2002, The statistics of Sharpe ratios; Ledoit and Wolf 2008, Robust performance
hypothesis testing with the Sharpe ratio). Figures of the whole path (drawdown, Calmar ratio) have the percentiles of a
block bootstrap.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from financial_assets.market import calendar
from financial_assets.portfolio.arguments import Floats
from financial_assets.portfolio.bootstrap import block_length, percentiles, resampled
from financial_assets.portfolio.performance import sharpe_ratio, sortino_ratio
from financial_assets.scoring.arguments import same_shape, vector
from financial_assets.scoring.autocorrelation import hac_half_width, hac_mean
from financial_assets.scoring.intervals import Interval, day_clustered_proportion

FEWEST_DAYS = 20
"""Below, no figure gets an interval: it would not deserve trust."""


def annual_mean(returns: ArrayLike, level: float = 0.95) -> Interval | None:
    """Mean return per year, not compounded; ``None`` with fewer than 20 days."""
    data = vector("returns", returns)
    return None if data.size < FEWEST_DAYS else hac_mean(data, level)[0].times(calendar.sessions_per_year())


def sharpe_interval(returns: ArrayLike, level: float = 0.95) -> Interval | None:
    """Annual Sharpe ratio of returns in excess of cash; ``None`` with fewer than 20 days or without variation.

    For independent days its variance is that of Mertens (2002, Comments on variance of the IID estimator).
    """
    data = vector("returns", returns)
    ratio = sharpe_ratio(data, periods=1) if data.size >= FEWEST_DAYS else np.nan
    if np.isnan(ratio):
        return None
    standardised = (data - data.mean()) / data.std()
    influence = standardised - ratio / 2 * (standardised**2 - 1)
    return _annual_ratio(ratio, influence, level)


def sortino_interval(returns: ArrayLike, level: float = 0.95) -> Interval | None:
    """Annual Sortino ratio of returns in excess of cash; ``None`` with fewer than 20 days or without a loss."""
    data = vector("returns", returns)
    ratio = sortino_ratio(data, periods=1) if data.size >= FEWEST_DAYS else np.nan
    if np.isnan(ratio):
        return None
    square = np.minimum(data, 0.0) ** 2
    influence = (data - data.mean()) / np.sqrt(square.mean()) - ratio / 2 * (square / square.mean() - 1)
    return _annual_ratio(ratio, influence, level)


def hit_rate(returns: ArrayLike, level: float = 0.95) -> Interval | None:
    """Share of gains among the days that gained or lost; ``None`` with fewer than two such days."""
    data = vector("returns", returns)
    moved = data[data != 0]
    return None if moved.size < 2 else day_clustered_proportion(moved > 0, np.arange(moved.size), level)


def ratio_of_means(top: ArrayLike, bottom: ArrayLike, level: float = 0.95) -> Interval | None:
    """Mean of one daily series over that of another; ``None`` with fewer than 20 days or where the second is 0.

    By the delta method, which takes the mean of ``bottom`` to be well above its error: it is at least 0 each day.
    """
    above, below = vector("top", top), vector("bottom", bottom)
    same_shape(top=above, bottom=below)
    if np.any(below < 0):
        raise ValueError("bottom must be at least 0")
    mean = float(below.mean())
    if above.size < FEWEST_DAYS or not mean > 0:
        return None
    ratio = float(above.mean()) / mean
    half = hac_half_width((above - ratio * below) / mean, level)
    return Interval(ratio, ratio - half, ratio + half, above.size, above.size, level)


def drawdown_interval(returns: ArrayLike, level: float = 0.95, *, draws: int = 500, seed: int = 0) -> Interval | None:
    """Largest drawdown in [-1, 0], with what as many other days of the same kind would show.

    A drawdown is the worst of its path and grows with the number of days: its range tells what to be prepared for, and
    not where a true value lies. ``None`` with fewer than 20 days.
    """
    return path_intervals(returns, level, draws=draws, seed=seed)[0]


def calmar_interval(returns: ArrayLike, level: float = 0.95, *, draws: int = 500, seed: int = 0) -> Interval | None:
    """Calmar ratio with its block bootstrap; ``None`` with fewer than 20 days or without a drawdown."""
    return path_intervals(returns, level, draws=draws, seed=seed)[1]


def path_intervals(
    returns: ArrayLike, level: float = 0.95, *, draws: int = 500, seed: int = 0
) -> tuple[Interval | None, Interval | None]:
    """:func:`drawdown_interval` and :func:`calmar_interval`, from the same paths."""
    data = _simple("returns", returns)
    if data.size < FEWEST_DAYS:
        return None, None
    with np.errstate(divide="ignore"):  # of nothing left it is minus infinity
        logs = np.log1p(data)
    own = _path_figures(logs[None])
    found = resampled(logs, _path_figures, block_length(data), draws=draws, seed=seed)
    drawdown, calmar = (percentiles(float(own[n, 0]), found[n], data.size, level) for n in range(2))
    return drawdown, calmar


def _annual_ratio(ratio: float, influence: Floats, level: float) -> Interval:
    half = hac_half_width(influence, level)
    days = influence.size
    return Interval(ratio, ratio - half, ratio + half, days, days, level).times(calendar.sessions_per_year() ** 0.5)


def _simple(name: str, returns: ArrayLike) -> Floats:
    data = vector(name, returns)
    if data.min() < -1:
        raise ValueError(f"{name} must be at least -1 (simple returns), found {data.min():g}")
    return data


def _path_figures(log_returns: Floats) -> Floats:
    """Largest drawdowns and Calmar ratios (NaN without a drawdown) of paths ``[draw, session]``: ``[2, draw]``."""
    start = np.zeros((len(log_returns), 1))
    value = np.concatenate([start, np.cumsum(log_returns, axis=1)], axis=1)
    drawdown = np.expm1(np.min(value - np.maximum.accumulate(value, axis=1), axis=1))
    years = log_returns.shape[1] / calendar.sessions_per_year()
    annual = np.expm1(np.minimum(value[:, -1] / years, np.log(np.finfo(np.float64).max)))
    calmar = np.divide(annual, -drawdown, out=np.full(len(value), np.nan), where=drawdown < 0)
    return np.stack([drawdown, calmar])
