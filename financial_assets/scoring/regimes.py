"""Regimes of a market by its level: volatility and trend that were known before a session's first bar.

They are taken from bars strictly before the session: changing its own bar, or a later one, changes nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

TERCILES = ("low", "mid", "high")
TRENDS = ("down", "up")

_WINDOW, _HISTORY, _TREND = 20, 252, 60  # sessions


def volatility_terciles(close: ArrayLike) -> list[str | None]:
    """``low``, ``mid`` or ``high`` for each session, by yesterday's volatility among those of the past year.

    Volatility is the standard deviation of 20 daily log returns; the tercile is that of its rank among the last 252
    values, its own included.

    Parameters
    ----------
    close
        Positive level ``[session]`` of a ticker or of the market.

    Returns
    -------
    list
        ``[session]``; ``None`` until there is enough history.

    Raises
    ------
    ValueError
        A level is not positive and finite.
    """
    returns = np.diff(np.log(_positive(close)))
    out: list[str | None] = [None] * (returns.size + 1)
    if returns.size < _WINDOW + _HISTORY - 1:
        return out
    volatility = np.lib.stride_tricks.sliding_window_view(returns, _WINDOW).std(axis=1)
    past = np.lib.stride_tricks.sliding_window_view(volatility, _HISTORY)
    rank = np.mean(past[:, :-1] < past[:, -1:], axis=1)
    # The newest return of a rank is the one into the session before the one that it is for.
    for session, share in enumerate(rank[: len(out) - _WINDOW - _HISTORY], start=_WINDOW + _HISTORY):
        out[session] = TERCILES[min(2, int(3 * share))]
    return out


def trend_directions(close: ArrayLike) -> list[str | None]:
    """``up`` or ``down`` for each session: whether yesterday's close exceeds the one 60 sessions before it.

    Parameters
    ----------
    close
        As for :func:`volatility_terciles`.

    Raises
    ------
    ValueError
        A level is not positive and finite.
    """
    level = _positive(close)
    return [
        None if at <= _TREND else ("up" if level[at - 1] > level[at - 1 - _TREND] else "down")
        for at in range(level.size)
    ]


def _positive(close: ArrayLike) -> NDArray[np.float64]:
    level = np.asarray(close, dtype=np.float64)
    if level.ndim != 1 or not level.size or not np.all(np.isfinite(level) & (level > 0)):
        raise ValueError("close must be levels [session] that are positive and finite")
    return level
