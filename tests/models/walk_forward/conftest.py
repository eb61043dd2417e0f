"""Two folds of a random walk, with quick features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models.variants import Variant
from financial_assets.models.walk_forward.folds import Fold, FoldPlan, lay_folds
from financial_assets.models.walk_forward.run import WalkForward
from tests.models.conftest import SEQUENCE_LENGTH, walk

PLAN = FoldPlan(splits=2, test_sessions=20)


def walk_of(
    folder: Path, panel: PricePanel, features: FeaturePanel, graph: FeatureGraph, tiny: Variant, **changes: Any
) -> WalkForward:
    """A walk-forward of the tiny variant, with ``changes`` of its settings."""
    settings: dict[str, Any] = {
        "folder": folder,
        "panel": panel,
        "features": features,
        "plan": PLAN,
        "sequence_length": SEQUENCE_LENGTH,
        "seed": 7,
        "device": "cpu",
        "graph": graph,
        "variants": {"tiny": tiny},
    }
    return WalkForward(**settings | changes)


@pytest.fixture(scope="session")
def universe() -> PricePanel:
    return walk(seed=3, tickers=4, count=760)


@pytest.fixture(scope="session")
def universe_features(universe: PricePanel, graph: FeatureGraph) -> FeaturePanel:
    return compute_panel(universe, graph)


@pytest.fixture(scope="session")
def folds(universe: PricePanel) -> tuple[Fold, ...]:
    return lay_folds(len(universe.sessions), PLAN)
