"""At which horizons the price moves: wavelets, variance ratios, autocorrelations, cycles."""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import Bars, absolute_return, log_return, squared_return
from financial_assets.features.feature import Feature

_feature = partial(Feature, "spectral")

HAAR_SCALES = (2, 4, 8, 16, 32)
HAAR_WINDOW = 64
CYCLE_WINDOW = 64


def _haar_energy(bars: Bars, scale: int) -> Tensor:
    """Energy of the Haar wavelet of ``scale`` bars, in units in which white noise has the same at every scale."""
    half = rolling.sum_(log_return(bars), scale // 2)
    detail = half - rolling.lag(half, scale // 2)
    return rolling.sum_(detail * detail, HAAR_WINDOW) / scale


def _haar_total(bars: Bars) -> Tensor:
    total = _haar_energy(bars, HAAR_SCALES[0])
    for scale in HAAR_SCALES[1:]:
        total = total + _haar_energy(bars, scale)
    return total


def _haar_share(scale: int) -> Feature:
    return _feature(
        f"haar_energy_share_{scale}",
        HAAR_WINDOW + HAAR_SCALES[-1],
        f"share of {scale}-bar Haar wavelet energy of log returns among 2, 4, 8, 16, 32; 64 bars; white noise 0.2",
        "Percival and Walden (2000), maximal overlap",
        lambda bars: rolling.ratio(_haar_energy(bars, scale), _haar_total(bars), neutral=1.0 / len(HAAR_SCALES)),
        neutral=1.0 / len(HAAR_SCALES),
        bounds=(0.0, 1.0),
    )


def _slow_squares(bars: Bars, horizon: int, window: int) -> Tensor:
    slow = log_return(bars, horizon)
    return rolling.sum_(slow * slow, window)


def _fast_squares(bars: Bars, window: int) -> Tensor:
    return rolling.sum_(squared_return(bars), window)


def _variance_ratio(horizon: int) -> Feature:
    return _feature(
        f"variance_ratio_{horizon}",
        60 + horizon,
        f"sum of squared {horizon}-bar log returns / ({horizon} * sum of squared daily ones), 60 bars",
        "Lo and MacKinlay (1988), uncentred",
        lambda bars: rolling.ratio(_slow_squares(bars, horizon, 60), horizon * _fast_squares(bars, 60), neutral=1.0),
        neutral=1.0,
        bounds=(0.0, 4.0),
    )


def _hurst(bars: Bars) -> Tensor:
    variance_ratio = rolling.log_ratio(_slow_squares(bars, 16, 64), 16.0 * _fast_squares(bars, 64))
    return 0.5 + variance_ratio / (2.0 * math.log(16.0))


def _autocorrelation(lag: int) -> Feature:
    return _feature(
        f"autocorrelation_{lag}",
        61 + lag,
        f"correlation of daily log returns with those {lag} bars before, 60 bars",
        "Box and Jenkins (1970)",
        lambda bars: rolling.correlation(log_return(bars), rolling.lag(log_return(bars), lag), 60),
    )


def _cycle_power(period: int) -> Feature:
    def compute(bars: Bars) -> Tensor:
        wave = rolling.fourier(log_return(bars), float(period), CYCLE_WINDOW)
        return rolling.ratio(wave[0] * wave[0] + wave[1] * wave[1], _fast_squares(bars, CYCLE_WINDOW), neutral=1.0)

    return _feature(
        f"cycle_power_{period}",
        CYCLE_WINDOW + 1,
        f"|sum r exp(2 pi i age / {period})|^2 / sum r^2 over 64 bars; averages 1 for white noise",
        "Schuster (1898), periodogram",
        compute,
        neutral=1.0,
        bounds=(0.0, 12.0),
    )


def _reversals(bars: Bars) -> Tensor:
    product = log_return(bars) * rolling.lag(log_return(bars), 1)
    return rolling.sum_(rolling.signed(product), 20) / 20.0


def _volatility_clustering(bars: Bars) -> Tensor:
    size = absolute_return(bars)
    return rolling.correlation(size, rolling.lag(size, 1), 60)


FEATURES: tuple[Feature, ...] = (
    *(_haar_share(scale) for scale in HAAR_SCALES[:-1]),
    *(_variance_ratio(horizon) for horizon in (2, 5, 10)),
    _feature(
        "hurst_exponent_64",
        80,
        "0.5 + log(variance ratio of 16 bars) / (2 log 16), 64 bars",
        "Hurst (1951), from two horizons",
        _hurst,
        neutral=0.5,
        bounds=(0.0, 1.0),
    ),
    *(_autocorrelation(lag) for lag in (1, 2, 5)),
    _feature(
        "volatility_clustering_60",
        62,
        "correlation of |log return| with that of the day before, 60 bars",
        "Ding, Granger and Engle (1993)",
        _volatility_clustering,
    ),
    *(_cycle_power(period) for period in (5, 10, 21)),
    _feature(
        "continuation_balance_20",
        22,
        "(days that continue yesterday's direction - days that reverse it) / 20",
        "runs test; Wald and Wolfowitz (1940)",
        _reversals,
    ),
)
