from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import ExperimentError
from financial_assets.experiment.allocation.limits import Limits


@st.composite
def cases(draw: st.DrawFn) -> tuple[Limits, tuple[int, ...], list[float]]:
    arms = draw(st.integers(2, 5))
    floor = draw(st.integers(10, 100 // arms))
    cap = draw(st.integers(-(-100 // arms), 100 - floor).filter(lambda cap: cap >= floor))
    limits = Limits(floor, cap, draw(st.integers(1, 10)), hysteresis=draw(st.integers(0, 5)))
    shares = draw(st.lists(st.floats(0, 1), min_size=arms, max_size=arms).filter(lambda s: sum(s) > 0.01))
    start = draw(st.lists(st.floats(0, 1), min_size=arms, max_size=arms))
    return limits, limits.ideal(start), [share / sum(shares) for share in shares]


@given(cases())
def test_weights_obey_every_limit(case: tuple[Limits, tuple[int, ...], list[float]]) -> None:
    limits, now, shares = case
    after = limits.move(now, shares)
    assert limits.check(after) == after
    assert max(abs(a - b) for a, b in zip(after, now, strict=True)) <= limits.step


@given(cases())
def test_repeated_moves_arrive_near_the_ideal_and_rest(case: tuple[Limits, tuple[int, ...], list[float]]) -> None:
    limits, now, shares = case
    for _ in range(200):
        now = limits.move(now, shares)
    assert limits.move(now, shares) == now
    ideal = limits.ideal(shares)
    assert max(abs(a - b) for a, b in zip(now, ideal, strict=True)) < max(1, limits.hysteresis)


def test_the_projection_is_the_nearest_of_all_splits() -> None:
    random, limits = np.random.default_rng(0), Limits(10, 70)
    splits = np.array([(a, b, 100 - a - b) for a, b in itertools.product(range(10, 71), repeat=2)])
    splits = splits[(splits[:, 2] >= 10) & (splits[:, 2] <= 70)]
    for _ in range(300):
        shares = random.dirichlet([0.4, 0.4, 0.4])
        distances = ((splits - 100 * shares) ** 2).sum(axis=1)
        found = ((np.array(limits.ideal(shares.tolist())) - 100 * shares) ** 2).sum()
        assert found == pytest.approx(distances.min(), abs=1e-6)


def test_small_changes_are_not_worth_a_new_epoch() -> None:
    limits = Limits(hysteresis=3)
    assert limits.move((50, 50), [0.52, 0.48]) == (50, 50)
    assert limits.move((50, 50), [0.53, 0.47]) == (53, 47)
    assert limits.move((50, 50), [0.99, 0.01]) == (60, 40)
    assert limits.move((85, 15), [0.99, 0.01]) == (90, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"floor": 9}, "floor is 9"),
        ({"floor": 10.0}, "floor is 10.0"),
        ({"cap": 91}, "cap is 91"),
        ({"step": 11}, "step is 11"),
        ({"step": 0}, "step is 0"),
        ({"hold": 0}, "label cycle"),
        ({"hysteresis": -1}, "hysteresis is -1"),
    ],
)
def test_unsafe_limits_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        Limits(**change)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((95, 5), "floor"),
        ((50, 49), "add up to 100"),
        ((50.0, 50.0), "whole numbers"),
        ((100,), "1 arms"),
        ((10,) * 11, "11 arms"),
    ],
)
def test_weights_outside_the_limits_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        Limits().check(weights)


def test_shares_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ExperimentError, match="not finite"):
        Limits().move((50, 50), [float("nan"), 1.0])
