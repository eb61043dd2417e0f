"""Figures of merit of a series of daily simple returns ``[session]``.

A return of -100 % ends a book: nothing is left to trade with. What comes after it says nothing about the strategy, so
that ratios of a book that was wiped out are taken from :func:`until_ruin`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.market import calendar
from financial_assets.scoring.arguments import vector

# A standard deviation below this share of the values' size is rounding, not risk.
_ROUNDING = 1e-12
_LARGEST_LOG = float(np.log(np.finfo(np.float64).max))


def equity_curve(returns: ArrayLike) -> NDArray[np.float64]:
    """Value of one unit of capital after each session ``[session]``, gains reinvested; at most the largest float."""
    return np.exp(np.minimum(_log_equity(returns), _LARGEST_LOG))


def until_ruin(returns: ArrayLike) -> NDArray[np.float64]:
    """The returns up to and including the first of -100 %; all of them if there is none."""
    data = _returns(returns)
    ruined = np.flatnonzero(data <= -1)
    return data[: ruined[0] + 1] if ruined.size else data


def cumulative_return(returns: ArrayLike) -> float:
    """Compounded return over all sessions."""
    return float(equity_curve(returns)[-1] - 1)


def sharpe_ratio(returns: ArrayLike, periods: int | None = None) -> float:
    """Annualised mean over standard deviation, of returns in excess of cash.

    NaN with fewer than two sessions or without variation. ``periods`` are those of a year; default: the calendar's.

    Source: Sharpe (1994), The Sharpe ratio; annualised by ``sqrt(periods)``, which holds for uncorrelated returns.
    """
    data = _returns(returns)
    if data.size < 2:
        return float("nan")
    deviation = float(data.std(ddof=1))
    if deviation <= _ROUNDING * float(np.abs(data).max()):
        return float("nan")
    return float(data.mean() / deviation * np.sqrt(periods or calendar.sessions_per_year()))


def sortino_ratio(returns: ArrayLike, periods: int | None = None) -> float:
    """Annualised mean over downside deviation, ``sqrt(mean(min(r, 0) ** 2))``, of returns in excess of cash.

    NaN without a session, beyond rounding, that lost. ``periods`` are those of a year; default: the calendar's.

    Source: Sortino and Price (1994), Performance measurement in a downside risk framework.
    """
    data = _returns(returns)
    downside = float(np.sqrt(np.mean(np.minimum(data, 0.0) ** 2)))
    if downside <= _ROUNDING * float(np.abs(data).max()):
        return float("nan")
    return float(data.mean() / downside * np.sqrt(periods or calendar.sessions_per_year()))


def annual_return(returns: ArrayLike, periods: int | None = None) -> float:
    """Compounded return per year; -1 for a book that was wiped out, at most the largest float."""
    growth = _log_equity(returns)
    per_year = (periods or calendar.sessions_per_year()) / growth.size * growth[-1]
    return float(np.expm1(min(per_year, _LARGEST_LOG)))


def calmar_ratio(returns: ArrayLike, periods: int | None = None) -> float:
    """Compounded return per year over the largest drawdown; NaN without a drawdown.

    Source: Young (1991), Calmar ratio: a smoother tool; here over the whole series, not over three years.
    """
    drawdown = max_drawdown(returns)
    return annual_return(returns, periods) / -drawdown if drawdown < 0 else float("nan")


def max_drawdown(returns: ArrayLike) -> float:
    """Largest loss from a peak of the equity curve, its start included: in [-1, 0]."""
    value = np.concatenate([[0.0], _log_equity(returns)])
    return float(np.expm1(np.min(value - np.maximum.accumulate(value))))


def win_rate(returns: ArrayLike) -> float:
    """Share of gains among the sessions that gained or lost; NaN when there are none."""
    data = _returns(returns)
    moved = data[data != 0]
    return float(np.mean(moved > 0)) if moved.size else float("nan")


def moments(returns: ArrayLike) -> tuple[float, float] | None:
    """Skewness and kurtosis (3 for a normal distribution); ``None`` without variation."""
    data = vector("returns", returns)
    deviation = float(data.std())
    if not deviation > 0:
        return None
    standardised = (data - float(data.mean())) / deviation
    return float((standardised**3).mean()), float((standardised**4).mean())


def _log_equity(returns: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the equity curve: a product of many large gains would overflow."""
    with np.errstate(divide="ignore"):  # of nothing left it is minus infinity
        return np.cumsum(np.log1p(_returns(returns)))


def _returns(returns: ArrayLike) -> NDArray[np.float64]:
    data = vector("returns", returns)
    if data.min() < -1:
        raise ValueError(f"returns must be at least -1 (simple returns), found {data.min():g}")
    return data
