"""Scores of probabilities for "the price goes up": n forecasts, one outcome each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, outcomes, probabilities, same_shape

__all__ = [
    "LOG_LOSS_CLIP",
    "ReliabilityCurve",
    "accuracy",
    "hits",
    "log_loss",
    "log_losses",
    "majority_rate",
    "reliability_curve",
    "squared_errors",
]

LOG_LOSS_CLIP = float(np.finfo(np.float64).eps)
"""Probabilities are moved this far inside (0, 1) before a logarithm is taken: one certain miss costs 36.04 nats."""


def hits(probability_up: ArrayLike, went_up: ArrayLike, threshold: float = 0.5) -> NDArray[np.bool_]:
    """Which forecasts had the direction right.

    Parameters
    ----------
    probability_up
        Forecast probabilities ``[n]``.
    went_up
        Outcomes ``[n]``, 0/1 or booleans.
    threshold
        "Up" is forecast when the probability is greater.

    Returns
    -------
    ndarray
        Booleans ``[n]``.
    """
    probability, up = _pair(probability_up, went_up)
    return (probability > levels("threshold", threshold)) == up


def accuracy(probability_up: ArrayLike, went_up: ArrayLike, threshold: float = 0.5) -> float:
    """Share of forecasts with the direction right; parameters as for ``hits``."""
    return float(hits(probability_up, went_up, threshold).mean())


def majority_rate(went_up: ArrayLike) -> float:
    """Accuracy of always forecasting the more frequent direction of these very outcomes (known only afterwards)."""
    up = outcomes("went_up", went_up)
    return float(max(up.mean(), (~up).mean()))


def squared_errors(probability_up: ArrayLike, went_up: ArrayLike) -> NDArray[np.float64]:
    """Squared difference between probability and outcome of each forecast ``[n]``, in [0, 1]."""
    probability, up = _pair(probability_up, went_up)
    return np.square(probability - up)


def log_losses(probability_up: ArrayLike, went_up: ArrayLike, clip: float = LOG_LOSS_CLIP) -> NDArray[np.float64]:
    """Negative log likelihood of each outcome ``[n]``, in nats.

    Parameters
    ----------
    probability_up, went_up
        As for ``hits``.
    clip
        Probabilities are limited to [clip, 1 - clip], so that one certain miss costs ``-ln(clip)`` and not infinity.
    """
    probability, up = _pair(probability_up, went_up)
    if not 0 < clip < 0.5:
        raise ValueError(f"clip must lie strictly between 0 and 0.5, not {clip}")
    probability = np.clip(probability, clip, 1 - clip)
    return -np.where(up, np.log(probability), np.log1p(-probability))


def log_loss(probability_up: ArrayLike, went_up: ArrayLike, clip: float = LOG_LOSS_CLIP) -> float:
    """Mean of ``log_losses``; always saying 0.5 scores ln 2 = 0.6931."""
    return float(log_losses(probability_up, went_up, clip).mean())


@dataclass(frozen=True)
class ReliabilityCurve:
    """How often it went up when a probability was forecast.

    Attributes
    ----------
    edges
        Borders of the bins ``[bins + 1]``, from 0 to 1; a bin holds its left border, the last one both.
    predicted
        Mean forecast per bin ``[bins]``; NaN in an empty bin.
    observed
        Share that went up per bin ``[bins]``; NaN in an empty bin.
    counts
        Forecasts per bin ``[bins]``.
    """

    edges: NDArray[np.float64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    counts: NDArray[np.int64]


def reliability_curve(probability_up: ArrayLike, went_up: ArrayLike, bins: int = 10) -> ReliabilityCurve:
    """Forecast against observed frequency in bins of equal width; parameters as for ``hits``.

    Raises
    ------
    ValueError
        Bad arguments, or fewer than one bin.
    """
    probability, up = _pair(probability_up, went_up)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    edges = np.linspace(0, 1, bins + 1)
    index = np.searchsorted(edges[1:-1], probability, side="right")
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(index, weights=probability, minlength=bins) / counts
        observed = np.bincount(index, weights=up.astype(np.float64), minlength=bins) / counts
    return ReliabilityCurve(edges, predicted, observed, counts.astype(np.int64))


def _pair(probability_up: ArrayLike, went_up: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probability, up = probabilities("probability_up", probability_up), outcomes("went_up", went_up)
    same_shape(probability_up=probability, went_up=up)
    return probability, up
