"""Costs by hand, and their laws: monotone, additive, known where they are paid."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.portfolio.costs import Costs, SquareRootImpact, average_dollar_volume, half_spread
from financial_assets.portfolio.simulation import simulate


def test_costs_by_hand() -> None:
    """Long .6, short .4 with 1 million: entered, kept free of cost, left."""
    costs = Costs(
        flat_bps=2.0,
        half_spread=[[1e-4], [5e-4]],
        impact=SquareRootImpact(0.5, 0.02, [[6e7], [4e7]]),
        borrow_per_year=[[0.0], [0.0252]],
    )
    book = simulate(np.array([[0.6, 0.6], [-0.4, -0.4]]), np.zeros((2, 2)), costs, capital=1e6, rebalancing="free")
    charges = book.charges
    np.testing.assert_allclose(book.turnover, [1, 1])
    np.testing.assert_allclose(charges.commission, 2e-4)
    np.testing.assert_allclose(charges.spread, 0.6e-4 + 2e-4)
    # Both orders are 1 % of a day's volume: half a volatility times a tenth.
    np.testing.assert_allclose(charges.impact, 0.5 * 0.02 * 0.1)
    np.testing.assert_allclose(charges.borrow, 0.4 * 1e-4)
    np.testing.assert_allclose(charges.total, book.costs)


@given(st.floats(0, 1e8), st.floats(1, 10), st.floats(0, 2))
def test_impact_grows_with_the_root_of_capital_and_in_proportion_to_its_coefficient(
    capital: float, times: float, coefficient: float
) -> None:
    def impact(capital: float, coefficient: float) -> float:
        costs = Costs(impact=SquareRootImpact(coefficient, 0.02, 1e7))
        return float(simulate([[0.5]], [[0.1]], costs, capital=capital + 1).charges.impact[0])

    base = impact(capital, coefficient)
    assert impact(times**2 * (capital + 1) - 1, coefficient) == pytest.approx(times * base)
    assert impact(capital, 2 * coefficient) == pytest.approx(2 * base)


def test_the_features_spreads_are_halved() -> None:
    np.testing.assert_allclose(half_spread([[0.0, 0.2, math.nan]]), [[0, 1e-3, math.nan]])
    np.testing.assert_allclose(half_spread([[0.0, 0.2, math.nan]], least_bps=1.0), [[1e-4, 1e-3, math.nan]])


@given(st.integers(0, 99), st.integers(1, 12))
def test_average_dollar_volume_is_that_of_pandas_and_of_the_past(seed: int, window: int) -> None:
    random = np.random.default_rng(seed)
    volume = random.integers(0, 100, (3, 15)).astype(float)
    volume[0, : random.integers(0, 15)] = math.nan
    volume[1] = 0.0
    found = average_dollar_volume(volume, window)
    expected = pd.DataFrame(volume.T).rolling(window, min_periods=1).mean().T
    np.testing.assert_allclose(found, expected)
    changed = volume.copy()
    changed[:, 10:] = 1e9
    np.testing.assert_array_equal(average_dollar_volume(changed, window)[:, :10], found[:, :10])
    assert (found[1] == 0).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: Costs(flat_bps=-1), "flat_bps must be"),
        (lambda: Costs(flat_bps=math.nan), "flat_bps must be"),
        (lambda: SquareRootImpact(-1, 0.02, 1e6), "coefficient must be"),
        (lambda: half_spread([[-1.0]]), "spread_percent must be at least 0"),
        (lambda: half_spread([[1.0]], least_bps=-1), "least_bps must be"),
        (lambda: average_dollar_volume([[-1.0]]), "dollar_volume must be at least 0"),
        (lambda: average_dollar_volume([[1.0]], 0), "window must be at least 1"),
        (lambda: Costs(impact=SquareRootImpact(1, 0.02, 1e6)).rates((1, 1), 0.0), "capital must be"),
        (lambda: Costs(impact=SquareRootImpact(1, -0.02, 1e6)).rates((1, 1), 1.0), "impact.volatility must be"),
        (lambda: Costs(borrow_per_year="much").rates((1, 1), None), "borrow_per_year must be one number"),
    ],
)
def test_bad_arguments_are_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
