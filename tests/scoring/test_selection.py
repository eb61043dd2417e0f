"""Probabilistic and deflated Sharpe ratios: the published example, simulation, laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from financial_assets.scoring.selection import (
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    probabilistic_sharpe_ratio,
)


def test_the_published_example() -> None:
    """Bailey and López de Prado (2014): annual ratio 2.5, 5 years of 250 days, 100 trials of annual variance 1/2."""
    benchmark = expected_maximum_sharpe(100, 0.5 / 250)
    assert benchmark == pytest.approx(0.1132, abs=5e-5)
    assert probabilistic_sharpe(2.5 / math.sqrt(250), benchmark, 1250, -3, 10) == pytest.approx(0.9004, abs=5e-5)


@pytest.mark.parametrize("trials", [10, 100])
def test_the_expected_maximum_by_simulation(trials: int) -> None:
    best = np.random.default_rng(1).normal(0, 0.05, (20_000, trials)).max(axis=1).mean()
    assert expected_maximum_sharpe(trials, 0.05**2) == pytest.approx(best, rel=0.03)


def test_the_probability_is_honest_without_skill() -> None:
    returns = np.random.default_rng(2).normal(0, 0.01, (2000, 250))
    found = np.array([probabilistic_sharpe_ratio(row) for row in returns])
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_the_best_of_many_without_skill_looks_good_and_is_deflated() -> None:
    random, naive, deflated = np.random.default_rng(3), [], []
    for _ in range(200):
        returns = random.standard_t(5, (50, 504)) * 0.01
        ratios = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
        best = returns[np.argmax(ratios)]
        naive.append(probabilistic_sharpe_ratio(best) > 0.95)
        deflated.append(deflated_sharpe_ratio(best, 50, float(ratios.var(ddof=1))) > 0.95)
    assert np.mean(naive) > 0.8, "taken alone, the winner looks real"
    assert np.mean(deflated) < 0.05


@given(st.integers(0, 2**32 - 1), st.integers(1, 500))
def test_laws(seed: int, trials: int) -> None:
    returns = np.random.default_rng(seed).normal(0.0005, 0.01, 60)
    alone = probabilistic_sharpe_ratio(returns)
    assert 0 <= deflated_sharpe_ratio(returns, trials + 1, 0.01) <= deflated_sharpe_ratio(returns, trials, 0.01) <= 1
    assert deflated_sharpe_ratio(returns, 1, 0.01) == alone
    assert probabilistic_sharpe_ratio(-returns) == pytest.approx(1 - alone)
    assert probabilistic_sharpe_ratio(3 * returns) == pytest.approx(alone)


def test_bad_arguments_are_named() -> None:
    assert math.isnan(probabilistic_sharpe_ratio([0.01, 0.01]))
    with pytest.raises(ValueError, match="observations"):
        probabilistic_sharpe(0.1, 0, 1, 0, 3)
    with pytest.raises(ValueError, match="skewness 9"):
        probabilistic_sharpe(1.0, 0, 100, 9, 3)
    with pytest.raises(ValueError, match="trials"):
        expected_maximum_sharpe(0, 0.1)
    with pytest.raises(ValueError, match="variance"):
        expected_maximum_sharpe(2, math.nan)
    with pytest.raises(ValueError, match="returns holds 1"):
        deflated_sharpe_ratio([0.1, math.nan], 2, 0.1)
