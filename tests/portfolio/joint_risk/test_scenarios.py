"""Scenarios and their risk, against computations of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from financial_assets.errors import PortfolioError
from financial_assets.market.panel import PricePanel
from financial_assets.portfolio.joint_risk.measures import portfolio_risk, tail_risk, tails_of_quantiles
from financial_assets.portfolio.joint_risk.residuals import FEWEST_SCENARIOS, JointResiduals
from financial_assets.portfolio.joint_risk.scenarios import ForecastRange, scenario_returns


def panel_of(returns: np.ndarray, seed: int = 0) -> PricePanel:
    """Bars whose adjusted closes make ``returns`` ``[ticker, session]``."""
    close = 50 * np.exp(np.cumsum(returns, axis=1))
    market = np.broadcast_to(100 * np.exp(np.cumsum(returns.mean(axis=0))), close.shape)
    sessions = pd.bdate_range("2001-01-01", periods=close.shape[1])
    day = np.broadcast_to((sessions - pd.Timestamp("1970-01-01")).days, close.shape)
    values = np.stack([close, close, close, close, np.ones_like(close), market, day], axis=1).astype(np.float32)
    names = tuple(f"T{number}" for number in range(len(close)))
    return PricePanel(names, sessions, np.ascontiguousarray(values), np.ones(close.shape, dtype=bool))


@pytest.fixture(scope="module")
def panel() -> PricePanel:
    rng = np.random.default_rng(0)
    common = rng.standard_t(4, 700) * 0.008
    return panel_of(common + rng.standard_t(4, (3, 700)) * 0.006)


def ewma(returns: np.ndarray, at: int) -> float:
    """RiskMetrics' volatility by its definition: a sum over the past, as long as its weights matter."""
    past = returns[max(0, at - 127) : at + 1][::-1] ** 2
    weights = 0.06 * 0.94 ** np.arange(len(past))
    return float(np.sqrt((weights * past).sum() / weights.sum()))


def test_a_residual_is_the_next_return_over_the_volatility_before_it(panel: PricePanel) -> None:
    closes = panel.values[:, 2].astype(np.float64)
    returns = np.diff(np.log(panel.values[:, 3].astype(np.float64)), axis=1, prepend=np.nan)
    one, five = JointResiduals.of(panel), JointResiduals.of(panel, 5)
    for ticker, at in ((0, 300), (1, 500), (2, 693)):
        volatility = ewma(returns[ticker, 1:], at - 1)
        assert one.values[at, ticker] == pytest.approx(returns[ticker, at + 1] / volatility, rel=1e-3)
        week = np.log(closes[ticker, at + 5] / closes[ticker, at])
        assert five.values[at, ticker] == pytest.approx(week / volatility, rel=1e-3)
    assert np.isnan(one.values[-1]).all()
    # Where the volatility is not yet an average of enough moves, there is no residual.
    assert np.isnan(one.values[:128]).all()
    assert np.isfinite(one.values[128:-1]).all()
    assert np.isnan(five.values[-5:]).all()


def test_a_later_listing_warms_up_by_itself(panel: PricePanel) -> None:
    values = panel.values.copy()
    values[1, :5, :200] = np.nan
    valid = panel.valid.copy()
    valid[1, :200] = False
    residuals = JointResiduals.of(PricePanel(panel.tickers, panel.sessions, values, valid))
    assert np.isnan(residuals.values[: 200 + 128, 1]).all()
    assert np.isfinite(residuals.values[200 + 128 : -1, 1]).all()
    assert np.isfinite(residuals.values[128:-1, 0]).all()


@pytest.mark.parametrize("horizon", [1, 5])
def test_nothing_later_than_the_session_is_a_scenario(panel: PricePanel, horizon: int) -> None:
    session = panel.sessions[600]
    changed = panel.values.copy()
    changed[:, :6, 601:] *= 3.0
    later = PricePanel(panel.tickers, panel.sessions, changed, panel.valid)
    known = [JointResiduals.of(one, horizon).known_at(session, panel.tickers) for one in (panel, later)]
    assert np.array_equal(known[0], known[1])
    # The latest of them ends at the session itself: a planted move there is seen.
    changed = panel.values.copy()
    changed[0, 3, 600] *= 1.5
    moved = PricePanel(panel.tickers, panel.sessions, changed, panel.valid)
    assert not np.array_equal(JointResiduals.of(moved, horizon).known_at(session, panel.tickers), known[0])


def test_sessions_that_one_ticker_misses_are_left_out(panel: PricePanel) -> None:
    valid = panel.valid.copy()
    valid[1, 400:420] = False
    gappy = PricePanel(panel.tickers, panel.sessions, panel.values, valid)
    residuals = JointResiduals.of(gappy)
    both = residuals.known_at(panel.sessions[-1], ["T0", "T1"], most=5000)
    assert len(both) == len(residuals.known_at(panel.sessions[-1], ["T0"], most=5000)) - 21
    assert np.isfinite(both).all()


def test_too_short_a_history_is_refused_by_name(panel: PricePanel) -> None:
    residuals = JointResiduals.of(panel)
    with pytest.raises(PortfolioError, match=rf"{FEWEST_SCENARIOS} are needed.*T1"):
        residuals.known_at(panel.sessions[200], ["T1"])
    with pytest.raises(PortfolioError, match="no prices of XXX"):
        residuals.known_at(panel.sessions[-1], ["T1", "XXX"])


