"""The registry of features: every family, in a fixed order.

To add an indicator, add a ``Feature`` to ``FEATURES`` in its family's file and run ``python docs/write_features.py >
docs/features.md``. The laws are tested over the whole catalogue, so they cover it at once; models are trained again,
because the code that decides their weights has changed (``tests/models/test_fingerprint.py`` says what to record).
"""

from __future__ import annotations

from collections.abc import Sequence

from financial_assets.features.feature import Feature
from financial_assets.features.indicators import (
    bar_shape,
    calendar,
    covariates,
    cross_asset,
    liquidity,
    momentum,
    spectral,
    trend,
    volatility,
    volume,
)

__all__ = ["CATALOGUE", "FEATURE_NAMES", "MAX_LOOKBACK", "Feature", "catalogue"]

CATALOGUE: tuple[Feature, ...] = (
    *trend.FEATURES,
    *momentum.FEATURES,
    *volatility.FEATURES,
    *volume.FEATURES,
    *liquidity.FEATURES,
    *bar_shape.FEATURES,
    *cross_asset.FEATURES,
    *spectral.FEATURES,
    *calendar.FEATURES,
)
"""All features of bars alone, family by family."""

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in CATALOGUE)
MAX_LOOKBACK: int = max(feature.lookback for feature in CATALOGUE)


def catalogue(names: Sequence[str] = ()) -> tuple[Feature, ...]:
    """``CATALOGUE``, and behind it the features of the covariates ``names``, in the order of their channels."""
    return (*CATALOGUE, *covariates.covariate_features(names))
