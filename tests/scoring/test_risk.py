"""Value at risk, expected shortfall and back-tests against empyrical and SciPy, and their laws."""

from __future__ import annotations

import math

import empyrical
import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from financial_assets.scoring.risk import (
    christoffersen_conditional_coverage,
    christoffersen_independence,
    dynamic_quantile,
    expected_shortfall,
    historical_var,
    joint_tail_losses,
    kupiec_unconditional_coverage,
    shortfall_between_quantiles,
)

series = hnp.arrays(np.float64, st.integers(1, 80), elements=st.floats(-0.3, 0.3))
levels = st.floats(0.5, 0.995)
exceedances = hnp.arrays(np.bool_, st.integers(2, 80))


@given(series, levels)
def test_value_at_risk_agrees_with_empyrical(returns: np.ndarray, level: float) -> None:
    assert historical_var(returns, level) == pytest.approx(-empyrical.value_at_risk(returns, 1 - level), abs=1e-12)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_expected_shortfall_agrees_with_empyrical_on_whole_days(level: float) -> None:
    """Empyrical averages whole days: where the tail is one, after its own count, both must agree."""
    returns = np.random.default_rng(1).standard_t(4, 1000) * 0.01
    whole = int((returns.size - 1) * (1 - level)) + 1
    assert expected_shortfall(returns, 1 - whole / returns.size) == pytest.approx(
        -empyrical.conditional_value_at_risk(returns, 1 - level)
    )


def test_expected_shortfall_of_a_known_distribution() -> None:
    returns = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    expected = stats.norm.pdf(stats.norm.ppf(0.05)) / 0.05
    assert expected_shortfall(returns, 0.95) == pytest.approx(expected, rel=1e-3)
    assert historical_var(returns, 0.95) == pytest.approx(-stats.norm.ppf(0.05), rel=1e-3)


@given(series, levels)
def test_laws_of_risk(returns: np.ndarray, level: float) -> None:
    var, shortfall = historical_var(returns, level), expected_shortfall(returns, level)
    assert shortfall >= var - 1e-12, "the mean of the tail is not better than its border"
    assert -returns.max() - 1e-12 <= var <= shortfall + 1e-12 <= -returns.min() + 2e-12
    assert expected_shortfall(returns, (1 + level) / 2) >= shortfall - 1e-12, "further out in the tail is worse"
    order = np.random.default_rng(0).permutation(returns.size)
    assert expected_shortfall(returns[order], level) == pytest.approx(shortfall)
    assert historical_var(2 * returns + 0.01, level) == pytest.approx(2 * var - 0.01)
    assert expected_shortfall(2 * returns + 0.01, level) == pytest.approx(2 * shortfall - 0.01)


@given(st.integers(2, 60).flatmap(lambda n: hnp.arrays(np.float64, (2, n), elements=st.floats(-0.3, 0.3))), levels)
def test_expected_shortfall_rewards_diversification(pair: np.ndarray, level: float) -> None:
    one, two = pair
    assert expected_shortfall((one + two) / 2, level) <= (
        (expected_shortfall(one, level) + expected_shortfall(two, level)) / 2 + 1e-12
    )


@given(exceedances, st.floats(0.005, 0.5))
def test_kupiec_is_the_likelihood_ratio_of_scipy(exceeded: np.ndarray, rate: float) -> None:
    found = kupiec_unconditional_coverage(exceeded, rate)
    count, n = int(exceeded.sum()), exceeded.size
    expected = stats.power_divergence([count, n - count], [n * rate, n * (1 - rate)], lambda_="log-likelihood")
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-5, abs=1e-9)


@given(exceedances)
def test_independence_is_the_g_test_of_the_transitions(exceeded: np.ndarray) -> None:
    found = christoffersen_independence(exceeded)
    assert found.statistic >= 0
    table = np.zeros((2, 2))
    np.add.at(table, (exceeded[:-1].astype(int), exceeded[1:].astype(int)), 1)
    if (table.sum(axis=0) > 0).all() and (table.sum(axis=1) > 0).all():
        expected = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
    else:
        assert found.statistic == pytest.approx(0, abs=1e-9)
        assert found.p_value == pytest.approx(1, abs=1e-4)