@given(st.floats(-0.01, 0.01), st.floats(0.005, 0.1), st.integers(0, 100))
def test_scenarios_have_the_median_and_range_of_the_forecast(median: float, width: float, seed: int) -> None:
    residuals = np.random.default_rng(seed).standard_t(4, (501, 2))  # so that all three quantiles are scenarios
    forecast = ForecastRange.of([median - width] * 2, [median] * 2, [median + 2 * width] * 2)
    logs = np.log1p(scenario_returns(residuals, forecast))
    assert np.median(logs, axis=0) == pytest.approx([median] * 2, abs=1e-9)
    low, high = np.quantile(logs, [0.05, 0.95], axis=0)
    assert low == pytest.approx([median - width] * 2)
    assert high == pytest.approx([median + 2 * width] * 2)
    # Order, and so whatever the tickers did together, is that of the residuals.
    assert (np.argsort(logs, axis=0) == np.argsort(residuals, axis=0)).all()


def test_a_ticker_that_never_moved_and_quantiles_out_of_order_are_refused() -> None:
    forecast = ForecastRange.of([-0.01], [0.0], [0.01])
    with pytest.raises(PortfolioError, match="do not move"):
        scenario_returns(np.zeros((300, 1)), forecast)
    for wrong in (([0.01], [0.0], [0.02]), ([0.0], [0.0], [0.0]), ([np.nan], [0.0], [0.01])):
        with pytest.raises(PortfolioError):
            ForecastRange.of(*wrong)


def by_sorting(profits: np.ndarray, level: float) -> tuple[float, float]:
    """Value at risk and expected shortfall with a loop over the sorted losses."""
    losses = sorted(-profits, reverse=True)
    count = len(losses) * (1 - level)
    whole = int(count + 1e-9)
    mean = (sum(losses[:whole]) + (count - whole) * losses[whole]) / count
    place = (len(losses) - 1) * (1 - level)
    below = int(place)
    return losses[below] + (place - below) * (losses[below + 1] - losses[below]), mean


@given(st.lists(st.floats(-1e6, 1e6).filter(lambda v: abs(v) > 1), min_size=1, max_size=4), st.integers(0, 1000))
def test_portfolio_risk_by_hand(values: list[float], seed: int) -> None:
    returns = np.random.default_rng(seed).standard_t(3, (431, len(values))) * 0.01
    found = portfolio_risk(values, returns)
    whole = np.array([sum(value * move for value, move in zip(values, row, strict=True)) for row in returns])
    for level, var, es in (
        (0.95, found.whole.var_95, found.whole.es_95),
        (0.99, found.whole.var_99, found.whole.es_99),
    ):
        assert (var, es) == pytest.approx(by_sorting(whole, level))
    assert found.share_of_es_95.sum() == pytest.approx(found.whole.es_95)
    assert found.share_of_es_99.sum() == pytest.approx(found.whole.es_99)
    # Expected shortfall is coherent: together is never worse than the sum of the parts.
    assert found.diversification_95 >= -1e-6 * abs(found.whole.es_95)
    doubled = portfolio_risk([2 * value for value in values], returns)
    assert doubled.whole.es_99 == pytest.approx(2 * found.whole.es_99)
    assert found.whole.es_95 >= found.whole.var_95 - 1e-9
    assert found.whole.var_99 >= found.whole.var_95


def test_the_worst_case_of_the_joint_tail_is_kept() -> None:
    """Two that fall together are as risky together as they are alone; two opposite ones are riskless."""
    move = np.random.default_rng(0).standard_t(3, (1000, 1)) * 0.01
    both = np.hstack([move, move])
    alone = tail_risk(100 * move[:, 0])
    assert portfolio_risk([100, 100], both).whole.var_99 == pytest.approx(2 * alone.var_99)
    assert portfolio_risk([100, -100], both).whole.es_99 == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("side", [1, -1])
def test_tails_of_quantiles_against_draws_from_that_tail(side: int) -> None:
    quantiles = [-0.05, -0.03, 0.001, 0.035, 0.06]
    found = tails_of_quantiles(quantiles, side)
    far, near = (quantiles[0], quantiles[1]) if side > 0 else (quantiles[4], quantiles[3])
    slope = abs(near - far) / np.log(5)
    # The tail by its quantile function, on a fine grid of levels.
    for rate, es in ((0.05, found.es_95), (0.01, found.es_99)):
        levels = (np.arange(1_000_000) + 0.5) / 1_000_000 * rate
        moves = near - side * slope * np.log(0.05 / levels)
        assert es == pytest.approx(float(np.mean(side * (1 - np.exp(moves)))), rel=1e-4)
    assert found.var_95 == pytest.approx(side * (1 - np.exp(near)))
    assert found.var_99 == pytest.approx(side * (1 - np.exp(far)))


def test_shortfall_of_exact_normal_quantiles_is_as_close_as_it_says() -> None:
    quantiles = stats.norm.ppf([0.01, 0.05, 0.5, 0.95, 0.99]) * 1e-4  # so small that log and simple returns are one
    found = tails_of_quantiles(quantiles, 1)
    exact = {rate: stats.norm.pdf(stats.norm.ppf(rate)) / rate * 1e-4 for rate in (0.05, 0.01)}
    assert found.es_95 / exact[0.05] == pytest.approx(1.003, abs=1e-3)
    assert found.es_99 / exact[0.01] == pytest.approx(1.03, abs=5e-3)


def test_a_tail_without_a_mean_is_infinite() -> None:
    assert np.isinf(tails_of_quantiles([-0.1, -0.05, 0.0, 0.1, 2.0], -1).es_99)
