"""Scores of forecast quantiles and of the intervals between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, same_shape, vector
from financial_assets.scoring.intervals import Interval, day_clustered_mean, day_clustered_proportion

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


def mean_pinball_losses(
    outcomes: ArrayLike, predicted: ArrayLike, quantile_levels: Sequence[float] = QUANTILE_LEVELS
) -> NDArray[np.float64]:
    """Pinball loss of each forecast, as the mean of all levels.

    Parameters
    ----------
    outcomes
        ``[n]``.
    predicted
        Forecast quantiles ``[n, level]``, in the unit of ``outcomes``.
    quantile_levels
        Rising, strictly between 0 and 1.

    Returns
    -------
    ndarray
        ``[n]``, in the unit of ``outcomes``: a volatile ticker and a volatile year weigh more.
        ``normalised_pinball_losses`` weighs them alike.
    """
    return _pinball_of_levels(outcomes, predicted, quantile_levels).mean(axis=1)


def normalised_pinball_losses(
    outcomes: ArrayLike,
    predicted: ArrayLike,
    volatility: ArrayLike,
    quantile_levels: Sequence[float] = QUANTILE_LEVELS,
) -> NDArray[np.float64]:
    """``mean_pinball_losses`` in units of the volatility that was known when the forecast was made.

    Parameters
    ----------
    outcomes, predicted, quantile_levels
        As for ``mean_pinball_losses``.
    volatility
        Causal, above 0 ``[n]``, in the unit of ``outcomes``; the same for all forecasters that are compared, or each
        would choose the weights of its own losses.
    """
    unit = vector("volatility", volatility)
    losses = mean_pinball_losses(outcomes, predicted, quantile_levels)
    same_shape(outcomes=losses, volatility=unit)
    if not unit.min() > 0:
        raise ValueError(f"volatility must be above 0, found {unit.min():g}")
    return losses / unit


def approximate_crps(
    outcomes: ArrayLike, predicted: ArrayLike, quantile_levels: Sequence[float] = QUANTILE_LEVELS
) -> NDArray[np.float64]:
    """Continuous ranked probability score from a few quantiles; parameters as for ``mean_pinball_losses``.

    The score is twice the integral of the pinball loss over all levels. Each level stands for those that are nearest to
    it, from 0 to 1: ``2 sum(width * loss)``. That is proper for the quantiles given, and only an approximation of the
    score of the whole distribution; with the five of ``QUANTILE_LEVELS`` it is 18 % too low at the
    truth of a normal distribution: compare it with itself only.

    Returns
    -------
    ndarray
        ``[n]``, in the unit of ``outcomes``.

    Source: Gneiting and Ranjan (2011), Comparing density forecasts using threshold- and quantile-weighted scoring
    rules, equations 12 and 13.
    """
    losses = _pinball_of_levels(outcomes, predicted, quantile_levels)
    borders = np.concatenate([[0.0], (np.array(quantile_levels[1:]) + np.array(quantile_levels[:-1])) / 2, [1.0]])
    return 2 * losses @ np.diff(borders)


def coverage_by_day(
    outcomes: ArrayLike,
    predicted: ArrayLike,
    days: ArrayLike,
    quantile_levels: Sequence[float] = QUANTILE_LEVELS,
    level: float = 0.95,
) -> Mapping[float, Interval]:
    """Share of outcomes at or below each forecast quantile, by quantile level.

    Parameters
    ----------
    outcomes, predicted, quantile_levels
        As for ``mean_pinball_losses``.
    days
        The day of each row ``[n]``. Whether a share is right is tested in ``coverage``: this interval knows nothing of
        outcomes that overlap.
    level
        Confidence.
    """
    actual, quantiles = _checked(outcomes, predicted, quantile_levels)
    below = actual[:, None] <= quantiles
    return {
        quantile: day_clustered_proportion(below[:, place], days, level)
        for place, quantile in enumerate(quantile_levels)
    }


def quantile_scores(
    outcomes: ArrayLike,
    predicted: ArrayLike,
    volatility: ArrayLike,
    days: ArrayLike,
    quantile_levels: Sequence[float] = QUANTILE_LEVELS,
    level: float = 0.95,
) -> Mapping[str, Interval]:
    """``pinball``, ``normalised_pinball`` and ``crps``, clustered by day; parameters as for the functions above."""
    losses = {
        "pinball": mean_pinball_losses(outcomes, predicted, quantile_levels),
        "normalised_pinball": normalised_pinball_losses(outcomes, predicted, volatility, quantile_levels),
        "crps": approximate_crps(outcomes, predicted, quantile_levels),
    }
    return {name: day_clustered_mean(values, days, level) for name, values in losses.items()}


def _checked(
    outcomes: ArrayLike, predicted: ArrayLike, quantile_levels: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    actual, quantiles = vector("outcomes", outcomes), np.asarray(predicted, np.float64)
    shape = actual.size, len(quantile_levels)
    if quantiles.shape != shape or not np.isfinite(quantiles).all():
        raise ValueError(f"predicted must be finite [outcome, level] {shape}, not of shape {quantiles.shape}")
    for place, quantile in enumerate(quantile_levels):
        levels(f"quantile_levels[{place}]", quantile)
    if list(quantile_levels) != sorted(set(quantile_levels)):
        raise ValueError(f"quantile_levels must rise: {tuple(quantile_levels)}")
    return actual, quantiles


def _pinball_of_levels(
    outcomes: ArrayLike, predicted: ArrayLike, quantile_levels: Sequence[float]
) -> NDArray[np.float64]:
    actual, quantiles = _checked(outcomes, predicted, quantile_levels)
    by_level = zip(quantiles.T, quantile_levels, strict=True)
    return np.stack([pinball_losses(actual, column, level) for column, level in by_level], axis=1)
