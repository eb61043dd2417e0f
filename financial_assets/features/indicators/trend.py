"""Where the price stands relative to its own past, and which way that points."""

from __future__ import annotations

from functools import partial, reduce

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import SCALE_LOOKBACK, Bars, in_daily_scale
from financial_assets.features.feature import Feature
from financial_assets.features.rolling import ema_bars, span_decay, wilder_decay

_feature = partial(Feature, "trend")

APPEL = "Appel (1979)"
WILDER = "Wilder (1978)"
MACD_FAST, MACD_SLOW, MACD_SIGNAL = 12, 26, 9
WILDER_PERIOD = 14

_SMA_REPLACES: dict[int, tuple[str, ...]] = {
    5: ("SMA_Close_5",),
    10: ("SMA_Close_10", "price_vs_sma_10"),
    20: ("SMA_Close_20", "price_vs_sma_20"),
    50: ("price_vs_sma_50",),
    100: ("Close",),
}


def close_mean(bars: Bars, window: int) -> Tensor:
    """Simple moving average of the close."""
    return rolling.mean(bars.close, window)


def close_ema(bars: Bars, span: int) -> Tensor:
    """Exponential moving average of the close."""
    return rolling.ema(bars.close, span_decay(span))


def highest(bars: Bars, window: int) -> Tensor:
    """Highest high."""
    return rolling.max_(bars.high, window)


def lowest(bars: Bars, window: int) -> Tensor:
    """Lowest low."""
    return rolling.min_(bars.low, window)


def channel_position(bars: Bars, window: int) -> Tensor:
    """Close within the range of the window: -1 at its low, 1 at its high, 0 in the middle or without a range."""
    high, low = highest(bars, window), lowest(bars, window)
    return rolling.ratio((bars.close - low) - (high - bars.close), high - low)


def _close_vs_sma(window: int) -> Feature:
    return _feature(
        f"close_vs_sma_{window}",
        max(window, SCALE_LOOKBACK),
        f"log(close / SMA(close, {window})) / (scale * sqrt({window}))",
        "simple moving average; Brock, Lakonishok and LeBaron (1992)",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(bars.close, close_mean(bars, window)), window),
        bounds=(-4.0, 4.0),
        replaces=_SMA_REPLACES.get(window, ()),
    )


def _close_vs_ema(span: int) -> Feature:
    return _feature(
        f"close_vs_ema_{span}",
        max(ema_bars(span_decay(span)), SCALE_LOOKBACK),
        f"log(close / EMA(close, {span})) / (scale * sqrt({span}))",
        "exponential moving average; Hunter (1986)",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(bars.close, close_ema(bars, span)), span),
        bounds=(-4.0, 4.0),
    )


def _sma_cross(fast: int, slow: int) -> Feature:
    return _feature(
        f"sma_cross_{fast}_{slow}",
        max(slow, SCALE_LOOKBACK),
        f"log(SMA(close, {fast}) / SMA(close, {slow})) / (scale * sqrt({slow}))",
        "moving-average crossover; Brock, Lakonishok and LeBaron (1992)",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(close_mean(bars, fast), close_mean(bars, slow)), slow),
        bounds=(-3.0, 3.0),
    )


def _above_ema(bars: Bars, span: int) -> Tensor:
    """The close minus its EMA, from the EMA of daily changes: the two levels would cancel to their rounding."""
    decay = span_decay(span)
    return rolling.ema(rolling.diff(bars.close), decay) * (decay / (1.0 - decay))


def _macd_line(bars: Bars) -> Tensor:
    return _above_ema(bars, MACD_SLOW) - _above_ema(bars, MACD_FAST)


def _macd_signal_line(bars: Bars) -> Tensor:
    return rolling.ema(_macd_line(bars), span_decay(MACD_SIGNAL))


def _in_macd_units(bars: Bars, line: Tensor) -> Tensor:
    return in_daily_scale(bars, rolling.ratio(line, close_ema(bars, MACD_SLOW)), MACD_SLOW)


_MACD_BARS = max(ema_bars(span_decay(MACD_SLOW)) + 1, SCALE_LOOKBACK)
_MACD_SIGNAL_BARS = ema_bars(span_decay(MACD_SLOW)) + ema_bars(span_decay(MACD_SIGNAL))
_MACD_UNIT = f"(EMA(close, {MACD_SLOW}) * scale * sqrt({MACD_SLOW}))"


def _directional_difference(bars: Bars) -> Tensor:
    """Wilder's (+DI - -DI) / (+DI + -DI); the average true range cancels."""
    up, down = rolling.diff(bars.high), -rolling.diff(bars.low)
    plus = torch.where((up > down) & (up > 0), up, 0.0)
    minus = torch.where((down > up) & (down > 0), down, 0.0)
    decay = wilder_decay(WILDER_PERIOD)
    return rolling.relative_difference(rolling.ema(plus, decay), rolling.ema(minus, decay))


def _aroon(bars: Bars, window: int) -> Tensor:
    since_high = rolling.age_of_max(bars.high, window + 1)
    since_low = rolling.age_of_max(-bars.low, window + 1)
    return (since_low - since_high) / window


FIBONACCI_LEVELS = (0.0, 0.236, 0.382, 0.5, 0.618, 0.786, 1.0)
"""Shares of a swing at which charts look for a turn: powers of the golden ratio, and the half."""


