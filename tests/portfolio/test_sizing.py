"""Sizing: exposures that stay, caps that hold, Kelly's weight, the volatility target."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, stats

from financial_assets.portfolio.books import exposure, long_short
from financial_assets.portfolio.sizing import (
    cap_gross,
    cap_names,
    equal,
    fractional_kelly,
    inverse_volatility,
    volatility_target,
)

WEIGHTS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.one_of(st.just(0.0), st.floats(0.001, 1), st.floats(-1, -0.001)),
)


def sizes(weights: np.ndarray) -> list[np.ndarray]:
    risk = np.random.default_rng(0).uniform(0.01, 0.05, weights.shape)
    return [equal(weights), inverse_volatility(weights, risk), cap_gross(weights, 0.5), cap_names(weights, 0.1)]


@given(WEIGHTS)
def test_signs_stay(weights: np.ndarray) -> None:
    for sized in sizes(weights):
        assert (np.sign(sized) == np.sign(weights)).all()


@given(WEIGHTS)
def test_exposures_stay_or_shrink_in_proportion(weights: np.ndarray) -> None:
    before = exposure(weights)
    for sized in sizes(weights)[:2]:
        np.testing.assert_allclose(exposure(sized).long, before.long, atol=1e-12)
        np.testing.assert_allclose(exposure(sized).short, before.short, atol=1e-12)
    for sized in sizes(weights)[2:]:
        after = exposure(sized)
        np.testing.assert_allclose(after.long * before.short, after.short * before.long, atol=1e-12)
        assert (after.gross <= before.gross + 1e-12).all()


@given(WEIGHTS, st.floats(0.01, 2))
def test_caps_hold_and_touch_nothing_that_keeps_them(weights: np.ndarray, most: float) -> None:
    assert (exposure(cap_gross(weights, most)).gross <= most * (1 + 1e-12)).all()
    assert (np.abs(cap_names(weights, most)) <= most * (1 + 1e-12)).all()
    calm = exposure(weights).gross <= most
    np.testing.assert_array_equal(cap_gross(weights, most)[:, calm], weights[:, calm])
    small = np.abs(weights).max(axis=0) <= most
    np.testing.assert_array_equal(cap_names(weights, most)[:, small], weights[:, small])


def test_by_hand() -> None:
    book = np.array([[0.4], [0.1], [-0.5], [0.0]])
    np.testing.assert_allclose(equal(book).ravel(), [0.25, 0.25, -0.5, 0])
    risk = [[0.02], [0.01], [0.03], [0.01]]
    np.testing.assert_allclose(inverse_volatility(equal(book), risk).ravel(), [1 / 6, 1 / 3, -0.5, 0])
    np.testing.assert_allclose(cap_names(book, 0.3).ravel(), [0.225, 0.075, -0.3, 0])
    np.testing.assert_allclose(cap_gross(book, 0.5).ravel(), [0.2, 0.05, -0.25, 0])
    two_sided = np.array([[0.5], [-0.5]])
    assert (inverse_volatility(two_sided, [[0.02], [math.nan]]) == 0).all(), "half a neutral book is none"
    assert inverse_volatility([[0.5], [0.5]], [[0.02], [math.nan]]).ravel().tolist() == [1, 0]


def test_risk_is_equal_after_inverse_volatility() -> None:
    random = np.random.default_rng(1)
    scores, risk = random.standard_normal((50, 20)), random.uniform(0.005, 0.05, (50, 20))
    sized = inverse_volatility(long_short(scores), risk)
    contributions = np.abs(sized * risk)
    for session in range(20):
        assert np.ptp(contributions[sized[:, session] > 0, session]) < 1e-15


@pytest.mark.parametrize(
    ("probability", "low", "high"), [(0.502, -0.03, 0.03), (0.495, -0.05, 0.04), (0.51, -0.2, 0.3)]
)
def test_kelly_is_the_growth_optimum_of_a_normal_return(probability: float, low: float, high: float) -> None:
    """By numerical integration and search, without the approximation of small bets."""
    deviation = (high - low) / (2 * stats.norm.ppf(0.95))
    mean = deviation * stats.norm.ppf(probability)
    nodes, mass = np.polynomial.hermite_e.hermegauss(40)

    def loss(weight: float) -> float:
        return -float(mass @ np.log1p(weight * (mean + deviation * nodes)))

    found = fractional_kelly([[probability]], [[low]], [[high]], fraction=1.0, cap=1e9)[0, 0]
    most = 1.5 * abs(found)
    best = optimize.minimize_scalar(loss, bounds=(-most, most), method="bounded", options={"xatol": 1e-9}).x
    assert best == pytest.approx(found, rel=2e-3)


def test_kelly_bets_a_fraction_up_to_the_cap() -> None:
    ranges = ([[-0.03] * 4], [[0.03] * 4])
    probability = [[0.5, 0.5005, 0.9, math.nan]]
    half = fractional_kelly(probability, *ranges, cap=0.2)
    full = fractional_kelly(probability, *ranges, fraction=1.0, cap=0.2)
    assert half.ravel().tolist() == [0, pytest.approx(0.034, abs=5e-4), 0.2, 0]
    assert full[0, 1] == pytest.approx(2 * half[0, 1])
    np.testing.assert_allclose(fractional_kelly(1 - np.array(probability), *ranges, cap=0.2), -half, atol=1e-15)
    assert (fractional_kelly(probability, *ranges, [[False] * 4]) == 0).all()
    assert (fractional_kelly([[0.9]], [[math.nan]], [[0.1]]) == 0).all(), "no range, no weight"


def test_the_volatility_target_is_met() -> None:
    random = np.random.default_rng(2)
    calm = np.where(np.arange(3000) < 1500, 0.005, 0.02)
    returns = random.normal(0, calm, (10, 3000))
    weights = np.full((10, 3000), 0.1)
    scaled = volatility_target(weights, returns, 0.1, most=10.0)
    earned = (scaled * returns).sum(axis=0)
    for span in (slice(100, 1500), slice(1700, 3000)):
        assert earned[span].std() * math.sqrt(252) == pytest.approx(0.1, rel=0.06)
    assert (scaled[:, :21] == 0).all(), "20 returns are known at the close of session 21"
    assert (scaled[:, 21] > 0).all()
    assert np.abs(volatility_target(weights, returns, 0.5, most=1.5)).max() == pytest.approx(0.15)
    assert (volatility_target(weights, np.zeros_like(returns), 0.1) == 0).all(), "what never moved has no forecast"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: equal([[math.nan]]), "weights must be finite"),
        (lambda: inverse_volatility([[1.0]], [[0.0]]), "volatility must be above 0"),
        (lambda: inverse_volatility([[1.0]], [[0.1, 0.1]]), r"volatility \(1, 2\)"),
        (lambda: fractional_kelly([[1.0]], [[-0.1]], [[0.1]]), "strictly between 0 and 1"),
        (lambda: fractional_kelly([[0.5]], [[0.1]], [[0.1]]), "low must be below high"),
        (lambda: fractional_kelly([[0.5]], [[-0.1]], [[0.1]], fraction=0), "fraction must be above 0"),
        (lambda: fractional_kelly([[0.5]], [[-0.1]], [[0.1]], cap=0), "cap must be finite and above 0"),
        (lambda: fractional_kelly([[0.5]], [[-0.1]], [[0.1]], range_level=1), "range_level must lie strictly"),
        (lambda: cap_gross([[1.0]], 0), "most must be"),
        (lambda: cap_names([[1.0]], -1), "most must be"),
        (lambda: volatility_target([[1.0]], [[0.1]], 0), "target must be"),
        (lambda: volatility_target([[1.0]], [[0.1]], 0.1, half_life=0), "half_life must be"),
        (lambda: volatility_target([[1.0]], [[0.1]], 0.1, warm_up=0), "warm_up must be at least 1"),
        (lambda: volatility_target([[1.0]], [[0.1]], 0.1, most=math.inf), "most must be"),
    ],
)
def test_bad_arguments_are_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
