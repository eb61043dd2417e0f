"""How much prices move, and how that changes."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import (
    CAUSAL_VOLATILITY_LOOKBACK,
    VOLATILITY_FLOOR,
    Bars,
    absolute_return,
    causal_volatility,
    in_daily_scale,
    log_return,
    squared_return,
    true_range,
)
from financial_assets.features.feature import Feature
from financial_assets.features.indicators.trend import close_ema, close_mean
from financial_assets.features.rolling import ema_bars, span_decay, wilder_decay

_feature = partial(Feature, "volatility")

SESSIONS_PER_YEAR = 252
ANNUAL = SESSIONS_PER_YEAR**0.5
ANNUAL_BOUNDS = (0.0, 5.0)
BOLLINGER = "Bollinger (2001)"
SKEW_KURTOSIS = "Amaya, Christoffersen, Jacobs and Vasquez (2015), on daily returns"


def return_std(bars: Bars, window: int) -> Tensor:
    """Standard deviation of daily log returns."""
    return rolling.std(log_return(bars), window)


def _rogers_satchell_term(bars: Bars) -> Tensor:
    above = rolling.log_ratio(bars.high, bars.close) * rolling.log_ratio(bars.high, bars.open)
    return above + rolling.log_ratio(bars.low, bars.close) * rolling.log_ratio(bars.low, bars.open)


def _annual_root(variance: Tensor) -> Tensor:
    return ANNUAL * torch.sqrt(torch.clamp(variance, min=0.0))


def _parkinson(bars: Bars, window: int) -> Tensor:
    spread = rolling.log_ratio(bars.high, bars.low)
    return _annual_root(rolling.mean(spread * spread, window) / (4.0 * math.log(2.0)))


def _yang_zhang(bars: Bars, window: int) -> Tensor:
    overnight = rolling.moments(rolling.log_ratio(bars.open, rolling.lag(bars.close, 1)), window)[1] / (window - 1)
    intraday = rolling.moments(rolling.log_ratio(bars.close, bars.open), window)[1] / (window - 1)
    weight = 0.34 / (1.34 + (window + 1) / (window - 1))
    wandering = rolling.mean(_rogers_satchell_term(bars), window)
    return _annual_root(overnight + weight * intraday + (1.0 - weight) * wandering)


def _volatility_ratio_feature(window: int) -> Feature:
    def compute(bars: Bars) -> Tensor:
        recent = return_std(bars, window)
        return rolling.relative_difference(recent, rolling.mean(recent, 50))

    return _feature(
        f"volatility_ratio_{window}",
        window + 50,
        f"(v - m) / (v + m), v = standard deviation of {window} log returns, m = its average over 50 bars",
        "standard",
        compute,
        replaces=(f"vol_ratio_{window}",),
    )


def _volatility_feature(window: int) -> Feature:
    return _feature(
        f"volatility_{window}",
        window + 1,
        f"annualised standard deviation of {window} daily log returns",
        "standard",
        lambda bars: ANNUAL * return_std(bars, window),
        bounds=ANNUAL_BOUNDS,
        replaces=(f"volatility_{window}",) if window <= 20 else (),
    )


def _bollinger_width(bars: Bars) -> Tensor:
    """Two standard deviations of the close over 20 bars."""
    return 2.0 * rolling.std(bars.close, 20)


def _band_distance(bars: Bars, side: float) -> Tensor:
    distance = (close_mean(bars, 20) + side * _bollinger_width(bars)) - bars.close
    return in_daily_scale(bars, rolling.ratio(distance, bars.close), 20)


def _band_feature(name: str, side: float) -> Feature:
    sign = "+" if side > 0 else "-"
    return _feature(
        f"bollinger_{name}_20",
        61,
        f"(SMA(close, 20) {sign} 2 SD(close, 20) - close) / (close * scale * sqrt(20))",
        BOLLINGER,
        lambda bars: _band_distance(bars, side),
        bounds=(-4.0, 4.0),
        replaces=(f"bb_{name}",),
    )


def average_true_range(bars: Bars, period: int) -> Tensor:
    """Wilder's average of the true range."""
    return rolling.ema(true_range(bars), wilder_decay(period))


def _keltner_position(bars: Bars) -> Tensor:
    return rolling.ratio(bars.close - close_ema(bars, 20), 2.0 * average_true_range(bars, 10))


def _choppiness(bars: Bars) -> Tensor:
    # The envelope includes yesterday's close, as true range does, so that the result stays within 0 and 1.
    previous = rolling.lag(bars.close, 1)
    top = rolling.max_(torch.maximum(bars.high, previous), 14)
    bottom = rolling.min_(torch.minimum(bars.low, previous), 14)
    travelled = rolling.sum_(true_range(bars), 14)
    return torch.where(top > bottom, rolling.log_ratio(travelled, top - bottom) / math.log(14.0), 0.5)


def _downside_share(bars: Bars) -> Tensor:
    losses = torch.where(log_return(bars) < 0, squared_return(bars), 0.0)
    return rolling.ratio(rolling.sum_(losses, 20), rolling.sum_(squared_return(bars), 20), neutral=0.5)


def _skewness(bars: Bars) -> Tensor:
    squares = rolling.sum_(squared_return(bars), 60)
    cubes = rolling.sum_(squared_return(bars) * log_return(bars), 60)
    return rolling.ratio(cubes * 60.0**0.5, squares * torch.sqrt(squares))


