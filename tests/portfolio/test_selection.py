"""Probabilistic and deflated Sharpe ratios, backtest overfitting: the published example, simulation, laws."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.ab.overfitting import backtest_overfitting
from financial_assets.portfolio.selection import (
    Trials,
    average_correlation,
    deflated_sharpe_of,
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


def test_trials_that_trade_alike_are_fewer() -> None:
    """Fifty strategies with a common factor: as many as r + (1 - r) 50, and their best needs less deflation."""
    random = np.random.default_rng(4)
    returns = 0.01 * (0.8 * random.standard_normal(2000) + 0.6 * random.standard_normal((50, 2000)))
    found = average_correlation(returns)
    assert found == pytest.approx(np.corrcoef(returns)[np.triu_indices(50, 1)].mean(), abs=1e-12)
    ratios = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
    alike, apart = Trials(ratios, found), Trials(ratios)
    assert (alike.effective, apart.effective) == (math.ceil(found + (1 - found) * 50), 50)
    assert alike.variance == apart.variance == pytest.approx(ratios.var(ddof=1))
    best = returns[np.argmax(ratios)]
    assert deflated_sharpe_of(best, alike) > deflated_sharpe_of(best, apart)
    assert deflated_sharpe_of(best, apart) == deflated_sharpe_ratio(best, 50, float(ratios.var(ddof=1)))


def test_one_trial_is_not_deflated_and_copies_are_one_trial() -> None:
    returns = np.random.default_rng(5).normal(0.001, 0.01, 250)
    alone = Trials([0.1])
    assert (alone.effective, alone.variance) == (1, 0)
    assert deflated_sharpe_of(returns, alone) == probabilistic_sharpe_ratio(returns)
    assert Trials([0.1] * 30, 1.0).effective == 1
    assert Trials([0.1] * 30, 1 - 1e-15).effective == 1
    assert Trials([0.1] * 30, -0.02).effective == 30, "no more than there are"
    assert average_correlation(np.stack([returns, 2 * returns])) == pytest.approx(1)
    assert average_correlation(np.stack([returns, -returns])) == pytest.approx(-1)


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
    with pytest.raises(ValueError, match="sharpes is empty"):
        Trials([])
    with pytest.raises(ValueError, match="average_correlation must lie"):
        Trials([0.1], 1.5)
    with pytest.raises(ValueError, match=r"returns must be finite \[trial, session\]"):
        average_correlation([[0.1, 0.2]])
    with pytest.raises(ValueError, match="trial 1 do not vary"):
        average_correlation([[0.1, 0.2], [0.1, 0.1]])
    with pytest.raises(ValueError, match="returns holds 1"):
        deflated_sharpe_ratio([0.1, math.nan], 2, 0.1)


def overfitting_by_hand(returns: np.ndarray, blocks: int) -> float:
    """The definition, in loops."""
    parts, found = np.split(returns, blocks), []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[b] for b in chosen])
        outside = np.concatenate([parts[b] for b in range(blocks) if b not in chosen])
        best = np.argmax(inside.mean(axis=0) / inside.std(axis=0, ddof=1))
        rank = stats.rankdata(outside.mean(axis=0) / outside.std(axis=0, ddof=1))[best] / (returns.shape[1] + 1)
        found.append(float(rank < 0.5) + 0.5 * float(rank == 0.5))
    return float(np.mean(found))


@pytest.mark.parametrize("strategies", [2, 7])
def test_overfitting_is_what_its_definition_says(strategies: int) -> None:
    returns = np.random.default_rng(strategies).standard_t(5, (96, strategies)) * 0.01
    found = backtest_overfitting(returns, blocks=8)
    assert found.probability == pytest.approx(overfitting_by_hand(returns, 8), abs=1e-12)
    assert (found.blocks, found.strategies, found.logits.size) == (8, strategies, 70)


def test_overfitting_is_a_coin_on_noise_and_absent_with_skill() -> None:
    random = np.random.default_rng(0)
    noise = [random.normal(0, 0.01, (240, 20)) for _ in range(150)]
    on_noise = np.array([backtest_overfitting(returns, blocks=8).probability for returns in noise])
    assert abs(on_noise.mean() - 0.5) < 3.3 * on_noise.std(ddof=1) / math.sqrt(150)
    skilled = noise[0] + np.r_[0.006, np.zeros(19)]
    found = backtest_overfitting(skilled)
    assert found.probability < 0.01
    assert found.loss < 0.01
    # Strategies that differ in nothing but the half in which they were lucky: the worst that choosing can do.
    sign = np.where(np.arange(20) % 2, 1, -1) * np.repeat([1, -1], 120)[:, None]
    assert backtest_overfitting(noise[1] * 0.1 + 0.002 * sign, blocks=4).probability > 0.4


@given(st.integers(0, 2**32 - 1))
def test_overfitting_laws(seed: int) -> None:
    random = np.random.default_rng(seed)
    returns = random.normal(0, 0.01, (67, 6))
    found = backtest_overfitting(returns, blocks=6)
    assert 0 <= found.probability <= 1
    order, scale = random.permutation(6), random.uniform(0.5, 2, 6)
    same = backtest_overfitting((returns * scale)[:, order], blocks=6)
    assert same.probability == found.probability, "ratios have neither names nor units"
    assert backtest_overfitting(returns[1:], blocks=6).probability == found.probability, "the rest is left out in front"


@pytest.mark.parametrize(
    ("returns", "blocks", "message"),
    [
        (np.zeros((100, 3)), 7, "even number"),
        (np.zeros((100, 3)), 22, "even number"),
        (np.zeros((100, 1)), 4, "2 strategies"),
        (np.zeros((7, 3)), 4, "8 sessions"),
        (np.full((100, 3), np.nan), 4, "NaN"),
        (np.full((100, 3), 0.01), 4, "do not vary"),
    ],
)
def test_overfitting_needs_something_to_judge(returns: np.ndarray, blocks: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backtest_overfitting(returns, blocks)
