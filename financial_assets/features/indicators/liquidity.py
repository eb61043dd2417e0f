"""What a trade costs, estimated from daily bars alone: effective bid-ask spreads."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import Bars, log_return
from financial_assets.features.feature import Feature

_feature = partial(Feature, "liquidity")

_TWO_DAY_SHARE = 3.0 - 2.0 * 2.0**0.5
"""Corwin and Schultz's 3 - 2 sqrt(2): how a range of two days grows beside two ranges of one day."""


def _corwin_schultz(bars: Bars) -> Tensor:
    """Spread of two adjacent days, a share of the price.

    A day's range holds the volatility and the spread; a range of two days holds twice the variance and still one
    spread, which tells them apart (equations 14 and 18). A gap over yesterday's close is taken out of today's bar as in
    the article; estimates below zero count as zero.
    """
    previous_close = rolling.lag(bars.close, 1)
    gap = torch.clamp(bars.low - previous_close, min=0.0) + torch.clamp(bars.high - previous_close, max=0.0)
    high, low = bars.high - gap, bars.low - gap
    previous_high, previous_low = rolling.lag(bars.high, 1), rolling.lag(bars.low, 1)
    today, yesterday = rolling.log_ratio(high, low), rolling.log_ratio(previous_high, previous_low)
    both = rolling.log_ratio(torch.maximum(high, previous_high), torch.minimum(low, previous_low))
    beta = today * today + yesterday * yesterday
    alpha = (torch.sqrt(2.0 * beta) - torch.sqrt(beta)) / _TWO_DAY_SHARE - both * (1.0 / _TWO_DAY_SHARE**0.5)
    alpha = torch.clamp(alpha, 0.0, 1.0)
    # 2 (e^alpha - 1) / (e^alpha + 1) as its Pade approximant, 1e-6 apart up to 1: exponentials round differently in
    # vectorised and scalar code, and a panel must agree with a window bit for bit.
    square = alpha * alpha
    return alpha * (60.0 + square) / (60.0 + 6.0 * square)


def _roll(bars: Bars) -> Tensor:
    """Spread from the bounce between bid and ask: 2 sqrt(-covariance of adjacent returns), 0 where they trend."""
    returns = log_return(bars)
    covariance = rolling.product_moments(returns, rolling.lag(returns, 1), 60)[2] / 60.0
    return 2.0 * torch.sqrt(torch.clamp(-covariance, min=0.0))


FEATURES: tuple[Feature, ...] = (
    _feature(
        "corwin_schultz_spread_20",
        21,
        "100 * average over 20 bars of the high-low spread of two adjacent days, none below 0",
        "Corwin and Schultz (2012)",
        lambda bars: 100.0 * rolling.mean(_corwin_schultz(bars), 20),
        bounds=(0.0, 20.0),
    ),
    _feature(
        "roll_spread_60",
        62,
        "100 * 2 sqrt(-covariance of r and r[-1]) over 60 bars; 0 where the covariance is positive",
        "Roll (1984), on log returns",
        lambda bars: 100.0 * _roll(bars),
        bounds=(0.0, 20.0),
    ),
)
