"""Fits ``BoostedNetwork``: gradient-boosted trees, as many rounds as the stop block asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from torch import nn

from financial_assets.errors import TrainingError
from financial_assets.models.fitting.rows import Rows, decision_rows
from financial_assets.models.networks.boosted import BoostedNetwork
from financial_assets.models.onnx.trees import TreeEnsemble
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import Variant
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

__all__ = ["fit_boosted"]

_MOST_ROWS = 65_536
"""Most rows of a block that are looked at: each of the twelve sums of trees passes over them in every round."""

_LEAST_LEAF = 40
"""Fewest rows of a leaf on a small panel, where ``_LEAF_SHARE`` would leave a handful."""

_LEAF_SHARE = 0.01
"""Share of the rows that a leaf holds at least: what fewer have in common is mostly chance at daily horizons."""

_LARGEST_EXCESS = 5.0
"""Excess returns beyond this many volatilities count as this many: squared, a few jumps would grow all trees."""


def fit_boosted(network: BoostedNetwork, variant: Variant, data: TrainingData, seed: int) -> Mapping[str, float]:
    """Fit in place on the fit block; each sum of trees ends at its best round on the stop block.

    Parameters
    ----------
    network
        To be fitted.
    variant
        ``epochs`` rounds at most, ``patience`` without a better one, at ``learning_rate``, trees of ``hidden`` leaves.
    data
        With scaled features.
    seed
        Of the rows of a large block.

    Returns
    -------
    Mapping
        The number of rounds of each sum.

    Raises
    ------
    TrainingError
        If a block holds one direction only.
    """
    fit, stop = (decision_rows(windows, _MOST_ROWS, seed) for windows in (data.fit, data.stop))
    if min(len(np.unique(rows.up)) for rows in (fit, stop)) < 2:
        raise TrainingError("the fit or the stop block holds one direction only: set an earlier INGESTION_START_DATE")
    given: dict[str, Any] = {
        "learning_rate": variant.learning_rate,
        "max_iter": variant.epochs,
        "max_leaf_nodes": variant.hidden,
        "min_samples_leaf": max(_LEAST_LEAF, int(_LEAF_SHARE * len(fit.up))),
        "l2_regularization": variant.weight_decay,
        "early_stopping": True,
        "scoring": "loss",
        "n_iter_no_change": variant.patience,
        "tol": 0.0,
        "categorical_features": None,
        "random_state": seed,
    }
    rounds: dict[str, float] = {}

    def grow(place: nn.ModuleList, number: int, name: str, model: Any, column: str) -> None:
        known, stopped = (_outcome(rows, column) for rows in (fit, stop))
        model.fit(fit.inputs, known, X_val=stop.inputs, y_val=stopped)
        # Of equal rounds the earlier one; the first score is that of no tree at all, which would be a constant.
        best = int(np.argmax(model.validation_score_[1:])) + 1
        place[number] = TreeEnsemble.from_sklearn(model, rounds=best)
        rounds[f"{name} rounds"] = best

    grow(network.direction, 0, "direction", HistGradientBoostingClassifier(**given), "up")
    for head, column in ((network.quantiles, "scaled_return"), (network.quantiles_5d, "scaled_return_5d")):
        for number, level in enumerate(QUANTILE_LEVELS):
            model = HistGradientBoostingRegressor(loss="quantile", quantile=level, **given)
            grow(head, number, f"{column} {level:.0%}", model, column)
    grow(network.score, 0, "excess", HistGradientBoostingRegressor(**given), "excess")
    return rounds


def _outcome(rows: Rows, column: str) -> np.ndarray:
    outcome = getattr(rows, column)
    return np.clip(outcome, -_LARGEST_EXCESS, _LARGEST_EXCESS) if column == "excess" else outcome
