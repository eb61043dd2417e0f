"""Two folds of a random walk, with quick features."""

from __future__ import annotations

import pytest

from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models.walk_forward.folds import Fold, FoldPlan, lay_folds
from tests.models.conftest import walk

PLAN = FoldPlan(splits=2, test_sessions=20)


@pytest.fixture(scope="session")
def universe() -> PricePanel:
    return walk(seed=3, tickers=4, count=760)


@pytest.fixture(scope="session")
def universe_features(universe: PricePanel, graph: FeatureGraph) -> FeaturePanel:
    return compute_panel(universe, graph)


@pytest.fixture(scope="session")
def folds(universe: PricePanel) -> tuple[Fold, ...]:
    return lay_folds(len(universe.sessions), PLAN)
