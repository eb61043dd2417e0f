from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import TrainingError
from financial_assets.models.variants import EPOCH_WINDOWS, MOST_GROWTH, SMALL_PANEL, VARIANTS, Schedule, Variant


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


SIZES = st.integers(1, 10_000_000)


@given(SIZES)
def test_a_small_panel_is_trained_with_the_settings_of_the_variant(windows: int) -> None:
    windows = min(windows, SMALL_PANEL)
    for variant in VARIANTS.values():
        assert variant.schedule(windows) == Schedule(variant.batch_size, variant.learning_rate, windows)


@given(SIZES, SIZES)
def test_batches_grow_in_proportion_and_rates_with_their_square_root(one: int, other: int) -> None:
    variant = VARIANTS["enhanced"]
    smaller, larger = (variant.schedule(windows) for windows in sorted((one, other)))
    assert smaller.batch_size <= larger.batch_size <= MOST_GROWTH * variant.batch_size
    assert smaller.epoch_windows <= larger.epoch_windows <= EPOCH_WINDOWS
    for windows, schedule in zip(sorted((one, other)), (smaller, larger), strict=True):
        growth = schedule.batch_size / variant.batch_size
        assert schedule.learning_rate == pytest.approx(variant.learning_rate * growth**0.5)
        if 1 < growth < MOST_GROWTH:
            assert growth <= windows / SMALL_PANEL < 2 * growth


def test_an_epoch_of_a_universe_has_as_many_steps_as_a_pass_over_a_small_panel() -> None:
    schedule = VARIANTS["baseline"].schedule(500 * 950)
    assert (schedule.batch_size, schedule.epoch_windows // schedule.batch_size) == (256, 48)
    assert schedule.learning_rate == pytest.approx(6e-3)
