"""Figures of merit against empyrical-reloaded, and their laws."""

from __future__ import annotations

import math

import empyrical
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from financial_assets.portfolio.performance import (
    annual_return,
    calmar_ratio,
    cumulative_return,
    equity_curve,
    max_drawdown,
    sharpe_ratio,
    sortino_ratio,
    win_rate,
)

series = hnp.arrays(np.float64, st.integers(2, 60), elements=st.floats(-0.2, 0.2).map(lambda value: round(value, 6)))


@given(series)
def test_figures_agree_with_empyrical(returns: np.ndarray) -> None:
    assert cumulative_return(returns) == pytest.approx(empyrical.cum_returns_final(returns), abs=1e-12)
    assert max_drawdown(returns) == pytest.approx(empyrical.max_drawdown(returns), abs=1e-12)
    if np.ptp(returns) > 1e-6:
        assert sharpe_ratio(returns) == pytest.approx(empyrical.sharpe_ratio(returns), rel=1e-9, abs=1e-9)
    assert annual_return(returns) == pytest.approx(empyrical.annual_return(returns), rel=1e-9, abs=1e-12)
    if returns.min() < 0:
        assert sortino_ratio(returns) == pytest.approx(empyrical.sortino_ratio(returns), rel=1e-9, abs=1e-9)
        assert calmar_ratio(returns) == pytest.approx(empyrical.calmar_ratio(returns), rel=1e-9, abs=1e-9)


@given(series, st.floats(0.01, 3))
def test_the_sharpe_ratio_does_not_depend_on_leverage(returns: np.ndarray, leverage: float) -> None:
    assert sharpe_ratio(leverage * returns) == pytest.approx(sharpe_ratio(returns), rel=1e-6, nan_ok=True)


@given(series)
def test_laws(returns: np.ndarray) -> None:
    assert -1 <= max_drawdown(returns) <= 0
    assert max_drawdown(returns) <= min(0.0, cumulative_return(returns)) + 1e-12
    assert max_drawdown(np.abs(returns)) == 0
    assert sharpe_ratio(-returns) == pytest.approx(-sharpe_ratio(returns), nan_ok=True)
    rate = win_rate(returns)
    assert math.isnan(rate) or rate + win_rate(-returns) == pytest.approx(1)
    assert equity_curve(returns)[-1] == pytest.approx(1 + cumulative_return(returns))


def test_known_values() -> None:
    assert max_drawdown([-0.5]) == -0.5, "the start counts as a peak"
    assert max_drawdown([0.1, -0.5, 1.0, -0.2]) == pytest.approx(-0.5)
    assert cumulative_return([0.5, -0.5]) == pytest.approx(-0.25)
    assert win_rate([0.1, 0.0, -0.1, 0.2]) == pytest.approx(2 / 3)
    assert sharpe_ratio([0.01, 0.03], periods=1) == pytest.approx(0.02 / (0.01 * math.sqrt(2)))
    assert max_drawdown([0.1, -1.0, 0.5]) == -1


def test_what_is_not_defined_is_nan() -> None:
    assert math.isnan(sharpe_ratio([0.01]))
    assert math.isnan(sharpe_ratio([0.01, 0.01, 0.01])), "rounding is not risk"
    assert math.isnan(sharpe_ratio([0.1 + 0.2, 0.3]))
    assert math.isnan(sharpe_ratio([0.0, 0.0]))
    assert math.isnan(win_rate([0.0, 0.0]))
    assert math.isnan(sortino_ratio([0.01, 0.0]))
    assert math.isnan(calmar_ratio([0.01, 0.0]))
    assert annual_return([0.1, -1.0]) == -1
    assert calmar_ratio([0.1, -1.0]) == -1
    assert math.isfinite(annual_return([1e300])), "at most the largest float"


FIGURES = [annual_return, calmar_ratio, cumulative_return, equity_curve, max_drawdown, sharpe_ratio, sortino_ratio]


@pytest.mark.parametrize("figure", [*FIGURES, win_rate])
@pytest.mark.parametrize(
    ("returns", "named"),
    [
        ([], "returns is empty"),
        ([0.1, math.nan], "returns holds 1 .*position 1"),
        ([0.1, math.inf], "returns holds 1"),
        ([[0.1]], "returns must be one-dimensional"),
        ([0.1, -1.01], "returns must be at least -1"),
    ],
)
def test_bad_returns_are_named(figure, returns: list, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        figure(returns)