def _retracement(bars: Bars, window: int) -> Tensor:
    """How much of the window's last swing is undone: 0 at its end, 1 back at its start, 1/2 without a range."""
    high, low = highest(bars, window), lowest(bars, window)
    is_up_swing = rolling.age_of_max(bars.high, window) < rolling.age_of_max(-bars.low, window)
    undone = torch.where(is_up_swing, high - bars.close, bars.close - low)
    return rolling.ratio(undone, high - low, neutral=0.5)


def _fibonacci_distance(bars: Bars, window: int) -> Tensor:
    retracement = _retracement(bars, window)
    distances = [(retracement - level).abs() for level in FIBONACCI_LEVELS]
    return 4.0 * reduce(torch.minimum, distances)


def _time_correlation(bars: Bars, window: int) -> Tensor:
    """Correlation of the close with time: the sign and, squared, the R2 of a straight line through the window."""
    product = rolling.time_moment(bars.close, window)[1]
    squares = rolling.moments(bars.close, window)[1]
    # The sum of squared deviations of 1, 2, ... window.
    time_squares = window * (window * window - 1) / 12.0
    return rolling.ratio(product, torch.sqrt(squares) * time_squares**0.5)


def _time_correlation_feature(window: int) -> Feature:
    return _feature(
        f"trend_correlation_{window}",
        window,
        f"Pearson correlation of close and time over {window} bars",
        "linear regression; its square is R2",
        lambda bars: _time_correlation(bars, window),
    )


def _channel(window: int) -> Feature:
    return _feature(
        f"donchian_position_{window}",
        window,
        f"(2 close - max(high, {window}) - min(low, {window})) / (max(high, {window}) - min(low, {window}))",
        "Donchian (1960)",
        lambda bars: channel_position(bars, window),
    )


def _high_distance(window: int) -> Feature:
    return _feature(
        f"high_distance_{window}",
        max(window, SCALE_LOOKBACK),
        f"log(close / max(high, {window})) / (scale * sqrt({window}))",
        "George and Hwang (2004), nearness to the high",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(bars.close, highest(bars, window)), window),
        bounds=(-4.0, 0.0),
    )


FEATURES: tuple[Feature, ...] = (
    *(_close_vs_sma(window) for window in (5, 10, 20, 50, 100)),
    *(_close_vs_ema(span) for span in (26, 50)),
    _sma_cross(20, 100),
    _feature(
        "macd",
        _MACD_BARS,
        f"(EMA(close, {MACD_FAST}) - EMA(close, {MACD_SLOW})) / {_MACD_UNIT}",
        APPEL,
        lambda bars: _in_macd_units(bars, _macd_line(bars)),
        bounds=(-4.0, 4.0),
        replaces=("macd",),
    ),
    _feature(
        "macd_signal",
        _MACD_SIGNAL_BARS,
        f"EMA(EMA(close, {MACD_FAST}) - EMA(close, {MACD_SLOW}), {MACD_SIGNAL}) / {_MACD_UNIT}",
        APPEL,
        lambda bars: _in_macd_units(bars, _macd_signal_line(bars)),
        bounds=(-4.0, 4.0),
        replaces=("macd_signal",),
    ),
    _feature(
        "macd_histogram",
        _MACD_SIGNAL_BARS,
        f"(MACD line - its EMA of {MACD_SIGNAL}) / {_MACD_UNIT}",
        APPEL,
        lambda bars: _in_macd_units(bars, _macd_line(bars) - _macd_signal_line(bars)),
        bounds=(-2.0, 2.0),
        replaces=("macd_histogram",),
    ),
    _feature(
        "directional_difference_14",
        ema_bars(wilder_decay(WILDER_PERIOD)) + 1,
        "(+DI - -DI) / (+DI + -DI), Wilder smoothing of 14",
        WILDER,
        _directional_difference,
    ),
    _feature(
        "adx_14",
        2 * ema_bars(wilder_decay(WILDER_PERIOD)),
        "Wilder average (14) of |+DI - -DI| / (+DI + -DI)",
        WILDER,
        lambda bars: rolling.ema(_directional_difference(bars).abs(), wilder_decay(WILDER_PERIOD)),
        bounds=(0.0, 1.0),
    ),
    _feature(
        "aroon_oscillator_25",
        26,
        "(bars since min(low, 26) - bars since max(high, 26)) / 25",
        "Chande (1995)",
        lambda bars: _aroon(bars, 25),
    ),
    _time_correlation_feature(20),
    _time_correlation_feature(60),
    _channel(20),
    _channel(60),
    _feature(
        "fibonacci_retracement_60",
        60,
        "share of the swing between max(high, 60) and min(low, 60), from the older to the newer, that is undone",
        "Fibonacci retracement; Fischer (1993)",
        lambda bars: _retracement(bars, 60),
        neutral=0.5,
        bounds=(0.0, 1.0),
    ),
    _feature(
        "fibonacci_distance_60",
        60,
        f"4 * distance of the retracement from the nearest of {', '.join(f'{level:g}' for level in FIBONACCI_LEVELS)}",
        "Fibonacci retracement; Fischer (1993)",
        lambda bars: _fibonacci_distance(bars, 60),
        bounds=(0.0, 0.5),
    ),
    _high_distance(20),
    _high_distance(120),
)