def test_the_published_non_rejection_regions_of_kupiec() -> None:
    """Kupiec (1995), 5 % test, 255 days: kept are N < 7 failures at a rate of 1 %, and 6 < N < 21 at 5 %."""

    def kept(rate: float, n: int) -> list[int]:
        return [k for k in range(n) if kupiec_unconditional_coverage(np.arange(n) < k, rate).p_value > 0.05]

    assert max(kept(0.01, 255)) == 6
    assert (min(kept(0.05, 255)), max(kept(0.05, 255))) == (7, 20)


def test_size_and_power_by_simulation() -> None:
    random = np.random.default_rng(2)
    honest = random.uniform(size=(2000, 500)) < 0.05
    assert np.mean([kupiec_unconditional_coverage(row, 0.05).p_value < 0.05 for row in honest]) < 0.08
    assert np.mean([christoffersen_independence(row).p_value < 0.05 for row in honest]) < 0.10
    too_many = random.uniform(size=(200, 500)) < 0.10
    assert np.mean([kupiec_unconditional_coverage(row, 0.05).p_value < 0.05 for row in too_many]) > 0.95
    # The right number, but in clusters: five in a row.
    clustered = np.repeat(random.uniform(size=(200, 100)) < 0.05, 5, axis=1)
    assert np.mean([christoffersen_independence(row).p_value < 0.05 for row in clustered]) > 0.95


def test_without_exceedances_there_is_no_evidence_of_dependence_but_of_a_wrong_rate() -> None:
    never = np.zeros(500)
    assert christoffersen_independence(never).p_value == 1
    assert kupiec_unconditional_coverage(never, 0.05).statistic == pytest.approx(-2 * 500 * math.log(0.95))
    assert kupiec_unconditional_coverage(np.ones(10), 0.5).statistic == pytest.approx(20 * math.log(2))


@given(exceedances, st.floats(0.005, 0.5))
def test_conditional_coverage_is_the_likelihood_of_a_free_chain_over_the_promised_one(
    exceeded: np.ndarray, rate: float
) -> None:
    def likelihood(hits: np.ndarray, p: float) -> float:
        return float(stats.bernoulli(p).logpmf(hits).sum()) if hits.size else 0.0

    before, after = exceeded[:-1], exceeded[1:].astype(int)
    free = sum(likelihood(part, part.mean()) for part in (after[before], after[~before]) if part.size)
    found = christoffersen_conditional_coverage(exceeded, rate)
    assert found.statistic == pytest.approx(max(2 * (free - likelihood(after, rate)), 0), rel=1e-6, abs=1e-6)
    assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, 2), abs=1e-9)


def test_dynamic_quantile_is_the_explained_sum_of_squares_of_statsmodels() -> None:
    random = np.random.default_rng(5)
    exceeded, forecast = random.uniform(size=400) < 0.05, np.exp(random.normal(-4, 0.3, 400))
    hit = exceeded - 0.05
    design = np.column_stack([np.ones(396), *(hit[4 - lag : -lag] for lag in range(1, 5)), forecast[4:]])
    fit = sm.OLS(hit[4:], design).fit()
    found = dynamic_quantile(exceeded, forecast, 0.05)
    assert found.statistic == pytest.approx(fit.params @ design.T @ design @ fit.params / (0.05 * 0.95), rel=1e-9)
    assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, 6))


def test_size_and_power_of_the_joint_tests() -> None:
    random = np.random.default_rng(6)
    forecast = np.exp(random.normal(0, 0.3, (400, 1000)))
    honest = random.uniform(size=forecast.shape) < 0.05
    joint = [christoffersen_conditional_coverage(row, 0.05).p_value < 0.05 for row in honest]
    dynamic = [dynamic_quantile(row, level, 0.05).p_value < 0.05 for row, level in zip(honest, forecast, strict=True)]
    assert 0.01 < np.mean(joint) < 0.10
    assert 0.01 < np.mean(dynamic) < 0.11
    # Right on average, but the value at risk overreacts: exceedances come when it is low.
    overreacting = random.normal(size=forecast.shape) < -1.645 * forecast
    found = [dynamic_quantile(row, level, 0.05).p_value for row, level in zip(overreacting, forecast, strict=True)]
    assert np.mean(np.array(found) < 0.05) > 0.9


