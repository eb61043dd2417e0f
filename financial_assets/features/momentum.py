"""How far and how steadily the price has moved."""

from __future__ import annotations

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import SCALE_LOOKBACK, Bars, in_daily_scale, log_return, shared, true_range
from financial_assets.features.feature import Feature, define
from financial_assets.features.rolling import ema_bars, span_decay, wilder_decay
from financial_assets.features.trend import channel_position

__all__ = ["FEATURES"]

STOCHASTIC_WINDOW = 14

_MOMENTUM_REPLACES: dict[int, tuple[str, ...]] = {
    1: ("Daily_Return", "Close", "Close_lag_1"),
    2: ("Close_lag_2",),
    3: ("Close_lag_3", "momentum_3"),
    4: ("Close_lag_4",),
    5: ("Close_lag_5", "momentum_5"),
    10: ("momentum_10",),
    20: ("momentum_20",),
}


def _momentum(window: int) -> Feature:
    return define(
        f"momentum_{window}",
        "momentum",
        max(window + 1, SCALE_LOOKBACK),
        f"log(close / close[-{window}]) / (scale * sqrt({window}))",
        "Jegadeesh and Titman (1993), volatility-scaled as Moskowitz, Ooi and Pedersen (2012)",
        lambda bars: in_daily_scale(bars, log_return(bars, window), window),
        bounds=(-6.0, 6.0),
        replaces=_MOMENTUM_REPLACES.get(window, ()),
    )


@shared
def _gains(bars: Bars) -> Tensor:
    return torch.clamp(rolling.diff(bars.close), min=0.0)


@shared
def _losses(bars: Bars) -> Tensor:
    return torch.clamp(-rolling.diff(bars.close), min=0.0)


@shared
def _centred_rsi(bars: Bars, period: int) -> Tensor:
    """``RSI / 50 - 1``."""
    decay = wilder_decay(period)
    return rolling.relative_difference(rolling.ema(_gains(bars), decay), rolling.ema(_losses(bars), decay))


def _rsi(period: int) -> Feature:
    return define(
        f"rsi_{period}",
        "momentum",
        ema_bars(wilder_decay(period)) + 1,
        f"RSI({period}) / 50 - 1, Wilder smoothing",
        "Wilder (1978)",
        lambda bars: _centred_rsi(bars, period),
        replaces=(f"rsi_{period}", "RSI_Close_14") if period == 14 else (f"rsi_{period}",),
    )


@shared
def _stochastic_k(bars: Bars) -> Tensor:
    return channel_position(bars, STOCHASTIC_WINDOW)


def _stochastic_rsi(bars: Bars) -> Tensor:
    strength = _centred_rsi(bars, 14)
    high, low = rolling.max_(strength, 14), rolling.min_(strength, 14)
    return rolling.ratio((strength - low) - (high - strength), high - low)


def _chande(bars: Bars, window: int) -> Tensor:
    return rolling.relative_difference(rolling.sum_(_gains(bars), window), rolling.sum_(_losses(bars), window))


def _true_strength(bars: Bars) -> Tensor:
    def smooth(x: Tensor) -> Tensor:
        return rolling.ema(rolling.ema(x, span_decay(25)), span_decay(13))

    return rolling.ratio(smooth(_gains(bars)) - smooth(_losses(bars)), smooth(_gains(bars)) + smooth(_losses(bars)))


def _ultimate(bars: Bars) -> Tensor:
    pressure = bars.close - torch.minimum(bars.low, rolling.lag(bars.close, 1))
    averages = [
        rolling.ratio(rolling.sum_(pressure, n), rolling.sum_(true_range(bars), n), neutral=0.5) for n in (7, 14, 28)
    ]
    return (4.0 * averages[0] + 2.0 * averages[1] + averages[2]) / 3.5 - 1.0


def _efficiency(bars: Bars, window: int) -> Tensor:
    path = rolling.sum_(rolling.diff(bars.close).abs(), window)
    return rolling.ratio(rolling.diff(bars.close, window), path)


def _up_days(bars: Bars, window: int) -> Tensor:
    change = rolling.diff(bars.close)
    sign = torch.where(change > 0, 1.0, torch.where(change < 0, -1.0, 0.0))
    return rolling.sum_(sign, window) / window


