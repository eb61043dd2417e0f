"""Scores of forecast quantiles and of the intervals between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, same_shape, vector

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
