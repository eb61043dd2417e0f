"""Daily bars as tensors, and the series that many features share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from financial_assets.features import rolling

SCALE_WINDOW = 60
SCALE_LOOKBACK = SCALE_WINDOW + 1
"""Bars behind ``daily_scale``: 60 returns need 61 closes."""

RISKMETRICS_DECAY = 0.94
VOLATILITY_FLOOR = 1e-4
"""Smallest daily volatility: a basis point, so that a halted ticker divides nothing by zero."""

CAUSAL_VOLATILITY_LOOKBACK = rolling.ema_bars(RISKMETRICS_DECAY) + 1
"""Bars behind ``causal_volatility``."""


class Bars(NamedTuple):
    """One tensor ``[..., session]`` per channel, oldest session first.

    Attributes
    ----------
    open, high, low, close
        Prices adjusted for splits and dividends.
    volume
        Shares traded, adjusted likewise.
    market
        Level of the benchmark.
    day
        Days since 1970-01-01 of the session.
    covariates
        Further channels, see ``market.covariates``: one tensor each, in any unit.
    """

    open: Tensor
    high: Tensor
    low: Tensor
    close: Tensor
    volume: Tensor
    market: Tensor
    day: Tensor
    covariates: tuple[Tensor, ...] = ()


BAR_CHANNELS = Bars._fields[:-1]
"""Channels that every bar has; covariates come behind them."""


def split_channels(x: Tensor) -> Bars:
    """Bars from a tensor ``[..., 7 + covariates, session]`` in the channel order of ``PricePanel``.

    Raises
    ------
    ValueError
        If the last axis but one has fewer than seven channels.
    """
    if x.dim() < 2 or x.shape[-2] < len(BAR_CHANNELS):
        raise ValueError(f"bars are [..., 7 channels and covariates, session], not {tuple(x.shape)}")
    channels = [x[..., channel, :] for channel in range(x.shape[-2])]
    return Bars(*channels[: len(BAR_CHANNELS)], covariates=tuple(channels[len(BAR_CHANNELS) :]))


def log_return(bars: Bars, bars_back: int = 1) -> Tensor:
    """``log(close / close[-n])``."""
    return rolling.log_ratio(bars.close, rolling.lag(bars.close, bars_back))


def squared_return(bars: Bars) -> Tensor:
    """Square of the daily log return."""
    returns = log_return(bars)
    return returns * returns


def absolute_return(bars: Bars) -> Tensor:
    """Absolute daily log return."""
    return log_return(bars).abs()


def market_return(bars: Bars, bars_back: int = 1) -> Tensor:
    """``log(market / market[-n])``."""
    return rolling.log_ratio(bars.market, rolling.lag(bars.market, bars_back))


def true_range(bars: Bars) -> Tensor:
    """Wilder's true range: today's range, widened to yesterday's close."""
    previous = rolling.lag(bars.close, 1)
    return torch.maximum(bars.high, previous) - torch.minimum(bars.low, previous)


def typical_price(bars: Bars) -> Tensor:
    """``(high + low + close) / 3``."""
    return (bars.high + bars.low + bars.close) / 3.0


def range_variance(bars: Bars, window: int) -> Tensor:
    """Variance of a session, close to close, from its range: the mean of the last ``window`` sessions.

    The squared gap from the last close to the open, and Garman and Klass's estimate of the hours after it,
    ``log(high / low) ** 2 / 2 - (2 log 2 - 1) log(close / open) ** 2``. It is 0 without a gap and a range, and not
    negative but for bars that are impossible or rounded: whoever needs a positive number floors it.

    Source: Garman and Klass (1980), On the estimation of security price volatilities from historical data.
    """
    gap = rolling.log_ratio(bars.open, rolling.lag(bars.close, 1))
    span, body = rolling.log_ratio(bars.high, bars.low), rolling.log_ratio(bars.close, bars.open)
    # Each is averaged before they are added up: as weighted sums of squares that other features need as well they cost
    # an exported graph next to nothing.
    gaps, spans, bodies = (
        squares if window == 1 else rolling.mean(squares, window) for squares in (gap * gap, span * span, body * body)
    )
    return gaps + 0.5 * spans - (2.0 * math.log(2.0) - 1.0) * bodies


def daily_scale(bars: Bars) -> Tensor:
    """Root mean square of the last 60 daily log returns: the unit in which moves of a ticker are measured."""
    return torch.sqrt(rolling.mean(squared_return(bars), SCALE_WINDOW))


def in_daily_scale(bars: Bars, move: Tensor, sessions: int = 1) -> Tensor:
    """A log move over ``sessions`` days in units of what a random walk would move; 0 for a ticker that never moves."""
    return rolling.ratio(move, daily_scale(bars) * sessions**0.5)


def causal_volatility(bars: Bars) -> Tensor:
    """Daily volatility known at the close: RiskMetrics' EWMA of squared log returns.

    Source: J.P. Morgan/Reuters, RiskMetrics Technical Document (1996), decay 0.94.

    Returns
    -------
    Tensor
        ``[..., session]``, at least ``VOLATILITY_FLOOR``; looks back ``CAUSAL_VOLATILITY_LOOKBACK`` bars.
    """
    return torch.clamp(torch.sqrt(ewma_variance(bars)), min=VOLATILITY_FLOOR)


def ewma_variance(bars: Bars) -> Tensor:
    """The square of ``causal_volatility``, not floored."""
    return rolling.ema(squared_return(bars), RISKMETRICS_DECAY)


HAR_WINDOWS = (1, 5, 22)
"""Sessions of the range-based variances that a forecast of the volatility is made of: a day, a week, a month."""

LONG_RUN_WINDOW = 60
"""Sessions of the range-based variance that stands for the level a ticker returns to: about a quarter."""

KNOWN_VARIANCES: tuple[Callable[[Bars], Tensor], ...] = (
    *(partial(range_variance, window=window) for window in (*HAR_WINDOWS, LONG_RUN_WINDOW)),
    ewma_variance,
)
"""What forecasts of the volatility are made of (``models.volatility``): daily variances known at the close, by several
estimates; they look back as far as ``causal_volatility``."""