def _risk_adjusted(bars: Bars, window: int) -> Tensor:
    average, squares = rolling.moments(log_return(bars), window)
    return rolling.ratio(average * float(window), torch.sqrt(squares))


def _awesome(bars: Bars) -> Tensor:
    middle = bars.high + bars.low
    return in_daily_scale(bars, rolling.log_ratio(rolling.mean(middle, 5), rolling.mean(middle, 34)), 34)


FEATURES: tuple[Feature, ...] = (
    *(_momentum(window) for window in (1, 2, 3, 4, 5, 10, 20, 60, 120)),
    define(
        "momentum_120_skip_20",
        "momentum",
        121,
        "log(close[-20] / close[-120]) / (scale * sqrt(100))",
        "Jegadeesh (1990), the last month skipped for its reversal",
        lambda bars: in_daily_scale(bars, log_return(bars, 120) - log_return(bars, 20), 100),
        bounds=(-6.0, 6.0),
    ),
    define(
        "acceleration_10",
        "momentum",
        SCALE_LOOKBACK,
        "(log(close / close[-10]) - log(close[-10] / close[-20])) / (scale * sqrt(20))",
        "Gettleman and Marks (2006)",
        lambda bars: in_daily_scale(bars, 2.0 * log_return(bars, 10) - log_return(bars, 20), 20),
        bounds=(-6.0, 6.0),
    ),
    *(_rsi(period) for period in (9, 14, 21)),
    define(
        "stochastic_k_14",
        "momentum",
        STOCHASTIC_WINDOW,
        "%K(14) / 50 - 1",
        "Lane (1984)",
        _stochastic_k,
    ),
    define(
        "stochastic_d_14_3",
        "momentum",
        STOCHASTIC_WINDOW + 2,
        "SMA(%K(14), 3) / 50 - 1",
        "Lane (1984)",
        lambda bars: rolling.mean(_stochastic_k(bars), 3),
    ),
    define(
        "stochastic_rsi_14",
        "momentum",
        ema_bars(wilder_decay(14)) + 14,
        "position of RSI(14) within its own range of 14 bars, -1 to 1",
        "Chande and Kroll (1994)",
        _stochastic_rsi,
    ),
    define(
        "chande_momentum_14",
        "momentum",
        15,
        "(sum of gains - sum of losses) / (sum of both), 14 bars",
        "Chande (1994)",
        lambda bars: _chande(bars, 14),
    ),
    define(
        "true_strength_25_13",
        "momentum",
        ema_bars(span_decay(25)) + ema_bars(span_decay(13)),
        "EMA(EMA(change, 25), 13) / EMA(EMA(|change|, 25), 13)",
        "Blau (1991)",
        _true_strength,
    ),
    define(
        "ultimate_oscillator_7_14_28",
        "momentum",
        29,
        "weighted (4, 2, 1) buying pressure / true range over 7, 14 and 28 bars, / 50 - 1",
        "Williams (1985)",
        _ultimate,
    ),
    define(
        "efficiency_ratio_10",
        "momentum",
        11,
        "(close - close[-10]) / sum of |daily change|, 10 bars",
        "Kaufman (1995), signed",
        lambda bars: _efficiency(bars, 10),
    ),
    define(
        "efficiency_ratio_60",
        "momentum",
        61,
        "(close - close[-60]) / sum of |daily change|, 60 bars",
        "Kaufman (1995), signed",
        lambda bars: _efficiency(bars, 60),
    ),
    define(
        "up_day_balance_20",
        "momentum",
        21,
        "(days up - days down) / 20",
        "psychological line; Da, Gurun and Warachka (2014)",
        lambda bars: _up_days(bars, 20),
    ),
    define(
        "risk_adjusted_return_20",
        "momentum",
        21,
        "sqrt(20) * mean / standard deviation of 20 daily log returns",
        "Sharpe (1966)",
        lambda bars: _risk_adjusted(bars, 20),
        bounds=(-8.0, 8.0),
    ),
    define(
        "awesome_oscillator",
        "momentum",
        SCALE_LOOKBACK,
        "log(SMA(midpoint, 5) / SMA(midpoint, 34)) / (scale * sqrt(34)), midpoint = (high + low) / 2",
        "Williams (1998)",
        _awesome,
        bounds=(-3.0, 3.0),
    ),
)
