"""Worlds with a common factor and volatility that clusters, in which the skill of scores is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class World:
    """A market.

    Attributes
    ----------
    returns
        Simple returns ``[ticker, session]``.
    surprise
        What is its own of each name's return, in units of ``risk`` ``[ticker, session]``: variance 1, fat tails.
    betas
        ``[ticker, 1]``.
    risk
        Residual volatility a session ``[ticker, 1]``.
    """

    returns: Array
    surprise: Array
    betas: Array
    risk: Array


def garch(random: np.random.Generator, paths: int, sessions: int) -> Array:
    """Paths of GARCH(1, 1) with unit variance and Student's t (6): alpha .08, beta .9 ``[path, session]``."""
    noise = random.standard_t(6, (paths, sessions + 100)) / np.sqrt(1.5)
    values, variance = np.empty_like(noise), np.ones(paths)
    for day in range(noise.shape[1]):
        values[:, day] = np.sqrt(variance) * noise[:, day]
        variance = 0.02 + 0.08 * values[:, day] ** 2 + 0.9 * variance
    return values[:, 100:]


def world(random: np.random.Generator, names: int, sessions: int, *, clustered: bool = True) -> World:
    """``clustered``: whether the names' own volatility clusters too, each by itself; the market's always does."""
    market = 0.01 * garch(random, 1, sessions)
    betas, risk = random.uniform(0.5, 1.5, (names, 1)), random.uniform(0.01, 0.03, (names, 1))
    own = garch(random, names, sessions) if clustered else random.standard_normal((names, sessions))
    return World(np.maximum(betas * market + risk * own, -0.9), own, betas, risk)


def persistent(random: np.random.Generator, names: int, sessions: int, memory: float) -> Array:
    """Scores without skill: AR(1) of unit variance ``[ticker, session]``."""
    scores = random.standard_normal((names, sessions))
    for day in range(1, sessions):
        scores[:, day] = memory * scores[:, day - 1] + np.sqrt(1 - memory**2) * scores[:, day]
    return scores
