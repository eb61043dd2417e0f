"""BUY, SELL or HOLD: the regression against statsmodels, the rule, and how often a coin gets a trade."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from financial_assets.portfolio.trade_edge import (
    FEWEST_DAYS,
    RULE,
    EdgeEvidence,
    edge_evidence,
    expected_return,
    trade_edge,
)

COST = 0.0005


def world(
    slope: float, days: int = 250, tickers: int = 4, seed: int = 0, common: float = 0.01
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forecasts, what they earned, and their day; all tickers of a day share a shock."""
    rng = np.random.default_rng(seed)
    expected = rng.normal(0, 0.001, (days, tickers))
    shock = rng.normal(0, common, (days, 1))
    traded = slope * expected + shock + rng.normal(0, 0.01, (days, tickers))
    return expected.ravel(), traded.ravel(), np.repeat(np.arange(days), tickers)


def test_the_regression_is_that_of_statsmodels() -> None:
    expected, traded, days = world(0.7)
    found = edge_evidence(expected, traded, days)
    assert found is not None
    fitted = sm.OLS(traded, sm.add_constant(expected)).fit()
    assert [found.intercept, found.slope] == pytest.approx(fitted.params)
    # Leaving a day out, by hand: the definition of the jackknife, with another library's regression.
    left = np.array(
        [sm.OLS(traded[days != day], sm.add_constant(expected[days != day])).fit().params for day in np.unique(days)]
    )
    moves = left - fitted.params
    assert found.covariance == pytest.approx(249 / 250 * moves.T @ moves, rel=1e-6)
    assert (found.days, found.rows) == (250, 1000)


def test_the_interval_is_students_with_a_day_as_unit() -> None:
    evidence = EdgeEvidence(0.001, 2.0, np.array([[4e-8, 0.0], [0.0, 0.25]]), days=100, rows=400)
    interval = evidence.mean_at(0.002)
    deviation = np.sqrt(4e-8 + 0.25 * 0.002**2)
    reach = stats.t.ppf(0.975, 99) * deviation
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((0.005, 0.005 - reach, 0.005 + reach))


def test_too_few_days_are_no_evidence_and_mean_hold() -> None:
    expected, traded, days = world(50.0, days=FEWEST_DAYS - 1)
    assert edge_evidence(expected, traded, days) is None
    assert edge_evidence(*world(50.0, days=FEWEST_DAYS)) is not None
    advice = trade_edge(None, 0.9, 0.05, cost_per_side=COST)
    assert (advice.direction, advice.after_costs) == ("HOLD", None)
    assert str(FEWEST_DAYS) in advice.reason


def test_forecasts_that_never_differ_give_the_mean_of_all() -> None:
    _, traded, days = world(0.0)
    found = edge_evidence(np.full(len(traded), 0.001), traded, days)
    assert found is not None
    assert found.slope == 0
    assert found.mean_at(0.5).estimate == pytest.approx(traded.mean())


@given(
    st.floats(-0.01, 0.01),
    st.floats(1e-5, 0.01),
    st.floats(0.01, 0.99),
    st.floats(0, 0.002),
)
def test_the_rule_is_what_it_says(mean: float, deviation: float, probability: float, cost: float) -> None:
    evidence = EdgeEvidence(mean, 0.0, np.diag([deviation**2, 0.0]), days=100, rows=400)
    advice = trade_edge(evidence, probability, 0.001, cost_per_side=cost)
    reach = stats.t.ppf(0.975, 99) * deviation
    side = 1 if probability > 0.5 else -1
    low = side * mean - reach - 2 * cost
    assert advice.side == side
    assert advice.after_costs is not None
    assert advice.after_costs.low == pytest.approx(low, abs=1e-12)
    if abs(low) > 1e-9 and probability != 0.5:
        assert advice.direction == ("HOLD" if low < 0 else {1: "BUY", -1: "SELL"}[side])
    if advice.direction == "HOLD":
        assert "zero" in advice.reason or probability == 0.5


def test_a_coin_flip_is_held_whatever_the_market_earned() -> None:
    evidence = EdgeEvidence(0.01, 0.0, np.diag([1e-10, 0.0]), days=100, rows=400)
    assert trade_edge(evidence, 0.5, 0.0, cost_per_side=COST).direction == "HOLD"
    assert trade_edge(evidence, 0.51, 0.0, cost_per_side=COST).direction == "BUY"
    assert trade_edge(evidence, 0.49, 0.0, cost_per_side=COST).direction == "HOLD"


def test_forecasts_without_skill_are_seldom_advised_and_skill_is() -> None:
    """Without costs, one two-sided interval at 95 % excludes zero on the forecast's side in about 2.5 % of worlds."""
    advised = {0.0: 0, 6.0: 0}
    worlds = 300
    for slope in advised:
        for seed in range(worlds):
            evidence = edge_evidence(*world(slope, days=120, seed=seed))
            advice = trade_edge(evidence, 0.55, 0.0012, cost_per_side=0.0)
            advised[slope] += advice.direction == "BUY"
    # 2.5 % of 300 are 7.5; more than 17 has a probability below one in a thousand.
    assert advised[0.0] <= stats.binom.ppf(0.999, worlds, 0.025)
    assert advised[6.0] > 0.9 * worlds


def test_expected_return_is_deviation_times_normal_quantile() -> None:
    low, high = np.array([-0.02, -0.03]), np.array([0.02, 0.01])
    found = expected_return(np.array([0.5, 0.6]), low, high)
    spread = 2 * stats.norm.ppf(0.95)
    assert found == pytest.approx([0.0, 0.04 / spread * stats.norm.ppf(0.6)])
    assert np.isfinite(expected_return([0.0, 1.0], low, high)).all()


def test_the_printed_rule_names_its_figures() -> None:
    assert "95 % confidence" in RULE
    assert f"below {FEWEST_DAYS}" in RULE
