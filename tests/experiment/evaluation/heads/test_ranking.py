"""Rank information coefficients of scores whose skill is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from financial_assets.experiment.evaluation.heads.ranking import FEWEST_TICKERS, arm_rankings
from financial_assets.market import calendar
from tests.experiment.builders import CHALLENGER, CHAMPION

SESSIONS = calendar.sessions("2010-01-04", "2012-12-31")
ROLES = {CHAMPION: "champion", CHALLENGER: "challenger"}


def scored(days: int, tickers: int = FEWEST_TICKERS, skill: float = 0.3, seed: int = 0) -> pd.DataFrame:
    """Scores that correlate with what comes by ``skill``, under a market that moves all tickers alike."""
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((days, tickers))
    score = skill * own + (1 - skill**2) ** 0.5 * rng.standard_normal((days, tickers))
    return pd.DataFrame(
        {
            "session": np.repeat(SESSIONS[:days], tickers),
            "ticker": np.tile([f"T{number:02d}" for number in range(tickers)], days),
            "excess_return": score.ravel(),
            "log_return": (0.01 * own + 0.05 * rng.standard_normal((days, 1))).ravel(),
            "traded_return": 0.0,
        }
    )


def test_each_session_has_spearmans_correlation() -> None:
    rows = scored(30)
    (found,) = arm_rankings({CHAMPION: rows.sample(frac=1, random_state=1)}, ROLES, SESSIONS)
    assert (found.model, found.role) == (CHAMPION, "champion")
    by_day = [stats.spearmanr(day["excess_return"], day["log_return"]).statistic for _, day in rows.groupby("session")]
    np.testing.assert_allclose(found.coefficients, by_day, atol=1e-12)
    assert found.sessions == tuple(f"{session:%Y-%m-%d}" for session in SESSIONS[:30])
    assert found.skill is not None
    assert found.skill.mean.estimate == pytest.approx(np.mean(by_day))
    assert found.share_above_zero == np.mean(np.array(by_day) > 0)


def test_skill_is_told_from_luck_whatever_the_market_does() -> None:
    able, lucky = arm_rankings({CHAMPION: scored(250), CHALLENGER: scored(250, skill=0.0, seed=2)}, ROLES, SESSIONS)
    assert able.skill is not None
    assert lucky.skill is not None
    assert able.skill.mean.low > 0.1
    assert lucky.skill.mean.low < 0 < lucky.skill.mean.high
    rows = scored(250)
    moved = rows.assign(log_return=rows["log_return"] + rows["session"].dt.dayofyear)
    (again,) = arm_rankings({CHAMPION: moved}, ROLES, SESSIONS)
    np.testing.assert_allclose(again.coefficients, able.coefficients, atol=1e-9)


@pytest.mark.parametrize(("tickers", "ranked"), [(FEWEST_TICKERS - 1, 0), (FEWEST_TICKERS, 12)])
def test_small_universes_are_not_ranked(tickers: int, ranked: int) -> None:
    found = arm_rankings({CHAMPION: scored(12, tickers)}, ROLES, SESSIONS)
    assert [len(one.coefficients) for one in found] == ([ranked] if ranked else [])


def test_a_session_with_too_few_tickers_is_left_out_and_the_others_stay() -> None:
    rows = scored(12)
    thin = rows.drop(rows.index[rows["session"] == SESSIONS[4]][:1])
    (found,) = arm_rankings({CHAMPION: thin}, ROLES, SESSIONS)
    assert f"{SESSIONS[4]:%Y-%m-%d}" not in found.sessions
    assert len(found.coefficients) == 11
    silent = rows.assign(excess_return=rows["excess_return"].mask(rows["session"] == SESSIONS[4]))
    assert arm_rankings({CHAMPION: silent}, ROLES, SESSIONS) == (found,)


def test_scores_that_are_all_equal_order_nothing() -> None:
    assert arm_rankings({CHAMPION: scored(30).assign(excess_return=0.25)}, ROLES, SESSIONS) == ()


@pytest.mark.parametrize(("days", "has_mean"), [(7, False), (8, True)])
def test_a_mean_needs_some_sessions(days: int, has_mean: bool) -> None:
    (found,) = arm_rankings({CHAMPION: scored(days)}, ROLES, SESSIONS)
    assert len(found.coefficients) == days
    assert (found.skill is not None) == has_mean


def test_an_arm_of_an_earlier_version_is_not_ranked_beside_one_that_is() -> None:
    earlier = scored(12).assign(excess_return=np.nan)
    found = arm_rankings({CHAMPION: earlier, CHALLENGER: scored(12, seed=1)}, ROLES, SESSIONS)
    assert [arm.model for arm in found] == [CHALLENGER]
    assert arm_rankings({}, ROLES, SESSIONS) == ()
