"""Scores of the probability of a rise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from financial_assets.experiment.metrics.metric import Metric, Rows, Unit
from financial_assets.scoring.classification import hits, log_losses, squared_errors

BASELINES = ("majority", "logistic")
"""What a direction must be compared with: the commoner side, and a linear model of the same features."""


def _accuracy(rows: Rows) -> NDArray[np.float64]:
    return hits(_probability(rows), np.asarray(rows["up"], bool)).astype(np.float64)


def _brier(rows: Rows) -> NDArray[np.float64]:
    return -squared_errors(_probability(rows), np.asarray(rows["up"], bool))


def _log_loss(rows: Rows) -> NDArray[np.float64]:
    return -log_losses(_probability(rows), np.asarray(rows["up"], bool))


def _probability(rows: Rows) -> NDArray[np.float64]:
    return np.asarray(rows["probability_up"], np.float64)


# A forecaster who is right two points more often than one half, and knows it, gains .02 ** 2 in Brier score and twice
# that in log loss: the three plausible effects are one.
DIRECTION = (
    Metric(
        name="accuracy",
        title="accuracy",
        question="direction",
        horizon=1,
        unit=Unit(100, 1, "points"),
        answers=("probability_up",),
        outcomes=("up",),
        scores=_accuracy,
        baselines=BASELINES,
        plausible_effect=0.02,
        limit=1.0,
    ),
    Metric(
        name="brier",
        title="Brier score",
        question="direction",
        horizon=1,
        unit=Unit(1, 4, ""),
        answers=("probability_up",),
        outcomes=("up",),
        scores=_brier,
        baselines=BASELINES,
        plausible_effect=0.0004,
        limit=1.0,
    ),
    Metric(
        name="log_loss",
        title="log loss",
        question="direction",
        horizon=1,
        unit=Unit(1, 4, "nats"),
        answers=("probability_up",),
        outcomes=("up",),
        scores=_log_loss,
        baselines=BASELINES,
        plausible_effect=0.0008,
    ),
)
