"""The registry of features: every family, in a fixed order."""

from __future__ import annotations

from financial_assets.features import momentum, volatility
from financial_assets.features.feature import Feature

__all__ = ["CATALOGUE", "FEATURE_NAMES", "MAX_LOOKBACK", "Feature"]

CATALOGUE: tuple[Feature, ...] = (
    *momentum.FEATURES,
    *volatility.FEATURES,
)
"""All features, family by family."""

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in CATALOGUE)
MAX_LOOKBACK: int = max(feature.lookback for feature in CATALOGUE)
