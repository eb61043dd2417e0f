from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import SettingsError, TrainingError
from financial_assets.models.variants import (
    EPOCH_WINDOWS,
    MOST_GROWTH,
    SMALL_PANEL,
    VARIANTS,
    Schedule,
    Variant,
    choose_variants,
)


def test_sizes_epochs_and_rates_are_those_promised() -> None:
    told = {v.name: (v.layers, v.hidden, v.dropout, v.epochs, v.learning_rate) for v in VARIANTS.values()}
    assert told["baseline"] == (1, 24, 0.05, 12, 3e-3)
    assert told["enhanced"] == (2, 64, 0.2, 25, 5e-4)
    assert told["lightweight"][:3] == (1, 32, 0.1)
    advanced = VARIANTS["advanced"]
    assert (advanced.hidden, advanced.dropout, advanced.learning_rate) == (96, 0.3, 1e-3)
    assert (advanced.weight_decay, advanced.patience) == (1e-4, 15)
    assert (VARIANTS["attention"].layers, VARIANTS["attention"].hidden) == (3, 128)
    assert VARIANTS["transformer"].steps == 60
    assert list(VARIANTS) == [v.name for v in VARIANTS.values()]


def test_registry_and_variants_are_frozen() -> None:
    with pytest.raises(TypeError):
        VARIANTS["mine"] = VARIANTS["baseline"]  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        VARIANTS["baseline"].hidden = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [("layers", 0), ("hidden", 0), ("epochs", 0), ("batch_size", 0), ("patience", 0), ("dropout", 1.0),
     ("dropout", float("nan")), ("steps", 0), ("learning_rate", 0.0), ("learning_rate", float("nan")),
     ("weight_decay", -1.0)],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(TrainingError, match=field):
        replace(VARIANTS["baseline"], **{field: value})


def test_hyperparameters_rebuild_the_variant() -> None:
    for variant in VARIANTS.values():
        assert Variant(**json.loads(json.dumps(variant.hyperparameters()))) == variant


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


def test_a_window_is_that_of_the_variant_or_that_of_the_setting() -> None:
    assert VARIANTS["baseline"].window(12) == 12
    assert VARIANTS["transformer"].window(12) == 60


def test_a_limit_of_epochs_holds_for_members_too() -> None:
    limited = VARIANTS["ensemble"].limited(2)
    assert {member.epochs for member in limited.members} == {1, 2}
    assert VARIANTS["ensemble"].limited(None) == VARIANTS["ensemble"]
    assert VARIANTS["baseline"].limited(100).epochs == 12


def test_members_read_windows_of_one_length() -> None:
    with pytest.raises(TrainingError, match="'mixed': its member 'advanced' must read windows of the same steps"):
        Variant("mixed", members=(VARIANTS["baseline"], VARIANTS["advanced"]))
    with pytest.raises(TrainingError, match="no ensemble itself"):
        Variant("nested", members=(VARIANTS["ensemble"],))


def test_variants_are_chosen_in_their_order_and_an_ensemble_combines_the_chosen() -> None:
    chosen = choose_variants(["ensemble", "linear", "advanced", "baseline"])
    assert [variant.name for variant in chosen] == ["baseline", "advanced", "linear", "ensemble"]
    assert [member.name for member in chosen[-1].members] == ["baseline", "linear"]
    assert chosen[:3] == tuple(VARIANTS[name] for name in ("baseline", "advanced", "linear"))


def test_unknown_variants_and_an_ensemble_without_members_name_the_setting_and_the_choices() -> None:
    with pytest.raises(SettingsError, match=r"VARIANTS: got perceiver, mamba; allowed are baseline, .*ensemble"):
        choose_variants(["baseline", "perceiver", "mamba"])
    with pytest.raises(SettingsError, match="VARIANTS: ensemble combines others: name at least 2 of baseline, "):
        choose_variants(["baseline", "advanced", "ensemble"])
