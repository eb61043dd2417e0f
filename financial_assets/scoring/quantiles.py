"""Scores of forecast quantiles and of the intervals between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, same_shape, vector

__all__ = ["QUANTILE_LEVELS", "coverage", "interval_score", "pinball_loss", "pinball_losses", "share_below"]

QUANTILE_LEVELS: tuple[float, ...] = (0.01, 0.05, 0.50, 0.95, 0.99)
"""Levels of the predicted quantiles of the next session's log return."""


def pinball_losses(outcomes: ArrayLike, predicted: ArrayLike, level: float) -> NDArray[np.float64]:
    """Pinball loss of each forecast of one quantile.

    Parameters
    ----------
    outcomes
        What happened ``[n]``.
    predicted
        Forecasts of the quantile ``[n]``, in the unit of ``outcomes``.
    level
        The quantile's level, for example 0.05.

    Returns
    -------
    ndarray
        ``level * (y - q)`` where the outcome y is above the forecast q, ``(1 - level) * (q - y)`` below: ``[n]``, at
        least 0. Its expectation is smallest at the true quantile.

    Source: Koenker and Bassett (1978), Regression quantiles.
    """
    actual, quantile = vector("outcomes", outcomes), vector("predicted", predicted)
    same_shape(outcomes=actual, predicted=quantile)
    error = actual - quantile
    return np.maximum(levels("level", level) * error, (level - 1) * error)


def pinball_loss(outcomes: ArrayLike, predicted: ArrayLike, level: float) -> float:
    """Mean of ``pinball_losses``."""
    return float(pinball_losses(outcomes, predicted, level).mean())


def share_below(outcomes: ArrayLike, predicted: ArrayLike) -> float:
    """Share of outcomes at or below the forecast of a quantile: near its level when the forecasts are calibrated."""
    actual, quantile = vector("outcomes", outcomes), vector("predicted", predicted)
    same_shape(outcomes=actual, predicted=quantile)
    return float(np.mean(actual <= quantile))


def coverage(outcomes: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Share of outcomes inside [low, high], borders included.

    Raises
    ------
    ValueError
        Bad arguments, or an interval whose low end is above its high end.
    """
    actual, lower, upper = _interval(outcomes, low, high)
    return float(np.mean((lower <= actual) & (actual <= upper)))


def interval_score(outcomes: ArrayLike, low: ArrayLike, high: ArrayLike, level: float) -> float:
    """Mean interval score: the width, plus ``2 / (1 - level)`` times how far outcomes lie outside. Smaller is better.

    Parameters
    ----------
    outcomes, low, high
        What happened and the ends of the central intervals, each ``[n]``, in one unit.
    level
        Nominal coverage of the intervals, for example 0.9 between the 5 % and the 95 % quantile.

    Source: Gneiting and Raftery (2007), Strictly proper scoring rules, equation 43.
    """
    actual, lower, upper = _interval(outcomes, low, high)
    outside = np.maximum(lower - actual, 0) + np.maximum(actual - upper, 0)
    return float(np.mean(upper - lower + 2 / (1 - levels("level", level)) * outside))


def _interval(
    outcomes: ArrayLike, low: ArrayLike, high: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    actual, lower, upper = vector("outcomes", outcomes), vector("low", low), vector("high", high)
    same_shape(outcomes=actual, low=lower, high=upper)
    crossed = np.flatnonzero(lower > upper)
    if crossed.size:
        raise ValueError(f"low is above high in {crossed.size} intervals, the first at position {crossed[0]}")
    return actual, lower, upper
