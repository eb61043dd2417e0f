"""Scores of probabilities for "the price goes up": n forecasts, one outcome each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import outcomes, probabilities, same_shape

LOG_LOSS_CLIP = float(np.finfo(np.float64).eps)
"""Probabilities are moved this far inside (0, 1) before a logarithm is taken: one certain miss costs 36.04 nats."""


def hits(probability_up: ArrayLike, went_up: ArrayLike) -> NDArray[np.bool_]:
    """Which forecasts had the direction right; "up" is forecast when the probability exceeds one half.

    Parameters
    ----------
    probability_up
        Forecast probabilities ``[n]``.
    went_up
        Outcomes ``[n]``, 0/1 or booleans.

    Returns
    -------
    ndarray
        Booleans ``[n]``.
    """
    probability, up = _pair(probability_up, went_up)
    return (probability > 0.5) == up


def majority_rate(went_up: ArrayLike) -> float:
    """Accuracy of always forecasting the more frequent direction of these very outcomes (known only afterwards)."""
    up = outcomes("went_up", went_up)
    return float(max(up.mean(), (~up).mean()))


def squared_errors(probability_up: ArrayLike, went_up: ArrayLike) -> NDArray[np.float64]:
    """Squared difference between probability and outcome of each forecast ``[n]``, in [0, 1]."""
    probability, up = _pair(probability_up, went_up)
    return np.square(probability - up)


def log_losses(probability_up: ArrayLike, went_up: ArrayLike) -> NDArray[np.float64]:
    """Negative log likelihood of each outcome ``[n]``, in nats; always saying 0.5 scores ln 2 = 0.6931.

    Probabilities are limited by :data:`LOG_LOSS_CLIP`, so that one certain miss does not cost infinity.
    """
    probability, up = _pair(probability_up, went_up)
    probability = np.clip(probability, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return -np.where(up, np.log(probability), np.log1p(-probability))


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Mean predicted probability beside the observed frequency of ups, in one bin of predictions."""

    predicted: float
    observed: float
    count: int


def reliability_curve(probability_up: ArrayLike, went_up: ArrayLike, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Forecast against observed frequency in bins of equal width, without empty ones; parameters as for ``hits``.

    A bin holds its left border, the last one both.

    Raises
    ------
    ValueError
        Bad arguments, or fewer than one bin.
    """
    probability, up = _pair(probability_up, went_up)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability, side="right")
    members = (places == place for place in np.unique(places))
    return tuple(
        ReliabilityBin(float(probability[inside].mean()), float(up[inside].mean()), int(inside.sum()))
        for inside in members
    )


def _pair(probability_up: ArrayLike, went_up: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probability, up = probabilities("probability_up", probability_up), outcomes("went_up", went_up)
    same_shape(probability_up=probability, went_up=up)
    return probability, up