def _kurtosis(bars: Bars) -> Tensor:
    squares = rolling.sum_(squared_return(bars), 60)
    kurtosis = rolling.ratio(
        60.0 * rolling.sum_(squared_return(bars) * squared_return(bars), 60), squares * squares, neutral=3.0
    )
    return (kurtosis - 3.0) / (kurtosis + 3.0)


def _jump_share(bars: Bars) -> Tensor:
    size = absolute_return(bars)
    smooth = (math.pi / 2.0) * rolling.sum_(size * rolling.lag(size, 1), 20)
    realised = rolling.sum_(squared_return(bars), 20)
    return rolling.ratio(realised - smooth, realised)


def _volatility_of_volatility(bars: Bars) -> Tensor:
    size = absolute_return(bars)
    return rolling.ratio(rolling.std(size, 20), rolling.mean(size, 20))


FEATURES: tuple[Feature, ...] = (
    *(_volatility_feature(window) for window in (5, 10, 20, 60)),
    *(_volatility_ratio_feature(window) for window in (5, 10, 20)),
    _feature(
        "ewma_volatility",
        CAUSAL_VOLATILITY_LOOKBACK,
        "annualised root of the EWMA (decay 0.94) of squared daily log returns, at least a basis point a day",
        "J.P. Morgan/Reuters, RiskMetrics (1996)",
        lambda bars: ANNUAL * causal_volatility(bars),
        neutral=ANNUAL * VOLATILITY_FLOOR,
        bounds=ANNUAL_BOUNDS,
    ),
    _feature(
        "average_true_range_14",
        ema_bars(wilder_decay(14)) + 1,
        "100 * ATR(14) / close",
        "Wilder (1978), normalised as TA-Lib's NATR",
        lambda bars: 100.0 * rolling.ratio(average_true_range(bars, 14), bars.close),
        bounds=(0.0, 50.0),
    ),
    _feature(
        "parkinson_20",
        20,
        "annualised root of mean log(high / low)^2 / (4 log 2), 20 bars",
        "Parkinson (1980)",
        lambda bars: _parkinson(bars, 20),
        bounds=ANNUAL_BOUNDS,
    ),
    _feature(
        "yang_zhang_20",
        21,
        "annualised root of overnight + k * open-to-close + (1 - k) * Rogers-Satchell variance, 20 bars",
        "Yang and Zhang (2000)",
        lambda bars: _yang_zhang(bars, 20),
        bounds=ANNUAL_BOUNDS,
    ),
    _feature(
        "bollinger_position_20",
        20,
        "(close - SMA(close, 20)) / (2 SD(close, 20))",
        BOLLINGER,
        lambda bars: rolling.ratio(bars.close - close_mean(bars, 20), _bollinger_width(bars)),
        bounds=(-2.2, 2.2),
        replaces=("bb_position",),
    ),
    _band_feature("upper", 1.0),
    _band_feature("lower", -1.0),
    _feature(
        "keltner_position_20",
        max(ema_bars(span_decay(20)), ema_bars(wilder_decay(10)) + 1),
        "(close - EMA(close, 20)) / (2 ATR(10)): -1 and 1 are the channel's edges",
        "Keltner (1960) as Raschke draws it: EMA of 20, ATR of 10",
        _keltner_position,
        bounds=(-3.0, 3.0),
    ),
    _feature(
        "squeeze_20",
        21,
        "(b - k) / (b + k), b = 2 SD(close, 20), k = 1.5 mean true range of 20 bars",
        "Carter (2005)",
        lambda bars: rolling.relative_difference(_bollinger_width(bars), 1.5 * rolling.mean(true_range(bars), 20)),
    ),
    _feature(
        "choppiness_14",
        15,
        "log(sum of true range / true envelope of 14 bars) / log(14)",
        "Dreiss (1993)",
        _choppiness,
        neutral=0.5,
        bounds=(0.0, 1.0),
    ),
    _feature(
        "downside_variance_share_20",
        21,
        "sum of squared negative log returns / sum of squared log returns, 20 bars",
        "Barndorff-Nielsen, Kinnebrock and Shephard (2010)",
        _downside_share,
        neutral=0.5,
        bounds=(0.0, 1.0),
    ),
    _feature(
        "realised_skewness_60",
        61,
        "sqrt(60) * sum r^3 / (sum r^2)^1.5",
        SKEW_KURTOSIS,
        _skewness,
        bounds=(-8.0, 8.0),
    ),
    _feature(
        "realised_kurtosis_60",
        61,
        "(k - 3) / (k + 3), k = 60 * sum r^4 / (sum r^2)^2",
        SKEW_KURTOSIS,
        _kurtosis,
    ),
    _feature(
        "jump_share_20",
        22,
        "1 - (pi / 2) * sum |r r[-1]| / sum r^2, 20 bars",
        "Barndorff-Nielsen and Shephard (2004)",
        _jump_share,
    ),
    _feature(
        "volatility_of_volatility_20",
        21,
        "standard deviation / mean of |r| over 20 bars",
        "coefficient of variation",
        _volatility_of_volatility,
        bounds=(0.0, 4.5),
    ),
)
