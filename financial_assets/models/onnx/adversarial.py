"""Random windows of bars that are hard on arithmetic, to compare an artefact with torch beyond what prices did."""

from __future__ import annotations

import numpy as np

_TICKS = (0.0, 0.01, 0.25, 1.0)
"""Prices are rounded to one of these; the coarser, the more bars are equal."""


def adversarial_windows(count: int, length: int, seed: int) -> np.ndarray:
    """Windows of bars: float32 ``[count, length, 7]`` in the order of channels.

    Random walks of volatilities from a basis point to a tenth a day. By chance each is also rounded to coarse ticks,
    flat for a stretch, interrupted by gaps of up to a half, without volume on some or all days, with a day of ten
    thousand times the volume, of constant growth, or equal to its market; prices and volumes are of any size from a
    millionth to a million times the usual one.
    """
    rng = np.random.default_rng(seed)
    shape = (count, length)

    def some(share: float) -> np.ndarray:
        return rng.random((count, 1)) < share

    deviation = 10.0 ** rng.uniform(-4, -1, (count, 1))
    moves = deviation * rng.standard_normal(shape)
    moves = np.where(some(0.1), deviation, moves)
    moves += np.where(some(0.2) & (rng.random(shape) < 0.03), rng.uniform(-0.5, 0.5, shape), 0.0)
    start, stop = np.sort(rng.integers(0, length + 60, (2, count, 1)), axis=0)
    is_flat = some(0.3) & (np.arange(length) > start) & (np.arange(length) <= stop)
    moves[is_flat] = 0.0
    close = 100.0 * np.exp(np.clip(np.cumsum(moves, axis=1), -4.0, 4.0))
    reach = np.where(is_flat, 0.0, deviation * np.abs(rng.standard_normal((3, *shape))))
    opened = close * np.exp(reach[2] * rng.choice((-1.0, 1.0), shape))
    high, low = np.maximum(close, opened) * np.exp(reach[0]), np.minimum(close, opened) * np.exp(-reach[1])
    tick = rng.choice(_TICKS, (count, 1))
    rounded = np.where(tick > 0, tick, 1.0)
    prices = [np.where(tick > 0, np.round(price / rounded) * rounded, price) for price in (opened, high, low, close)]
    prices = [np.maximum(price, 0.01) for price in prices]
    volume = rng.lognormal(14, 0.7, shape)
    volume = np.where(some(0.2) & (rng.random(shape) < 0.3), 0.0, volume) * ~some(0.05)
    volume *= np.where(some(0.1) & (rng.random(shape) < 0.02), 1e4, 1.0)
    market = 1000.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(shape), axis=1))
    market = np.where(some(0.05), close, np.where(some(0.05), 1000.0, market))
    first_day = rng.integers(0, 40000, (count, 1))
    day = first_day + np.cumsum(rng.choice((1, 1, 1, 1, 3), shape), axis=1)
    size = 10.0 ** np.where(some(0.3), rng.uniform(-6, 6, (count, 1)), 0.0)
    return np.stack([*(price * size for price in prices), volume / size, market, day], axis=-1).astype(np.float32)
