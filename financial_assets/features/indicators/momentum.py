"""How far and how steadily the price has moved."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import SCALE_LOOKBACK, Bars, in_daily_scale, log_return, typical_price
from financial_assets.features.feature import Feature
from financial_assets.features.indicators.trend import channel_position
from financial_assets.features.rolling import ema_bars, wilder_decay

_feature = partial(Feature, "momentum")

STOCHASTIC_WINDOW = 14

_MOMENTUM_REPLACES: dict[int, tuple[str, ...]] = {
    1: ("Daily_Return", "Close_lag_1"),
    2: ("Close_lag_2",),
    3: ("Close_lag_3", "momentum_3"),
    4: ("Close_lag_4",),
    5: ("Close_lag_5", "momentum_5"),
    10: ("momentum_10",),
    20: ("momentum_20",),
}


def _momentum(window: int) -> Feature:
    return _feature(
        f"momentum_{window}",
        max(window + 1, SCALE_LOOKBACK),
        f"log(close / close[-{window}]) / (scale * sqrt({window}))",
        "Jegadeesh and Titman (1993), volatility-scaled as Moskowitz, Ooi and Pedersen (2012)",
        lambda bars: in_daily_scale(bars, log_return(bars, window), window),
        bounds=(-6.0, 6.0),
        replaces=_MOMENTUM_REPLACES.get(window, ()),
    )


def _centred_rsi(bars: Bars, period: int) -> Tensor:
    """``RSI / 50 - 1``: (gains - losses) / (gains + losses), averaged."""
    change, decay = rolling.diff(bars.close), wilder_decay(period)
    return rolling.ratio(rolling.ema(change, decay), rolling.ema(change.abs(), decay))


def _rsi(period: int) -> Feature:
    return _feature(
        f"rsi_{period}",
        ema_bars(wilder_decay(period)) + 1,
        f"RSI({period}) / 50 - 1, Wilder smoothing",
        "Wilder (1978)",
        lambda bars: _centred_rsi(bars, period),
        replaces=(f"rsi_{period}", "RSI_Close_14") if period == 14 else (f"rsi_{period}",),
    )


def _stochastic_k(bars: Bars) -> Tensor:
    return channel_position(bars, STOCHASTIC_WINDOW)


def _commodity_channel(bars: Bars, window: int) -> Tensor:
    """Lambert's CCI / 100: the factor 0.015 puts most values between -1 and 1."""
    price = typical_price(bars)
    deviation = rolling.mean_absolute_deviation(price, window)
    return rolling.ratio(price - rolling.mean(price, window), 1.5 * deviation)


def _efficiency(bars: Bars, window: int) -> Tensor:
    path = rolling.sum_(rolling.diff(bars.close).abs(), window)
    return rolling.ratio(rolling.diff(bars.close, window), path)


def _risk_adjusted(bars: Bars, window: int) -> Tensor:
    moments = rolling.moments(log_return(bars), window)
    return rolling.ratio(moments[0] * float(window), torch.sqrt(moments[1]))


FEATURES: tuple[Feature, ...] = (
    *(_momentum(window) for window in (1, 2, 3, 4, 5, 10, 20, 60, 120)),
    *(_rsi(period) for period in (9, 14, 21)),
    _feature(
        "stochastic_k_14",
        STOCHASTIC_WINDOW,
        "%K(14) / 50 - 1",
        "Lane (1984)",
        _stochastic_k,
    ),
    _feature(
        "stochastic_d_14_3",
        STOCHASTIC_WINDOW + 2,
        "SMA(%K(14), 3) / 50 - 1",
        "Lane (1984)",
        lambda bars: rolling.mean(_stochastic_k(bars), 3),
    ),
    _feature(
        "williams_r_10",
        10,
        "%R(10) / 50 + 1, %R = -100 (max(high, 10) - close) / (max(high, 10) - min(low, 10))",
        "Williams (1973)",
        lambda bars: channel_position(bars, 10),
    ),
    _feature(
        "commodity_channel_20",
        20,
        "CCI(20) / 100 = (typical price - m) / (1.5 * mean |typical price - m|), m = SMA(typical price, 20)",
        "Lambert (1980)",
        lambda bars: _commodity_channel(bars, 20),
        bounds=(-5.0, 5.0),
    ),
    _feature(
        "efficiency_ratio_10",
        11,
        "(close - close[-10]) / sum of |daily change|, 10 bars",
        "Kaufman (1995), signed",
        lambda bars: _efficiency(bars, 10),
    ),
    _feature(
        "up_day_balance_20",
        21,
        "(days up - days down) / 20",
        "psychological line; Da, Gurun and Warachka (2014)",
        lambda bars: rolling.sum_(rolling.signed(rolling.diff(bars.close)), 20) / 20,
    ),
    _feature(
        "risk_adjusted_return_20",
        21,
        "sqrt(20) * mean / standard deviation of 20 daily log returns",
        "Sharpe (1966)",
        lambda bars: _risk_adjusted(bars, 20),
        bounds=(-8.0, 8.0),
    ),
)
