"""Where the price stands relative to its own past, and which way that points."""

from __future__ import annotations

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import (
    SCALE_LOOKBACK,
    Bars,
    in_daily_scale,
    shared,
    true_range,
)
from financial_assets.features.feature import Feature, define
from financial_assets.features.rolling import ema_bars, span_decay, wilder_decay

__all__ = ["FEATURES"]

APPEL = "Appel (1979)"
WILDER = "Wilder (1978)"
MACD_FAST, MACD_SLOW, MACD_SIGNAL = 12, 26, 9
WILDER_PERIOD = 14


@shared
def close_mean(bars: Bars, window: int) -> Tensor:
    """Simple moving average of the close."""
    return rolling.mean(bars.close, window)


@shared
def close_ema(bars: Bars, span: int) -> Tensor:
    """Exponential moving average of the close."""
    return rolling.ema(bars.close, span_decay(span))


@shared
def highest(bars: Bars, window: int) -> Tensor:
    """Highest high."""
    return rolling.max_(bars.high, window)


@shared
def lowest(bars: Bars, window: int) -> Tensor:
    """Lowest low."""
    return rolling.min_(bars.low, window)


def channel_position(bars: Bars, window: int) -> Tensor:
    """Close within the range of the window: -1 at its low, 1 at its high, 0 in the middle or without a range."""
    high, low = highest(bars, window), lowest(bars, window)
    return rolling.ratio((bars.close - low) - (high - bars.close), high - low)


def _close_vs_sma(window: int) -> Feature:
    originals = {5: ("SMA_Close_5",), 10: ("price_vs_sma_10", "SMA_Close_10"), 20: ("price_vs_sma_20", "SMA_Close_20")}
    return define(
        f"close_vs_sma_{window}",
        "trend",
        max(window, SCALE_LOOKBACK),
        f"log(close / SMA(close, {window})) / (scale * sqrt({window}))",
        "simple moving average; Brock, Lakonishok and LeBaron (1992)",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(bars.close, close_mean(bars, window)), window),
        bounds=(-4.0, 4.0),
        replaces={**originals, 50: ("price_vs_sma_50",)}.get(window, ()),
    )


def _close_vs_ema(span: int) -> Feature:
    return define(
        f"close_vs_ema_{span}",
        "trend",
        max(ema_bars(span_decay(span)), SCALE_LOOKBACK),
        f"log(close / EMA(close, {span})) / (scale * sqrt({span}))",
        "exponential moving average; Hunter (1986)",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(bars.close, close_ema(bars, span)), span),
        bounds=(-4.0, 4.0),
    )


def _sma_cross(fast: int, slow: int) -> Feature:
    return define(
        f"sma_cross_{fast}_{slow}",
        "trend",
        max(slow, SCALE_LOOKBACK),
        f"log(SMA(close, {fast}) / SMA(close, {slow})) / (scale * sqrt({slow}))",
        "moving-average crossover; Brock, Lakonishok and LeBaron (1992)",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(close_mean(bars, fast), close_mean(bars, slow)), slow),
        bounds=(-3.0, 3.0),
    )


@shared
def _macd_line(bars: Bars) -> Tensor:
    return close_ema(bars, MACD_FAST) - close_ema(bars, MACD_SLOW)


@shared
def _macd_signal_line(bars: Bars) -> Tensor:
    return rolling.ema(_macd_line(bars), span_decay(MACD_SIGNAL))


def _in_macd_units(bars: Bars, line: Tensor) -> Tensor:
    return in_daily_scale(bars, rolling.ratio(line, close_ema(bars, MACD_SLOW)), MACD_SLOW)


_MACD_BARS = max(ema_bars(span_decay(MACD_SLOW)), SCALE_LOOKBACK)
_MACD_SIGNAL_BARS = ema_bars(span_decay(MACD_SLOW)) + ema_bars(span_decay(MACD_SIGNAL)) - 1
_MACD_UNIT = f"(EMA(close, {MACD_SLOW}) * scale * sqrt({MACD_SLOW}))"


@shared
def _directional_indicators(bars: Bars) -> Tensor:
    """Wilder's +DI and -DI before division by the average true range, stacked on a new first axis."""
    up, down = rolling.diff(bars.high), -rolling.diff(bars.low)
    plus = torch.where((up > down) & (up > 0), up, 0.0)
    minus = torch.where((down > up) & (down > 0), down, 0.0)
    decay = wilder_decay(WILDER_PERIOD)
    return torch.stack((rolling.ema(plus, decay), rolling.ema(minus, decay)))


@shared
def _directional_difference(bars: Bars) -> Tensor:
    plus, minus = _directional_indicators(bars)
    return rolling.relative_difference(plus, minus)


def _adx(bars: Bars) -> Tensor:
    return rolling.ema(_directional_difference(bars).abs(), wilder_decay(WILDER_PERIOD))


def _aroon(bars: Bars, window: int) -> Tensor:
    since_high = rolling.age_of_max(bars.high, window + 1)
    since_low = rolling.age_of_max(-bars.low, window + 1)
    return (since_low - since_high) / window


def _vortex(bars: Bars, window: int) -> Tensor:
    plus = rolling.sum_((bars.high - rolling.lag(bars.low, 1)).abs(), window)
    minus = rolling.sum_((bars.low - rolling.lag(bars.high, 1)).abs(), window)
    return rolling.ratio(plus - minus, rolling.sum_(true_range(bars), window))


def _ichimoku(bars: Bars) -> Tensor:
    conversion = highest(bars, 9) + lowest(bars, 9)
    base = highest(bars, 26) + lowest(bars, 26)
    return in_daily_scale(bars, rolling.log_ratio(conversion, base), 26)


