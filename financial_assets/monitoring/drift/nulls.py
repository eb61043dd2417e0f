"""Streams without drift that are hard to tell from it: volatility that clusters, levels that wander, rolling windows.

A threshold that holds on white noise says little about features of prices. These kinds of streams are drawn to set the
thresholds of features (``robust``); none is fitted to any data.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

_WARM = 600

Draw = Callable[[np.random.Generator, int, int], np.ndarray]
"""From a generator, streams and sessions to float64 ``[stream, session]``."""


def white(rng: np.random.Generator, streams: int, sessions: int) -> np.ndarray:
    """Gaussian white noise."""
    return rng.standard_normal((streams, sessions))


def clustered(rng: np.random.Generator, streams: int, sessions: int) -> np.ndarray:
    """AR(1) of coefficient 0.2 with GARCH(1, 1) innovations."""
    return _autoregression(_garch(rng, streams, sessions), 0.2)[:, _WARM:]


def log_squares(rng: np.random.Generator, streams: int, sessions: int) -> np.ndarray:
    """Logarithms of squared GARCH returns."""
    return np.log(_garch(rng, streams, sessions)[:, _WARM:] ** 2 + 1e-4)


def wandering(rng: np.random.Generator, streams: int, sessions: int) -> np.ndarray:
    """AR(1) of coefficient 0.98 under as much noise."""
    level = _autoregression(rng.standard_normal((streams, _WARM + sessions)), 0.98)[:, _WARM:]
    return level * np.sqrt(1.0 - 0.98**2) + rng.standard_normal(level.shape)


def persistent(rng: np.random.Generator, streams: int, sessions: int) -> np.ndarray:
    """AR(1) of coefficient 0.95 with GARCH(1, 1) innovations."""
    return _autoregression(_garch(rng, streams, sessions), 0.95)[:, _WARM:]


def rolling_mean(rng: np.random.Generator, streams: int, sessions: int) -> np.ndarray:
    """Momentum: sums of GARCH returns over 20 sessions."""
    return _window(_garch(rng, streams, sessions), 20)[:, _WARM:]


def rolling_volatility(rng: np.random.Generator, streams: int, sessions: int) -> np.ndarray:
    """Log mean squares of GARCH returns over 20 sessions."""
    return np.log(_window(_garch(rng, streams, sessions) ** 2, 20)[:, _WARM:])


def rolling_quarter(rng: np.random.Generator, streams: int, sessions: int) -> np.ndarray:
    """Log mean squares of GARCH returns over 60 sessions."""
    return np.log(_window(_garch(rng, streams, sessions) ** 2, 60)[:, _WARM:])


KINDS: tuple[Draw, ...] = (
    white,
    clustered,
    log_squares,
    wandering,
    persistent,
    rolling_mean,
    rolling_volatility,
    rolling_quarter,
)


def _garch(rng: np.random.Generator, streams: int, sessions: int) -> np.ndarray:
    """GARCH(1, 1) of unit variance, arch 0.08 and garch 0.90, Student t of 5 degrees of freedom."""
    returns = rng.standard_t(5, (_WARM + sessions, streams)) / np.sqrt(5.0 / 3.0)
    variance = np.ones(streams)
    for shocks in returns:  # a row is a session: each becomes its returns in place
        shocks *= np.sqrt(variance)
        variance = 0.02 + 0.08 * shocks**2 + 0.90 * variance
    return np.ascontiguousarray(returns.T)


def _autoregression(shocks: np.ndarray, coefficient: float) -> np.ndarray:
    return np.asarray(lfilter([1.0], [1.0, -coefficient], shocks, axis=1))


def _window(values: np.ndarray, length: int) -> np.ndarray:
    return np.asarray(lfilter(np.full(length, 1.0 / length), [1.0], values, axis=1))
