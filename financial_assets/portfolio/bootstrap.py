"""The stationary bootstrap of days: for figures of a whole path, which are no mean and have no formula for their error.

Source: Politis and Romano (1994), The stationary bootstrap: blocks of days of random length, which keep what follows
what. Their mean length is chosen as in Politis and White (2004), Automatic block-length selection for the dependent
bootstrap, with the correction of Patton, Politis and White (2009).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from financial_assets.portfolio.arguments import Floats
from financial_assets.scoring.arguments import levels
from financial_assets.scoring.intervals import Interval

Statistic = Callable[[Floats], Floats]
"""Of series ``[draw, session]`` (or several of them, ``[draw, session, series]``): one number per draw, NaN allowed."""


def bootstrap_interval(
    days: Floats, statistic: Statistic, level: float = 0.95, *, draws: int = 500, seed: int = 0
) -> Interval | None:
    """A figure of a series of days, with the percentiles of what resampled histories of equal length show.

    Parameters
    ----------
    days
        ``[session]``, or several series of the same days ``[session, series]``; two sessions at least. The block length
        is that of the first series.
    statistic
        The figure.
    level
        Share of resampled histories inside.
    draws
        Resampled histories, at least 100.
    seed
        Of the draws.

    Returns
    -------
    Interval or None
        ``None`` where the figure is not defined for these days, or for half of the resampled histories. Of fewer it is
        left out.
    """
    _enough(draws)
    first = days if days.ndim == 1 else days[:, 0]
    found = resampled(days, statistic, block_length(first), draws=draws, seed=seed)
    return percentiles(float(statistic(days[None])[0]), found, len(days), level)


def resampled(days: Floats, statistic: Statistic, block: float, *, draws: int = 500, seed: int = 0) -> Floats:
    """What ``statistic`` says of resampled histories; parameters as for :func:`bootstrap_interval`."""
    return statistic(np.take(days, _draws(len(days), block, _enough(draws), seed), axis=0))


def resampled_means(days: Floats, block: float, *, draws: int = 500, seed: int = 0) -> Floats:
    """Means of several series ``[session, series]`` over resampled histories ``[draw, series]``.

    How often each day was drawn is all that they depend on.
    """
    return _frequencies(len(days), block, _enough(draws), seed) @ days / len(days)


def percentiles(estimate: float, found: Floats, days: int, level: float = 0.95) -> Interval | None:
    """The interval of an estimate from what resampled histories show, see :func:`bootstrap_interval`."""
    tail = (1 - levels("level", level)) / 2
    defined = found[~np.isnan(found)]
    if np.isnan(estimate) or 2 * len(defined) <= len(found):
        return None
    low, high = np.quantile(defined, (tail, 1 - tail))
    return Interval(estimate, float(low), float(high), days, days, level)


def _enough(draws: int) -> int:
    if draws < 100:
        raise ValueError(f"draws must be at least 100, not {draws}: the ends of an interval are rare")
    return draws


@lru_cache(maxsize=2)
def _draws(days: int, block: float, draws: int, seed: int) -> NDArray[np.int64]:
    """Those of a seed; several figures of one series are asked for one after the other, and share theirs."""
    places = _in_blocks(*_chances(days, draws, seed), block)
    places.setflags(write=False)
    return places


@lru_cache(maxsize=2)
def _frequencies(days: int, block: float, draws: int, seed: int) -> Floats:
    """How often each draw has each day ``[draw, day]``."""
    places = _draws(days, block, draws, seed) + days * np.arange(draws)[:, None]
    counts = np.bincount(places.ravel(), minlength=draws * days).reshape(draws, days).astype(np.float64)
    counts.setflags(write=False)
    return counts


@lru_cache(maxsize=2)
def _chances(days: int, draws: int, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """What chance says of each day of each draw, whatever the length of blocks: all series of one length share it."""
    random = np.random.default_rng(seed)
    return random.random((draws, days)), random.integers(0, days, (draws, days))


def stationary_draws(days: int, block: float, draws: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Places of days ``[draw, day]``: a block goes on with probability ``1 - 1 / block``, round the end if need be."""
    return _in_blocks(random.random((draws, days)), random.integers(0, days, (draws, days)), block)


def _in_blocks(chance: Floats, starts: NDArray[np.int64], block: float) -> NDArray[np.int64]:
    new = chance < 1 / block
    new[:, 0] = True
    days = new.shape[1]
    begun = np.flatnonzero(new)
    # Within a block places rise with the days, so that it keeps its distance from them.
    distance = np.repeat(starts.ravel()[begun] - begun % days, np.diff(begun, append=new.size))
    place = distance.reshape(new.shape)
    place += np.arange(days)
    place %= days
    return place


def block_length(days: Floats) -> float:
    """Mean length of a block, at least 1, for the mean of ``days`` ``[session]``; 1 where they do not vary."""
    count = len(days)
    off = days - days.mean()
    if count < 2 or not off.any():
        return 1.0
    # Correlations count up to twice the first lag of a run of insignificant ones (the authors' programs count so too).
    run = 5
    longest = min(int(np.ceil(np.sqrt(count))) + run, count - 1)
    covariances = np.array([off[lag:] @ off[: count - lag] for lag in range(longest + 1)]) / count
    small = np.abs(covariances[1:]) < 2 * np.sqrt(np.log10(count) / count) * covariances[0]
    quiet = next((lag for lag in range(1, len(small) - run + 2) if small[lag - 1 : lag - 1 + run].all()), longest)
    lags = np.arange(1, min(2 * quiet, longest) + 1)
    flat_top = np.minimum(1.0, 2 * (1 - lags / lags[-1]))
    weighted = flat_top * covariances[lags]
    spread = 2 * float(weighted @ lags)
    density = float(covariances[0] + 2 * weighted.sum())
    longest_block = np.ceil(min(3 * np.sqrt(count), count / 3))
    if density <= 0:
        return 1.0
    return float(np.clip((spread**2 / density**2 * count) ** (1 / 3), 1.0, max(longest_block, 1.0)))
