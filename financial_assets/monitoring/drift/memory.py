"""How long a stream remembers: an AR(1) level under white noise, fitted to many streams at once.

A mean over tickers, a realised volatility or a share is seldom an AR(1) process. Its level moves slowly and noise hides
that from one day to the next, so that an AR(1) coefficient near 0 is estimated where memory lasts for months. A level
``l_t = c l_{t-1} + ...`` seen as ``x_t = l_t + noise`` has both: it is the ARMA(1, 1) process of Granger and Morris
(1976), its best forecast is an exponential average (Muth 1960), and long-memory volatility is close to it.

It is fitted by Whittle's likelihood (1953) on a grid, from a periodogram that is averaged over frequencies close to
each other. Of all grid points that the data do not clearly reject, the one with the longest memory is taken: a
stream of which a small part wanders is indistinguishable from white noise over a few years, and the mistake is costly
one way only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache

import numpy as np

_COEFFICIENTS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
_NEGATIVE = (-0.6, -0.3)
_SHARES = (0.03, 0.06, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
"""Of the level in the stream's variance."""

_LIKELIHOOD_MARGIN = 2.0
"""Log likelihood below the best that is not rejected: half the 95 % quantile of chi-squared with one degree is 1.92."""

_FAST = 0.5
"""Largest coefficient of a level that is forgotten within a week."""

_BANDS = 40
_RICCATI_STEPS = 500
_SLOWEST = 2.0 * np.pi / 1000.0
"""The frequency that stands for long memory, as an angle per session: a wave of four years."""


@dataclass(frozen=True, eq=False)
class Memory:
    """Level-and-noise processes, one per stream, of variance 1; every array float64 ``[stream]``.

    Attributes
    ----------
    coefficient
        AR(1) coefficient c of the level.
    share
        Share of the level in the variance; 1: no noise, 0: white noise.
    gain
        Part of an innovation that moves the estimated level (the steady state of Kalman's filter).
    deviation
        Standard deviation of an innovation.
    long_run
        Spectral density at a wave of four years over that of white noise: how much further means wander.
    over_white, over_fast
        Log likelihood by which the best process of all beats white noise, and the best one that forgets within a week:
        how clearly the stream is not of that kind.
    """

    coefficient: np.ndarray
    share: np.ndarray
    gain: np.ndarray
    deviation: np.ndarray
    long_run: np.ndarray
    over_white: np.ndarray
    over_fast: np.ndarray

    def __getitem__(self, place: np.ndarray) -> Memory:
        parts = (getattr(self, part.name) for part in fields(self))
        return Memory(*(part[place] for part in parts))


def fit_memory(standard: np.ndarray) -> Memory:
    """The longest memory that each stream does not reject.

    Parameters
    ----------
    standard
        float ``[stream, session]`` of mean 0 and variance 1, at least 16 sessions; 0 where unknown.
    """
    grid = _grid()
    inverse, log_density, counts, first = _bands(standard.shape[1])
    periodogram = np.abs(np.fft.rfft(standard, axis=1)[:, 1 : int(counts.sum()) + 1]) ** 2
    averaged = np.add.reduceat(periodogram, first, axis=1)
    # The innovation variance is profiled out: its estimate is the mean of periodogram over density.
    fit = np.log(np.maximum(averaged @ inverse.T / counts.sum(), 1e-300))
    loss = counts.sum() * (fit + log_density)
    least = loss.min(axis=1)
    kept = loss <= least[:, None] + _LIKELIHOOD_MARGIN
    longest = grid[np.where(kept, grid.long_run, -1.0).argmax(axis=1)]
    fast = loss[:, grid.coefficient <= _FAST].min(axis=1)
    return replace(longest, over_white=loss[:, 0] - least, over_fast=fast - least)


@cache
def _grid() -> Memory:
    pairs = [(c, s) for c in _COEFFICIENTS for s in _SHARES] + [(c, s) for c in _NEGATIVE for s in _SHARES if s >= 0.5]
    coefficient, share = np.array([(0.0, 0.0), *pairs]).T
    innovation, noise = share * (1.0 - coefficient**2), 1.0 - share
    variance = share.copy()
    for _ in range(_RICCATI_STEPS):
        variance = coefficient**2 * variance * noise / np.maximum(variance + noise, 1e-300) + innovation
    gain = variance / np.maximum(variance + noise, 1e-300)
    long_run = _density(coefficient, share, np.array([_SLOWEST]))[:, 0]
    unknown = np.zeros_like(share)
    return Memory(coefficient, share, gain, np.sqrt(variance + noise), long_run, unknown, unknown)


def _density(coefficient: np.ndarray, share: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Spectral density over that of white noise of the same variance ``[grid, frequency]``."""
    c, s = coefficient[:, None], share[:, None]
    return 1.0 - s + s * (1.0 - c**2) / (1.0 - 2.0 * c * np.cos(angles) + c**2)


@lru_cache(maxsize=64)
def _bands(sessions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of bands of neighbouring frequencies: inverse density and mean log density by grid point, sizes, first ones."""
    most = (sessions - 1) // 2
    edges = np.unique(np.round(np.geomspace(1, most + 1, _BANDS + 1)).astype(int))
    counts, first = np.diff(edges), edges[:-1] - 1
    grid, angles = _grid(), 2.0 * np.pi * np.arange(1, most + 1) / sessions
    density = np.add.reduceat(_density(grid.coefficient, grid.share, angles), first, axis=1) / counts
    return 1.0 / density, (np.log(density) * counts).sum(axis=1) / counts.sum(), counts, first
