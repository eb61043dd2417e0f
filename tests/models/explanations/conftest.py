from __future__ import annotations

import pytest

from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.explanations.held_out import HeldOut
from financial_assets.models.training import Training, train
from financial_assets.models.variants import Variant
from tests.models.explanations.worlds import FAMILY_OF, planted

SMALL = Variant("small", layers=1, hidden=12, dropout=0.0, epochs=6, learning_rate=1e-2, batch_size=64)


@pytest.fixture(scope="package")
def world() -> tuple[FeaturePanel, PricePanel]:
    return planted()


@pytest.fixture(scope="package")
def trained(world: tuple[FeaturePanel, PricePanel]) -> Training:
    features, panel = world
    return train(SMALL, features, panel, cutoff=panel.sessions[-1], sequence_length=3, seed=3, device="cpu")


@pytest.fixture(scope="package")
def held_out(world: tuple[FeaturePanel, PricePanel], trained: Training) -> HeldOut:
    return HeldOut.of(trained, *world, FAMILY_OF)
