"""The research interface, for notebooks and scripts on prices of one's own.

``import financial_assets as fa``, then ``fa.load_panel(...)``: the functions here compose what the asset graph is made
of, on frames in memory. They read no settings and write nothing, but for a walk-forward that is given a folder.
"""

from __future__ import annotations

from financial_assets.features.table import FeatureTable, features
from financial_assets.research.backtests import Backtest, backtest
from financial_assets.research.comparisons import ModelComparison, compare_models
from financial_assets.research.prices import PriceWarning, load_panel
from financial_assets.research.walks import WalkForwardResult, walk_forward

__all__ = [
    "Backtest",
    "FeatureTable",
    "ModelComparison",
    "PriceWarning",
    "WalkForwardResult",
    "backtest",
    "compare_models",
    "features",
    "load_panel",
    "walk_forward",
]
