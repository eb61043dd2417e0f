from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from financial_assets.errors import TrainingError
from financial_assets.models.variants import VARIANTS, Variant


def test_sizes_epochs_and_rates_are_those_promised() -> None:
    told = {v.name: (v.layers, v.hidden, v.dropout, v.epochs, v.learning_rate) for v in VARIANTS.values()}
    assert told["baseline"] == (1, 24, 0.05, 12, 3e-3)
    assert told["enhanced"] == (2, 64, 0.2, 25, 5e-4)
    assert told["lightweight"][:3] == (1, 32, 0.1)
    assert list(VARIANTS) == [v.name for v in VARIANTS.values()]


def test_registry_and_variants_are_frozen() -> None:
    with pytest.raises(TypeError):
        VARIANTS["mine"] = VARIANTS["baseline"]  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        VARIANTS["baseline"].hidden = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [("layers", 0), ("hidden", 0), ("epochs", 0), ("batch_size", 0), ("patience", 0), ("dropout", 1.0),
     ("dropout", float("nan")), ("learning_rate", 0.0), ("learning_rate", float("nan")), ("weight_decay", -1.0)],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(TrainingError, match=field):
        replace(VARIANTS["baseline"], **{field: value})


def test_hyperparameters_rebuild_the_variant() -> None:
    for variant in VARIANTS.values():
        assert Variant(**variant.hyperparameters()) == variant  # type: ignore[arg-type]