@pytest.mark.parametrize(
    ("law", "at", "relative"),
    [(stats.norm, 0.05, 1.003), (stats.norm, 0.01, 1.032), (stats.t(5), 0.05, 0.988), (stats.t(5), 0.01, 0.944)],
)
def test_shortfall_from_two_quantiles_is_as_near_as_documented(law, at: float, relative: float) -> None:
    exact = law.expect(lambda x: x, ub=law.ppf(at), conditional=True)
    found = shortfall_between_quantiles([law.ppf(0.01)], [law.ppf(0.05)], at=at)[0]
    assert found / exact == pytest.approx(relative, abs=0.001)


def test_shortfall_of_an_exponential_tail_is_exact() -> None:
    levels = np.array([0.01, 0.05])
    far, near = np.log(levels) * 0.02
    for at in levels:
        assert shortfall_between_quantiles([far], [near], at=float(at))[0] == pytest.approx((np.log(at) - 1) * 0.02)


def test_the_joint_loss_is_smallest_at_the_true_pair() -> None:
    returns = stats.t(5).ppf((np.arange(40_000) + 0.5) / 40_000)
    border = float(stats.t(5).ppf(0.05))
    mean = float(returns[returns < border].mean())

    def loss(quantile: float, shortfall: float) -> float:
        n = returns.size
        return float(joint_tail_losses(returns, np.full(n, quantile), np.full(n, shortfall), 0.05).mean())

    best = loss(border, mean)
    for quantile, shortfall in [(0.9, 1), (1.1, 1), (1, 0.9), (1, 1.1), (1.1, 1.1), (0.9, 0.9)]:
        assert loss(quantile * border, shortfall * mean) > best
    twice = joint_tail_losses(2 * returns, np.full(40_000, 2 * border), np.full(40_000, 2 * mean), 0.05)
    assert twice.mean() - best == pytest.approx(np.log(2)), "differences have no unit"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: historical_var([]), "returns is empty"),
        (lambda: expected_shortfall([0.1, math.nan]), "returns holds 1"),
        (lambda: historical_var([0.1], 95), "level must lie strictly between 0 and 1"),
        (lambda: expected_shortfall([0.1], 1.0), "level must lie strictly between 0 and 1"),
        (lambda: kupiec_unconditional_coverage([], 0.05), "exceeded is empty"),
        (lambda: kupiec_unconditional_coverage([0, 2], 0.05), "exceeded must hold only 0 and 1"),
        (lambda: kupiec_unconditional_coverage([0, 1], 0.0), "rate must lie strictly between 0 and 1"),
        (lambda: christoffersen_independence([1]), "exceeded must hold at least two days"),
        (lambda: christoffersen_conditional_coverage([1, 0], 1.0), "rate must lie strictly between 0 and 1"),
        (lambda: dynamic_quantile([1, 0] * 20, np.ones(40), 0.05), "a constant value_at_risk"),
        (lambda: dynamic_quantile(np.zeros(40), np.arange(40.0), 0.05), "exceeded never varies"),
        (lambda: dynamic_quantile([1, 0] * 4, np.arange(8.0), 0.05), "more days than regressors"),
        (lambda: shortfall_between_quantiles([-1.0], [-2.0]), "far must not exceed near"),
        (lambda: shortfall_between_quantiles([-2.0], [-1.0], 0.05, 0.01), "far_level must be below near_level"),
        (lambda: joint_tail_losses([0.0], [-1.0], [-0.5], 0.05), "shortfall must be negative and at most quantile"),
        (lambda: joint_tail_losses([0.0], [1.0], [0.0], 0.05), "shortfall must be negative"),
    ],
)
def test_bad_arguments_are_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
