"""Losses of forecasts of the variance, against a proxy of what it was.

The true variance of a session is never seen. A *proxy* is right on average and noisy: the squared return, or the range
of the session with the gap before it. QLIKE and the squared error of the variance rank forecasts by a proxy as they
would by the truth (robust: Patton 2011, Volatility forecast comparison using imperfect volatility proxies); the
absolute error of the volatility does not, and is given because it is read easily.

Variances are of the log return over the forecast's horizon, not annualised. Over h sessions the proxy is the sum of
those of the sessions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import same_shape, vector
from financial_assets.scoring.intervals import Interval, day_clustered_mean


def qlike_losses(proxy: ArrayLike, variance: ArrayLike) -> NDArray[np.float64]:
    """QLIKE of each forecast: ``log(variance) + proxy / variance``.

    Parameters
    ----------
    proxy
        Proxy of the variance ``[n]``, at least 0; a session without a move is possible.
    variance
        Forecasts ``[n]``, above 0, in the unit of ``proxy``.

    Returns
    -------
    ndarray
        ``[n]``. The level depends on the unit, differences between forecasts do not. The usual form
        ``proxy / variance - log(proxy / variance) - 1`` differs by what all forecasts share, and needs a proxy above 0.

    Raises
    ------
    ValueError
        Bad arguments.

    Source: Patton (2011): the one member of the robust family that depends on ``proxy / variance`` alone.
    """
    actual, forecast = _pair(proxy, variance)
    return np.log(forecast) + actual / forecast


def squared_variance_errors(proxy: ArrayLike, variance: ArrayLike) -> NDArray[np.float64]:
    """Squared difference of forecast and proxy ``[n]``; parameters as for ``qlike_losses``. A few wild days decide."""
    actual, forecast = _pair(proxy, variance)
    return np.square(actual - forecast)


def absolute_volatility_errors(proxy: ArrayLike, variance: ArrayLike) -> NDArray[np.float64]:
    """Absolute difference of the square roots ``[n]``; parameters as for ``qlike_losses``.

    Not robust: it favours forecasts that are too low, the more so the noisier the proxy.
    """
    actual, forecast = _pair(proxy, variance)
    return np.abs(np.sqrt(actual) - np.sqrt(forecast))


def volatility_scores(
    proxy: ArrayLike, variance: ArrayLike, days: ArrayLike, level: float = 0.95
) -> Mapping[str, Interval]:
    """``qlike``, ``rmse`` (of the variance) and ``mae`` (of the volatility), clustered by day.

    Parameters
    ----------
    proxy, variance
        As for ``qlike_losses``.
    days
        The day of each row ``[n]``. Losses of volatile times come together: two forecasters are compared with
        ``comparison.diebold_mariano``, which allows for it.
    level
        Confidence of the intervals.
    """
    squared = day_clustered_mean(squared_variance_errors(proxy, variance), days, level)
    # The root is monotone: its interval is that of the mean with both bounds under the root.
    low, middle, high = np.sqrt(np.maximum([squared.low, squared.estimate, squared.high], 0.0)).tolist()
    return {
        "qlike": day_clustered_mean(qlike_losses(proxy, variance), days, level),
        "rmse": Interval(middle, low, high, squared.days, squared.observations, level),
        "mae": day_clustered_mean(absolute_volatility_errors(proxy, variance), days, level),
    }


def parkinson_variance(high: ArrayLike, low: ArrayLike) -> NDArray[np.float64]:
    """Variance of the trading hours from their range: ``log(high / low) ** 2 / (4 log 2)``, any shape, NaN passes.

    Five times as efficient as the squared return of these hours, without the gap before them, and too low where few
    trades find the extremes.

    Source: Parkinson (1980), The extreme value method for estimating the variance of the rate of return.
    """
    span = np.log(np.asarray(high, np.float64) / np.asarray(low, np.float64))
    return span**2 / (4 * np.log(2))


def garman_klass_variance(opening: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike) -> NDArray[np.float64]:
    """Variance of the trading hours from open, high, low and close, any shape, NaN passes; at least 0.

    ``log(high / low) ** 2 / 2 - (2 log 2 - 1) log(close / open) ** 2``: 7.4 times as efficient as the squared return.

    Source: Garman and Klass (1980), On the estimation of security price volatilities from historical data, the
    "practical" estimator.
    """
    span = np.log(np.asarray(high, np.float64) / np.asarray(low, np.float64))
    body = np.log(np.asarray(close, np.float64) / np.asarray(opening, np.float64))
    # Possible bars give at least (1 - 2 log 2 + 1 / 2) body ** 2 > 0; rounded prices may miss it by a hair.
    return np.maximum(0.5 * span**2 - (2 * np.log(2) - 1) * body**2, 0.0)


def _pair(proxy: ArrayLike, variance: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    actual, forecast = vector("proxy", proxy), vector("variance", variance)
    same_shape(proxy=actual, variance=forecast)
    if actual.min() < 0:
        raise ValueError(f"proxy must be at least 0, found {actual.min():g}")
    if not forecast.min() > 0:
        raise ValueError(f"variance must be above 0, found {forecast.min():g}")
    return actual, forecast