def _trix(bars: Bars) -> Tensor:
    smooth = bars.close
    for _ in range(3):
        smooth = rolling.ema(smooth, span_decay(9))
    return in_daily_scale(bars, rolling.log_ratio(smooth, rolling.lag(smooth, 1)))


def _time_correlation(bars: Bars, window: int) -> Tensor:
    """Correlation of the close with time: the sign and, squared, the R2 of a straight line through the window."""
    product = rolling.time_moment(bars.close, window)[1]
    squares = rolling.moments(bars.close, window)[1]
    return rolling.ratio(product, torch.sqrt(squares) * _time_spread(window) ** 0.5)


def _slope(bars: Bars, window: int) -> Tensor:
    average, product = rolling.time_moment(bars.close, window)
    return in_daily_scale(bars, rolling.ratio(product / _time_spread(window), average), 1) * window**0.5


def _time_spread(window: int) -> float:
    return window * (window * window - 1) / 12.0


def _time_correlation_feature(window: int) -> Feature:
    return define(
        f"trend_correlation_{window}",
        "trend",
        window,
        f"Pearson correlation of close and time over {window} bars",
        "linear regression; its square is R2",
        lambda bars: _time_correlation(bars, window),
    )


def _channel(window: int) -> Feature:
    return define(
        f"donchian_position_{window}",
        "trend",
        window,
        f"(2 close - max(high, {window}) - min(low, {window})) / (max(high, {window}) - min(low, {window}))",
        "Donchian (1960)",
        lambda bars: channel_position(bars, window),
    )


def _high_distance(window: int) -> Feature:
    return define(
        f"high_distance_{window}",
        "trend",
        max(window, SCALE_LOOKBACK),
        f"log(close / max(high, {window})) / (scale * sqrt({window}))",
        "George and Hwang (2004), nearness to the high",
        lambda bars: in_daily_scale(bars, rolling.log_ratio(bars.close, highest(bars, window)), window),
        bounds=(-4.0, 0.0),
    )


FEATURES: tuple[Feature, ...] = (
    *(_close_vs_sma(window) for window in (5, 10, 20, 50, 100)),
    *(_close_vs_ema(span) for span in (12, 26, 50)),
    _sma_cross(5, 20),
    _sma_cross(20, 100),
    define(
        "macd",
        "trend",
        _MACD_BARS,
        f"(EMA(close, {MACD_FAST}) - EMA(close, {MACD_SLOW})) / {_MACD_UNIT}",
        APPEL,
        lambda bars: _in_macd_units(bars, _macd_line(bars)),
        bounds=(-4.0, 4.0),
        replaces=("macd",),
    ),
    define(
        "macd_signal",
        "trend",
        _MACD_SIGNAL_BARS,
        f"EMA(EMA(close, {MACD_FAST}) - EMA(close, {MACD_SLOW}), {MACD_SIGNAL}) / {_MACD_UNIT}",
        APPEL,
        lambda bars: _in_macd_units(bars, _macd_signal_line(bars)),
        bounds=(-4.0, 4.0),
        replaces=("macd_signal",),
    ),
    define(
        "macd_histogram",
        "trend",
        _MACD_SIGNAL_BARS,
        f"(MACD line - its EMA of {MACD_SIGNAL}) / {_MACD_UNIT}",
        APPEL,
        lambda bars: _in_macd_units(bars, _macd_line(bars) - _macd_signal_line(bars)),
        bounds=(-2.0, 2.0),
        replaces=("macd_histogram",),
    ),
    define(
        "directional_difference_14",
        "trend",
        ema_bars(wilder_decay(WILDER_PERIOD)) + 1,
        "(+DI - -DI) / (+DI + -DI), Wilder smoothing of 14",
        WILDER,
        _directional_difference,
    ),
    define(
        "adx_14",
        "trend",
        2 * ema_bars(wilder_decay(WILDER_PERIOD)),
        "Wilder average (14) of |+DI - -DI| / (+DI + -DI)",
        WILDER,
        _adx,
        bounds=(0.0, 1.0),
    ),
    define(
        "aroon_oscillator_25",
        "trend",
        26,
        "(bars since min(low, 26) - bars since max(high, 26)) / 25",
        "Chande (1995)",
        lambda bars: _aroon(bars, 25),
    ),
    define(
        "vortex_14",
        "trend",
        15,
        "(sum |high - low[-1]| - sum |low - high[-1]|) / sum true range, 14 bars",
        "Botes and Siepman (2010)",
        lambda bars: _vortex(bars, 14),
        bounds=(-2.0, 2.0),
    ),
    define(
        "ichimoku_conversion_vs_base",
        "trend",
        SCALE_LOOKBACK,
        "log(midpoint(9) / midpoint(26)) / (scale * sqrt(26)), midpoint = (max high + min low) / 2",
        "Hosoda (1969)",
        _ichimoku,
        bounds=(-3.0, 3.0),
    ),
    define(
        "trix_9",
        "trend",
        3 * (ema_bars(span_decay(9)) - 1) + 2,
        "log change of EMA(EMA(EMA(close, 9), 9), 9) / scale",
        "Hutson (1983)",
        _trix,
        bounds=(-2.0, 2.0),
    ),
    _time_correlation_feature(20),
    _time_correlation_feature(60),
    define(
        "trend_slope_20",
        "trend",
        SCALE_LOOKBACK,
        "least-squares slope of close over 20 bars / SMA(close, 20) / scale * sqrt(20)",
        "linear regression",
        lambda bars: _slope(bars, 20),
        bounds=(-4.0, 4.0),
    ),
    _channel(20),
    _channel(60),
    _high_distance(20),
    _high_distance(120),
)
