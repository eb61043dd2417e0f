from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from financial_assets.errors import TrainingError
from financial_assets.models.networks.build import NETWORKS
from financial_assets.models.search.space import NOT_SEARCHED, SPACES, Choice, Real, space_of, values_of, with_values
from financial_assets.models.variants import VARIANTS


def test_every_kind_of_network_has_a_space_or_a_reason() -> None:
    assert set(NETWORKS) <= set(SPACES) | set(NOT_SEARCHED)
    assert not set(SPACES) & set(NOT_SEARCHED)


SEARCHED = [name for name, variant in VARIANTS.items() if variant.network not in NOT_SEARCHED]


@pytest.mark.parametrize("name", SEARCHED)
def test_every_variant_lies_in_its_space(name: str) -> None:
    """A search begins with the present settings: it can only be as good or better."""
    variant = VARIANTS[name]
    space = space_of(variant)
    outside = {field: value for field, value in values_of(variant, space).items() if not space[field].contains(value)}
    assert outside == {}


@pytest.mark.parametrize("kind", sorted({VARIANTS[name].network for name in SEARCHED}))
def test_every_value_of_a_space_makes_a_variant(kind: str) -> None:
    variant = next(variant for variant in VARIANTS.values() if variant.network == kind)
    for name, dimension in SPACES[kind].items():
        values = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
        for value in values:
            assert getattr(with_values(variant, {name: value}), name) == value


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(TrainingError, match=r"'abacus' network, which has no search space; there are spaces for lstm"):
        space_of(replace(VARIANTS["baseline"], network="abacus"))


@pytest.mark.parametrize("kind", list(NOT_SEARCHED))
def test_what_is_not_searched_says_why(kind: str) -> None:
    with pytest.raises(TrainingError, match=f"nothing to search: {NOT_SEARCHED[kind]}"):
        space_of(replace(VARIANTS["baseline"], network=kind))


def test_limits_are_inside() -> None:
    real = Real(1e-4, 1e-2, log=True)
    assert real.contains(1e-4)
    assert real.contains(1e-2)
    assert not real.contains(0.011)
    assert not real.contains("0.001")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hiden": 3}, "no setting 'hiden'"),
        ({"name": "other"}, "no setting 'name'"),
        ({"network": "other"}, "no setting 'network'"),
        ({"hidden": 3.5}, "must be of type int"),
        ({"hidden": True}, "must be of type int"),
        ({"dropout": "0.1"}, "must be of type float"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
    ],
)
def test_impossible_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        with_values(VARIANTS["baseline"], values)


def test_whole_numbers_are_real_numbers_too() -> None:
    assert with_values(VARIANTS["baseline"], {"dropout": 0}).dropout == 0.0
