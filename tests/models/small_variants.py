"""Every variant in a size that trains in a second, on a signal that is there to be found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.training import Training, train
from financial_assets.models.variants import VARIANTS, Variant

_QUICK: dict[str, Any] = {"epochs": 8, "learning_rate": 1e-2, "batch_size": 32, "dropout": 0.05}
_BASELINE = replace(VARIANTS["baseline"], hidden=16, **_QUICK)
_LINEAR = VARIANTS["linear"]

SMALL: Mapping[str, Variant] = {
    "baseline": _BASELINE,
    "advanced": replace(VARIANTS["advanced"], steps=8, hidden=16, **_QUICK),
    "attention": replace(VARIANTS["attention"], layers=1, hidden=16, **_QUICK),
    "transformer": replace(VARIANTS["transformer"], steps=8, layers=1, hidden=16, **_QUICK),
    "linear": _LINEAR,
    "boosted": replace(VARIANTS["boosted"], hidden=4, epochs=20, learning_rate=0.2),
    "ensemble": replace(VARIANTS["ensemble"], members=(_BASELINE, _LINEAR)),
}
"""By the architecture's best-known variant; ``enhanced`` and ``lightweight`` are ``baseline`` in other sizes."""


def train_small(
    variant: Variant, features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp, seed: int = 7
) -> Training:
    """A training of ``variant``, and first of its members."""
    arguments: dict[str, Any] = {"cutoff": cutoff, "seed": seed, "device": "cpu"}
    members = [train(member, features, panel, sequence_length=5, **arguments) for member in variant.members]
    return train(variant, features, panel, sequence_length=variant.window(5), members=members, **arguments)
