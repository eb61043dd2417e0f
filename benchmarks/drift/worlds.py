"""Daily streams without drift, drawn: what features look like where volatility clusters and levels wander.

Every world is a float array ``[stream, session]`` of ``REFERENCE + YEAR`` sessions. Nothing about a world changes
between its reference and its year: volatility comes and goes in both by one law, so an alarm in the year is false.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

REFERENCE, YEAR, FEATURES = 1000, 252, 20
LENGTH = REFERENCE + YEAR
_WARM = 1500

Draw = Callable[[np.random.Generator], np.ndarray]


def iid(rng: np.random.Generator) -> np.ndarray:
    """Independent Gaussian noise."""
    return rng.standard_normal((FEATURES, LENGTH))


def clustered(rng: np.random.Generator) -> np.ndarray:
    """AR(1) of coefficient 0.2 whose innovations are GARCH(1, 1) with Student t of 5 degrees of freedom."""
    return autoregressive(garch(rng, FEATURES), 0.2)[:, _WARM:]


def log_squares(rng: np.random.Generator) -> np.ndarray:
    """Logarithms of squared GARCH returns: a slow level under much noise."""
    return np.log(garch(rng, FEATURES) ** 2 + 1e-4)[:, _WARM:]


def slow(rng: np.random.Generator) -> np.ndarray:
    """AR(1) of coefficient 0.98 under noise of the same variance."""
    level = autoregressive(rng.standard_normal((FEATURES, _WARM + LENGTH)), 0.98)[:, _WARM:]
    return level * np.sqrt(1 - 0.98**2) + rng.standard_normal(level.shape)


def panel(tickers: int) -> Draw:
    """Means over so many tickers of features driven by three factors that share one volatility.

    Memory differs by feature, from none to an AR(1) of 0.95; idiosyncratic parts shrink by the root of ``tickers``.
    """

    def draw(rng: np.random.Generator) -> np.ndarray:
        shared = np.exp(0.5 * volatility(rng, 1))
        factors = rng.standard_normal((3, shared.shape[1])) * shared
        own = rng.standard_normal((FEATURES, shared.shape[1])) * np.exp(0.5 * volatility(rng, FEATURES))
        loadings = rng.standard_normal((FEATURES, 3)) / np.sqrt(3)
        shocks = np.sqrt(0.3) * loadings @ factors + np.sqrt(0.7 / tickers) * own
        memory = np.resize([0.0, 0.2, 0.5, 0.8, 0.95], FEATURES)
        return np.stack([autoregressive(row, one) for row, one in zip(shocks, memory, strict=True)])[:, _WARM:]

    return draw


KINDS: dict[str, Draw] = {
    "iid": iid,
    "AR(.2), GARCH-t5": clustered,
    "log squared GARCH": log_squares,
    "AR(.98) and noise": slow,
    **{f"panel of {tickers}": panel(tickers) for tickers in (2, 10, 50, 500)},
}


def garch(rng: np.random.Generator, streams: int) -> np.ndarray:
    """GARCH(1, 1) returns of unit variance ``[stream, session]``: arch 0.08, garch 0.90, Student t5."""
    shocks = rng.standard_t(5, (streams, _WARM + LENGTH)) / np.sqrt(5 / 3)
    returns, variance = np.empty_like(shocks), np.ones(streams)
    for at in range(shocks.shape[1]):
        returns[:, at] = np.sqrt(variance) * shocks[:, at]
        variance = 0.02 + 0.08 * returns[:, at] ** 2 + 0.90 * variance
    return returns


def volatility(rng: np.random.Generator, streams: int) -> np.ndarray:
    """Twice the log volatility: AR(1) of coefficient 0.97 and deviation 0.8."""
    shocks = rng.standard_normal((streams, _WARM + LENGTH))
    return 0.8 * np.sqrt(1 - 0.97**2) * autoregressive(shocks, 0.97)


def autoregressive(shocks: np.ndarray, coefficient: float) -> np.ndarray:
    """AR(1) of the shocks along the last axis."""
    return np.asarray(lfilter([1.0], [1.0, -coefficient], shocks, axis=-1))
