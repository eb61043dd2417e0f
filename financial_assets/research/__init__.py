"""The research interface, for notebooks and scripts on prices of one's own.

``import financial_assets as fa``, then ``fa.load_panel(...)``: the functions here compose what the asset graph is made
of, on frames in memory. They read no settings and write nothing.
"""

from __future__ import annotations

from financial_assets.features.table import FeatureTable, features
from financial_assets.research.prices import PriceWarning, load_panel

__all__ = ["FeatureTable", "PriceWarning", "features", "load_panel"]
