"""How much is traded, and on which side."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import (
    SCALE_LOOKBACK,
    Bars,
    absolute_return,
    in_daily_scale,
    log_return,
    typical_price,
)
from financial_assets.features.feature import Feature
from financial_assets.features.indicators.trend import close_mean

_feature = partial(Feature, "volume")


def _volume_mean(bars: Bars, window: int) -> Tensor:
    return rolling.mean(bars.volume, window)


def _dollar_volume(bars: Bars) -> Tensor:
    return bars.close * bars.volume


def _vwap(bars: Bars) -> Tensor:
    """Volume-weighted typical price of 20 bars; 0 where nothing was traded."""
    return rolling.ratio(rolling.sum_(typical_price(bars) * bars.volume, 20), rolling.sum_(bars.volume, 20))


def _vwap_vs_sma(bars: Bars) -> Tensor:
    """(VWAP - SMA) / SMA of 20 bars from differences: the two averages would cancel to their rounding.

    A volume-weighted average exceeds the plain one by the covariance with volume / average volume.
    """
    price, volume = typical_price(bars), rolling.sum_(bars.volume, 20)
    covariance = rolling.product_moments(price, bars.volume, 20)[2]
    excess = rolling.ratio(covariance, volume) + rolling.mean(price - bars.close, 20)
    return torch.where(volume > 0, rolling.ratio(excess, close_mean(bars, 20)), 0.0)


def _volume_change(lag: int) -> Feature:
    return _feature(
        f"volume_change_{lag}",
        lag + 1,
        f"(volume - volume[-{lag}]) / (volume + volume[-{lag}])",
        "standard",
        lambda bars: rolling.relative_difference(bars.volume, rolling.lag(bars.volume, lag)),
        replaces=(f"Volume_lag_{lag}",),
    )


def _volume_vs_sma(window: int, replaces: tuple[str, ...] = ()) -> Feature:
    return _feature(
        f"volume_vs_sma_{window}",
        window,
        f"(volume - m) / (volume + m), m = SMA(volume, {window})",
        "relative volume",
        lambda bars: rolling.relative_difference(bars.volume, _volume_mean(bars, window)),
        replaces=replaces,
    )


def _balance(positive_and_negative: Tensor, size: Tensor, window: int) -> Tensor:
    return rolling.ratio(rolling.sum_(positive_and_negative, window), rolling.sum_(size, window))


def _chaikin_money_flow(bars: Bars) -> Tensor:
    location = rolling.ratio((bars.close - bars.low) - (bars.high - bars.close), bars.high - bars.low)
    return _balance(location * bars.volume, bars.volume, 20)


def _money_flow_index(bars: Bars) -> Tensor:
    price = typical_price(bars)
    change = rolling.diff(price)
    flow = torch.where(change != 0, price * bars.volume, 0.0)
    return _balance(rolling.signed(change, flow), flow, 14)


def _illiquidity(bars: Bars) -> Tensor:
    impact = rolling.ratio(absolute_return(bars), _dollar_volume(bars))
    return rolling.relative_difference(rolling.mean(impact, 20), rolling.mean(impact, 60))


def _volume_profile(bars: Bars, window: int) -> Tensor:
    return rolling.profile_position(bars.close, bars.low, bars.high, bars.volume, window)


FEATURES: tuple[Feature, ...] = (
    *(_volume_change(lag) for lag in (1, 2, 3)),
    _volume_vs_sma(20, ("volume_ratio",)),
    _volume_vs_sma(60, ("Volume",)),
    _feature(
        "volume_trend_20_60",
        60,
        "(a - b) / (a + b), a = SMA(volume, 20), b = SMA(volume, 60)",
        "relative volume",
        lambda bars: rolling.relative_difference(_volume_mean(bars, 20), _volume_mean(bars, 60)),
        replaces=("volume_sma",),
    ),
    _feature(
        "volume_variation_20",
        20,
        "SD(volume, 20) / SMA(volume, 20)",
        "coefficient of variation; Chordia, Subrahmanyam and Anshuman (2001)",
        lambda bars: rolling.ratio(rolling.std(bars.volume, 20), _volume_mean(bars, 20)),
        bounds=(0.0, 4.5),
    ),
    _feature(
        "dollar_volume_vs_sma_20",
        20,
        "(d - m) / (d + m), d = close * volume, m = SMA(d, 20)",
        "relative dollar volume",
        lambda bars: rolling.relative_difference(_dollar_volume(bars), rolling.mean(_dollar_volume(bars), 20)),
        replaces=("price_volume",),
    ),
    _feature(
        "close_vs_vwap_20",
        SCALE_LOOKBACK,
        "log(close / VWAP(20)) / (scale * sqrt(20)), VWAP of the typical price",
        "Berkowitz, Logue and Noser (1988)",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(bars.close, _vwap(bars)), 20),
        bounds=(-4.0, 4.0),
        replaces=("price_vs_vwap",),
    ),
    _feature(
        "vwap_vs_sma_20",
        SCALE_LOOKBACK,
        "(VWAP(20) - SMA(close, 20)) / (SMA(close, 20) * scale)",
        "Berkowitz, Logue and Noser (1988), against equal weights",
        lambda bars: in_daily_scale(bars, _vwap_vs_sma(bars)),
        bounds=(-4.0, 4.0),
        replaces=("vwap",),
    ),
    _feature(
        "on_balance_volume_20",
        21,
        "(volume on days up - volume on days down) / volume, 20 bars",
        "Granville (1963), over a window",
        lambda bars: _balance(rolling.signed(rolling.diff(bars.close), bars.volume), bars.volume, 20),
    ),
    _feature(
        "volume_profile_20",
        20,
        "(volume below the close - volume above it) / volume, 20 bars, each spread evenly from its low to its high",
        "volume profile; Steidlmayer (1984)",
        lambda bars: _volume_profile(bars, 20),
    ),
    _feature(
        "chaikin_money_flow_20",
        20,
        "sum of close location * volume / sum of volume, 20 bars",
        "Chaikin (1980s)",
        _chaikin_money_flow,
    ),
    _feature(
        "money_flow_index_14",
        15,
        "MFI(14) / 50 - 1",
        "Quong and Soudack (1989)",
        _money_flow_index,
    ),
    _feature(
        "price_volume_trend_20",
        21,
        "sum r * volume / sum |r| * volume, 20 bars",
        "price-volume trend over a window",
        lambda bars: _balance(log_return(bars) * bars.volume, absolute_return(bars) * bars.volume, 20),
    ),
    _feature(
        "illiquidity_trend_20_60",
        61,
        "(a - b) / (a + b), averages over 20 and 60 bars of |r| / (close * volume)",
        "Amihud (2002)",
        _illiquidity,
    ),
    _feature(
        "volume_return_correlation_20",
        21,
        "correlation of log return and volume over 20 bars",
        "Karpoff (1987)",
        lambda bars: rolling.correlation(log_return(bars), bars.volume, 20),
    ),
    _feature(
        "volume_volatility_correlation_20",
        21,
        "correlation of |log return| and volume over 20 bars",
        "Karpoff (1987)",
        lambda bars: rolling.correlation(absolute_return(bars), bars.volume, 20),
    ),
)
