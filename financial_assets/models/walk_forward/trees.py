"""Gradient-boosted trees on the features of the decision session: a strong baseline that knows no order of time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import log_loss, mean_squared_error

from financial_assets.models.dataset import WindowDataset
from financial_assets.models.training_data import TrainingData

_MOST_ROWS = 200_000
"""Rows of the fit block that are learned from, evenly spaced: more cost time and change little."""

_TREES, _LEAVES, _RATE = 150, 15, 0.05
"""Most trees; small ones and a low rate, as fits data that are mostly noise."""

_FEWEST_IN_LEAF = 100


@dataclass(frozen=True, eq=False)
class Trees:
    """Fitted trees of both heads, and how many of each the stop block chose.

    Attributes
    ----------
    classifier, regressor
        Of the direction, and of the move beyond the market's in units of volatility.
    directions, excesses
        Trees of each that are used.
    """

    classifier: HistGradientBoostingClassifier
    regressor: HistGradientBoostingRegressor
    directions: int
    excesses: int

    def predict(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """``probability_up`` and ``score`` ``[n]`` for unscaled features ``[n, feature]``."""
        probability = next(islice(self.classifier.staged_predict_proba(features), self.directions - 1, None))
        score = next(islice(self.regressor.staged_predict(features), self.excesses - 1, None))
        return {"probability_up": np.asarray(probability[:, 1], np.float64), "score": np.asarray(score, np.float64)}


def fit_trees(data: TrainingData, excess: np.ndarray, *, seed: int) -> Trees:
    """Fit on the fit block; the stop block chooses the number of trees.

    Two fits on the same rows are the same bit for bit: nothing is drawn, and histograms are summed feature by feature.

    Parameters
    ----------
    data
        Blocks up to the cut-off.
    excess
        Move beyond the market's in units of volatility ``[ticker, session]``, settled on all rows of the blocks.
    seed
        Of ``HistGradientBoosting``, which draws rows for the borders of its bins where there are more than 200,000.
    """
    fit, stop = data.fit, data.stop
    rows = np.unique(np.linspace(0, len(fit) - 1, min(len(fit), _MOST_ROWS)).astype(np.intp))
    past, held = fit.last_step.numpy()[rows], stop.last_step.numpy()
    moved = excess[fit.tickers, fit.sessions][rows], excess[stop.tickers, stop.sessions]
    settings: dict[str, Any] = {
        "max_iter": _TREES,
        "max_leaf_nodes": _LEAVES,
        "learning_rate": _RATE,
        "min_samples_leaf": _FEWEST_IN_LEAF,
        "early_stopping": False,
        "random_state": seed,
    }
    classifier = HistGradientBoostingClassifier(**settings).fit(past, _went_up(fit)[rows])
    regressor = HistGradientBoostingRegressor(**settings).fit(past, moved[0])
    up = _went_up(stop)
    directions = [log_loss(up, said, labels=[False, True]) for said in classifier.staged_predict_proba(held)]
    excesses = [mean_squared_error(moved[1], said) for said in regressor.staged_predict(held)]
    return Trees(classifier, regressor, int(np.argmin(directions)) + 1, int(np.argmin(excesses)) + 1)


def _went_up(block: WindowDataset) -> np.ndarray:
    return block.outcome[:, 0].numpy() > 0
