"""The shape of single bars: gaps, bodies, shadows."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import SCALE_LOOKBACK, Bars, in_daily_scale, true_range
from financial_assets.features.feature import Feature

_feature = partial(Feature, "bar_shape")

NISON = "candlestick charting; Nison (1991)"


def _overnight(bars: Bars) -> Tensor:
    return rolling.log_ratio(bars.open, rolling.lag(bars.close, 1))


def _intraday(bars: Bars) -> Tensor:
    return rolling.log_ratio(bars.close, bars.open)


def _range_overlap(bars: Bars) -> Tensor:
    high, low = rolling.lag(bars.high, 1), rolling.lag(bars.low, 1)
    common = torch.minimum(bars.high, high) - torch.maximum(bars.low, low)
    return rolling.ratio(common, torch.maximum(bars.high, high) - torch.minimum(bars.low, low))


def _overnight_share(bars: Bars) -> Tensor:
    moved = rolling.sum_(_overnight(bars).abs() + _intraday(bars).abs(), 20)
    return rolling.ratio(rolling.sum_(_overnight(bars) - _intraday(bars), 20), moved)


FEATURES: tuple[Feature, ...] = (
    _feature(
        "gap",
        SCALE_LOOKBACK,
        "log(open / close[-1]) / scale",
        "overnight return",
        lambda bars: in_daily_scale(bars, _overnight(bars)),
        bounds=(-6.0, 6.0),
        replaces=("gap",),
    ),
    _feature(
        "intraday_return",
        SCALE_LOOKBACK,
        "log(close / open) / scale",
        "open-to-close return",
        lambda bars: in_daily_scale(bars, _intraday(bars)),
        bounds=(-6.0, 6.0),
        replaces=("intraday_return", "Open"),
    ),
    _feature(
        "high_low_range",
        SCALE_LOOKBACK,
        "log(high / low) / scale",
        "Parkinson (1980)",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(bars.high, bars.low)),
        bounds=(0.0, 10.0),
        replaces=("high_low_ratio",),
    ),
    _feature(
        "close_vs_high",
        SCALE_LOOKBACK,
        "log(close / high) / scale",
        "standard",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(bars.close, bars.high)),
        bounds=(-6.0, 0.0),
        replaces=("close_vs_high", "High"),
    ),
    _feature(
        "close_vs_low",
        SCALE_LOOKBACK,
        "log(close / low) / scale",
        "standard",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(bars.close, bars.low)),
        bounds=(0.0, 6.0),
        replaces=("close_vs_low", "Low"),
    ),
    _feature(
        "close_location",
        1,
        "(2 close - high - low) / (high - low)",
        "Chaikin (1980s)",
        lambda bars: rolling.ratio((bars.close - bars.low) - (bars.high - bars.close), bars.high - bars.low),
    ),
    _feature(
        "body",
        1,
        "(close - open) / (high - low)",
        NISON,
        lambda bars: rolling.ratio(bars.close - bars.open, bars.high - bars.low),
    ),
    _feature(
        "upper_shadow",
        1,
        "(high - max(open, close)) / (high - low)",
        NISON,
        lambda bars: rolling.ratio(bars.high - torch.maximum(bars.open, bars.close), bars.high - bars.low),
        bounds=(0.0, 1.0),
    ),
    _feature(
        "lower_shadow",
        1,
        "(min(open, close) - low) / (high - low)",
        NISON,
        lambda bars: rolling.ratio(torch.minimum(bars.open, bars.close) - bars.low, bars.high - bars.low),
        bounds=(0.0, 1.0),
    ),
    _feature(
        "range_expansion_14",
        15,
        "(t - m) / (t + m), t = true range, m = its average over 14 bars",
        "Crabel (1990)",
        lambda bars: rolling.relative_difference(true_range(bars), rolling.mean(true_range(bars), 14)),
    ),
    _feature(
        "range_overlap",
        2,
        "overlap of today's and yesterday's high-low ranges / their union; negative when apart",
        "inside and outside days; Crabel (1990)",
        _range_overlap,
    ),
    _feature(
        "overnight_share_20",
        21,
        "(overnight - intraday log returns) / (sum of their sizes), 20 bars",
        "Lou, Polk and Skouras (2019)",
        _overnight_share,
    ),
)
