"""Scores of probabilities for "the price goes up": n forecasts, one outcome each.

"Up" is the positive class: precision, recall and F1 are about the forecasts and outcomes that are ups, so that always
saying "up" has a recall of 1 and an F1 near 0.69. Matthews' correlation and the area under the curve are 0 and one half
for it, or undefined, whatever the share of ups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import outcomes, probabilities, same_shape
from financial_assets.scoring.intervals import (
    Interval,
    day_clustered_mean,
    day_jackknife_of_sums,
    jackknife_interval,
    numbered_days,
)

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


def scores_by_day(
    probability_up: ArrayLike, went_up: ArrayLike, days: ArrayLike, level: float = 0.95
) -> Mapping[str, Interval]:
    """All scores of the direction, each with an interval that is robust to any correlation within a day.

    Parameters
    ----------
    probability_up, went_up
        As for ``hits``.
    days
        The day of each row ``[n]``, at least two; ``autocorrelation.day_blocks`` of them where outcomes overlap.
    level
        Confidence of the intervals.

    Returns
    -------
    Mapping
        ``accuracy``, ``precision``, ``recall``, ``f1``, ``mcc`` (Matthews 1975), ``auc`` (area under the receiver
        operating characteristic: a rise got the higher probability of the two, ties count one half), ``brier`` and
        ``log_loss`` (nats). The estimate is NaN where a score is undefined, such as the precision of who never says
        "up"; the bounds are NaN where it would be without one of the days.

    Raises
    ------
    ValueError
        Bad arguments, or fewer than two days.
    """
    probability, up = _pair(probability_up, went_up)
    said = probability > 0.5
    # One column each: right ups, wrong ups, missed ups, right downs.
    outcome = np.stack([said & up, said & ~up, ~said & up, ~said & ~up], axis=1)
    means = {
        "accuracy": (said == up).astype(np.float64),
        "brier": squared_errors(probability, up),
        "log_loss": log_losses(probability, up),
    }
    intervals = {name: day_clustered_mean(values, days, level) for name, values in means.items()}
    for name, statistic in _OF_COUNTS.items():
        intervals[name] = day_jackknife_of_sums(statistic, outcome, days, level)
    return {**intervals, "auc": auc_by_day(probability, up, days, level)}


def auc_by_day(probability_up: ArrayLike, went_up: ArrayLike, days: ArrayLike, level: float = 0.95) -> Interval:
    """Area under the receiver operating characteristic, all rows pooled; parameters as for ``scores_by_day``.

    The share of pairs of a rise and a fall, of any two days, in which the rise has the higher probability. Without a
    day all pairs with one of its rows are missing, which needs no second count of the others.
    """
    probability, up = _pair(probability_up, went_up)
    day = numbered_days(days, probability.size)
    groups = int(day.max()) + 1
    rises, falls = probability[up], probability[~up]
    won_by_rise, won_against_fall = _beaten(rises, falls), rises.size - _beaten(falls, rises)
    of_rises, of_falls = day[up], day[~up]
    within = np.zeros(groups)
    for one in np.intersect1d(of_rises, of_falls):
        within[one] = _beaten(rises[of_rises == one], falls[of_falls == one]).sum()
    won = won_by_rise.sum()
    lost = np.bincount(of_rises, won_by_rise, groups) + np.bincount(of_falls, won_against_fall, groups) - within
    rises_left = rises.size - np.bincount(of_rises, minlength=groups)
    falls_left = falls.size - np.bincount(of_falls, minlength=groups)
    if groups < 2:
        raise ValueError("days must span at least two days: one day says nothing about how days differ")
    left_out = _ratio(won - lost, np.asarray(rises_left * falls_left, np.float64))
    estimate = won / (rises.size * falls.size) if rises.size and falls.size else float("nan")
    return jackknife_interval(estimate, left_out, probability.size, level)


def _beaten(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of ``others`` each value exceeds; one that is equal counts one half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _precision(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    right, wrong, _, _ = counts.T
    return _ratio(right, right + wrong)


def _recall(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    right, _, missed, _ = counts.T
    return _ratio(right, right + missed)


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    right, wrong, missed, _ = counts.T
    return _ratio(2 * right, 2 * right + wrong + missed)


def _matthews(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    right, wrong, missed, down = counts.T
    product = (right + wrong) * (right + missed) * (down + wrong) * (down + missed)
    return _ratio(right * down - wrong * missed, np.sqrt(product))


_OF_COUNTS = {"precision": _precision, "recall": _recall, "f1": _f1, "mcc": _matthews}


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
