"""Simulated universes whose law of volatility is known, with the range of each session as a path would make it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.market.panel import PricePanel
from financial_assets.models.risk.bars import RiskBars

OVERNIGHT = 0.25
"""Share of a session's variance in the gap before it."""

_STEPS = 48


@dataclass(frozen=True, eq=False)
class World:
    """A panel, and the true deviation of each session's return, known the session before ``[ticker, session]``."""

    panel: PricePanel
    deviation: np.ndarray

    @property
    def bars(self) -> RiskBars:
        return RiskBars.of(self.panel)


def simulate(
    variance: Callable[[np.ndarray, np.ndarray], np.ndarray],
    first: np.ndarray,
    sessions: int,
    shocks: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
    seed: int = 1,
) -> World:
    """Sessions whose variance follows from the one before and its return.

    ``variance(before, returns)`` is the next session's; ``shocks`` draws unit-variance returns.
    """
    random = np.random.default_rng(seed)
    tickers = first.size
    deviation, returns = np.empty((2, tickers, sessions))
    now = first
    for session in range(sessions):
        deviation[:, session] = np.sqrt(now)
        returns[:, session] = deviation[:, session] * shocks(random, (tickers,))
        now = variance(now, returns[:, session])
    return World(panel_of_paths(returns, deviation, random), deviation)


def panel_of_paths(returns: np.ndarray, deviation: np.ndarray, random: np.random.Generator) -> PricePanel:
    """Bars of bridges from one close to the next: a gap, then a path that ends at the session's return."""
    gap = OVERNIGHT * returns + np.sqrt(OVERNIGHT * (1 - OVERNIGHT)) * deviation * random.normal(size=returns.shape)
    day = returns - gap
    steps = random.normal(size=(*returns.shape, _STEPS)) * (deviation * np.sqrt((1 - OVERNIGHT) / _STEPS))[..., None]
    path = np.cumsum(steps, axis=-1)
    path += (day - path[..., -1])[..., None] * np.arange(1, _STEPS + 1) / _STEPS
    close = np.log(50.0) + np.cumsum(returns, axis=1)
    opening = close - day
    high, low = opening + np.maximum(path.max(axis=-1), 0), opening + np.minimum(path.min(axis=-1), 0)
    prices = np.exp(np.stack([opening, high, low, close], axis=1))
    rest = np.ones((returns.shape[0], 3, returns.shape[1]))
    values = np.concatenate([prices, rest], axis=1).astype(np.float32)
    names = tuple(f"T{number:02d}" for number in range(returns.shape[0]))
    sessions = pd.bdate_range("2001-01-01", periods=returns.shape[1])
    return PricePanel(names, sessions, np.ascontiguousarray(values), np.ones(returns.shape, dtype=bool))


def student(degrees: float) -> Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]:
    return lambda random, shape: random.standard_t(degrees, shape) * ((degrees - 2) / degrees) ** 0.5


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.normal(size=shape)


def garch(tickers: int, sessions: int, seed: int = 1, *, gamma: float = 0.0, beta: float = 0.88) -> World:
    """GARCH with Student's t (6 degrees), daily volatility about 2 %; ``gamma`` makes falls count more."""
    alpha = 0.09 - gamma / 2
    omega = 4e-4 * (1 - 0.09 - beta)
    return simulate(
        lambda before, returns: omega + (alpha + gamma * (returns < 0)) * returns**2 + beta * before,
        np.full(tickers, 4e-4),
        sessions,
        student(6),
        seed,
    )


def constant(tickers: int, sessions: int, seed: int = 1) -> World:
    """Independent returns of constant volatility with Student's t (5 degrees)."""
    return simulate(lambda before, _: before, np.full(tickers, 4e-4), sessions, student(5), seed)


def riskmetrics(tickers: int, sessions: int, seed: int = 1, degrees: float | None = None) -> World:
    """Variances that are exactly RiskMetrics'; normal shocks, or Student's t.

    They die out by and by (Nelson 1990), so they start high.
    """
    return simulate(
        lambda before, returns: 0.94 * before + 0.06 * returns**2,
        np.full(tickers, 1e-2),
        sessions,
        normal if degrees is None else student(degrees),
        seed,
    )


def levels(tickers: int, sessions: int, seed: int = 1) -> World:
    """GARCH that returns within a week to levels between 0.6 and 6.6 % a day, one for each ticker."""
    level = (0.02 * np.exp(np.linspace(-1.2, 1.2, tickers))) ** 2
    return simulate(
        lambda before, returns: 0.21 * level + 0.09 * returns**2 + 0.70 * before, level, sessions, student(6), seed
    )


def heterogeneous(tickers: int, sessions: int, seed: int = 1) -> World:
    """Log variance that moves from day to day, from week to week and slowly, whatever the returns (normal shocks)."""
    random = np.random.default_rng(seed)
    moves = np.zeros((tickers, sessions))
    for persistence, deviation in ((0.5, 0.25), (0.92, 0.15), (0.99, 0.06)):
        part = np.zeros(tickers)
        for session in range(sessions):
            part = persistence * part + deviation * random.normal(size=tickers)
            moves[:, session] += part
    deviation = 0.02 * np.exp(moves / 2)
    returns = deviation * random.normal(size=deviation.shape)
    return World(panel_of_paths(returns, deviation, random), deviation)
