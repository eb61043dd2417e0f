"""What a fold may learn from: panels whose sessions before a rolling span count for nothing, and none after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.risk.bars import RiskBars
from financial_assets.models.walk_forward.folds import Fold


def features_of_span(features: FeaturePanel, fold: Fold) -> FeaturePanel:
    """The features with decisions of the training span alone; what follows is as it was, and training does not read it.

    Values are shared. Sessions before a rolling span stay, not valid, so that the first features of the span remember
    what they would have known.
    """
    if fold.training.start == 0:
        return features
    valid = features.valid.copy()
    valid[:, : fold.training.start] = False
    return replace(features, valid=valid)


def risk_of_span(bars: RiskBars, fold: Fold) -> RiskBars:
    """Returns and variances from the first session of the training span on; nothing after it is taken away."""
    first = fold.training.start
    matrices = {name: getattr(bars, name)[:, first:] for name in ("returns", "variance", "ewma", "next_return")}
    return replace(bars, sessions=bars.sessions[first:], **matrices)


def answered(panel: PricePanel, sessions: range) -> np.ndarray:
    """Which tickers can have a signal on each of ``sessions``: bool ``[ticker, len(sessions)]``.

    Those that traded and have as many bars as a request carries: the rows that a served model would answer.
    """
    span = slice(sessions.start, sessions.stop)
    enough: np.ndarray = panel.listed_bars()[:, span] >= SERVED_LOOKBACK
    return panel.valid[:, span] & enough
