"""Baselines of the ranking question: the order of past moves, less the market's, in units of volatility."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from financial_assets.market.panel import CHANNELS, PricePanel

RANK_RULES: Mapping[str, tuple[int, float]] = {"reversal": (1, -1.0), "momentum": (20, 1.0)}
"""Name -> sessions of the move, and its sign: the last session's move is said to turn round, the last month's to go on
(Jegadeesh 1990, Evidence of predictable behavior of security returns; Jegadeesh and Titman 1993, Returns to buying
winners and selling losers)."""


def excess_move(panel: PricePanel, sessions: int) -> np.ndarray:
    """Log move over the last sessions less the market's, float64 ``[ticker, session]``; NaN where there are too few."""
    close, market = (np.log(panel.values[:, CHANNELS.index(name)].astype(np.float64)) for name in ("close", "market"))
    return moved(close, sessions) - moved(market, sessions)


def moved(level: np.ndarray, sessions: int) -> np.ndarray:
    """Move of a level ``[ticker, session]`` over the last sessions; NaN where there are too few."""
    found = np.full(level.shape, np.nan)
    found[:, sessions:] = level[:, sessions:] - level[:, :-sessions]
    return found
