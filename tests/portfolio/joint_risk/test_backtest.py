"""The back-test: right scenarios pass at their rate, and ranges that are too narrow are found out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from financial_assets.portfolio.joint_risk.backtest import PastForecasts, back_test
from financial_assets.portfolio.joint_risk.measures import tail_risk
from financial_assets.portfolio.joint_risk.residuals import JointResiduals
from financial_assets.portfolio.joint_risk.scenarios import ForecastRange, scenario_returns

DEVIATION = 0.012
TICKERS = ("A", "B")


def world(seed: int, sessions: int = 900, horizon: int = 1) -> tuple[JointResiduals, np.ndarray]:
    """Residuals and the outcomes that they are made of, correlated."""
    rng = np.random.default_rng(seed)
    moves = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], sessions)
    ahead = np.full((sessions, 2), np.nan)
    if horizon == 1:
        ahead[:-1] = moves[1:]
    else:
        sums = np.cumsum(np.vstack([np.zeros(2), moves]), axis=0)
        ahead[:-horizon] = sums[1 + horizon :] - sums[1:-horizon]
    days = pd.bdate_range("2001-01-01", periods=sessions)
    return JointResiduals(TICKERS, days, horizon, ahead), ahead * DEVIATION


def forecasts(residuals: JointResiduals, outcome: np.ndarray, width: float = 1.0, first: int = 300) -> PastForecasts:
    reach = width * 1.6449 * DEVIATION * residuals.horizon**0.5
    shape = (len(residuals.sessions) - first, 2)
    return PastForecasts(
        residuals.sessions[first:], np.full(shape, -reach), np.zeros(shape), np.full(shape, reach), outcome[first:]
    )


def test_one_session_by_hand() -> None:
    residuals, outcome = world(0)
    past = forecasts(residuals, outcome, first=890)
    (at_95, at_99) = back_test([3.0, -1.0], TICKERS, residuals, past)
    beyond = np.zeros(2, dtype=int)
    for place in range(890, 899):
        known = residuals.values[:place]  # the last of them is known at the close of session `place`
        scenarios = scenario_returns(known, ForecastRange(past.low[0], past.median[0], past.high[0]))
        risk = tail_risk(scenarios @ [3.0, -1.0])
        lost = -np.expm1(outcome[place]) @ [3.0, -1.0]
        beyond += [lost > risk.var_95, lost > risk.var_99]
    assert (at_95.beyond, at_99.beyond) == tuple(beyond)
    assert at_95.sessions == 9  # the last session's outcome is not known
    assert at_95.kupiec is None  # far too few


def test_right_ranges_pass_at_their_rate_and_narrow_ones_fail() -> None:
    rejected = {1.0: 0, 0.6: 0}
    worlds = 20
    for width in rejected:
        for seed in range(worlds):
            residuals, outcome = world(seed, sessions=700)
            (at_95, _) = back_test([1.0, 1.0], TICKERS, residuals, forecasts(residuals, outcome, width))
            assert at_95.kupiec is not None
            rejected[width] += at_95.kupiec < 0.05
    assert rejected[1.0] <= stats.binom.ppf(0.999, worlds, 0.05)
    assert rejected[0.6] == worlds


def test_outcomes_of_five_sessions_do_not_overlap() -> None:
    residuals, outcome = world(1, horizon=5)
    (at_95, _) = back_test([1.0, 1.0], TICKERS, residuals, forecasts(residuals, outcome))
    assert at_95.sessions == len([place for place in range(300, 895) if place % 5 == 0])


def test_sessions_without_a_forecast_or_outcome_are_left_out() -> None:
    residuals, outcome = world(2)
    past = forecasts(residuals, outcome, first=800)
    past.low[3:10, 1] = np.nan
    past.outcome[20, 0] = np.nan
    (at_95, _) = back_test([1.0, 1.0], TICKERS, residuals, past)
    assert at_95.sessions == 99 - 7 - 1


def test_sessions_with_too_few_scenarios_are_left_out() -> None:
    residuals, outcome = world(3, sessions=260)
    (at_95, _) = back_test([1.0, 1.0], TICKERS, residuals, forecasts(residuals, outcome, first=10))
    assert at_95.sessions == 259 - 250  # 250 scenarios are known at the close of session 250
    residuals, outcome = world(3, sessions=250)
    assert back_test([1.0, 1.0], TICKERS, residuals, forecasts(residuals, outcome, first=10)) == ()
