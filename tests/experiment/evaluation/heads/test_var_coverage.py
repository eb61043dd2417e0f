"""Coverage of one and five sessions on universes whose outcomes are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from financial_assets.experiment.evaluation.heads.var_coverage import TailCoverage, tail_coverage
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.market import calendar
from financial_assets.scoring.distributions import normal_quantile
from financial_assets.scoring.quantiles import QUANTILE_LEVELS
from tests.experiment.builders import CHALLENGER, CHAMPION

SESSIONS = calendar.sessions("2010-01-04", "2016-12-30")
NORMAL = np.array([normal_quantile(level) for level in QUANTILE_LEVELS])
ROLES = {CHAMPION: "champion", CHALLENGER: "challenger"}


def universe(
    days: int, tickers: int = 5, seed: int = 0, *, one: float = 1.0, five: float = 1.0, common: float = 0.5
) -> pd.DataFrame:
    """Forecasts of a random walk of daily volatility 1 %; ``one`` and ``five`` times as wide as they should be."""
    rng = np.random.default_rng(seed)
    market = common**0.5 * rng.standard_normal((1, days + 5))
    steps = 0.01 * (market + (1 - common) ** 0.5 * rng.standard_normal((tickers, days + 5)))
    week = np.stack([steps[:, first + 1 : first + 6].sum(axis=1) for first in range(days)], axis=1)
    rows = pd.DataFrame(
        {
            "session": np.repeat(SESSIONS[:days], tickers),
            "ticker": np.tile([f"T{number}" for number in range(tickers)], days),
            "log_return": steps[:, 1 : days + 1].T.ravel(),
            "outcome_5d": week.T.ravel(),
            "traded_return": 0.0,
        }
    )
    widths = {**dict(zip(QUANTILE_COLUMNS, 0.01 * one * NORMAL, strict=True))}
    widths |= dict(zip(QUANTILE_5D_COLUMNS, 0.01 * five * 5**0.5 * NORMAL, strict=True))
    return rows.assign(**widths)


def found_of(rows: pd.DataFrame, **options: float) -> dict[tuple[int, str, float], TailCoverage]:
    found = tail_coverage({CHAMPION: rows}, ROLES, SESSIONS, **options)
    assert {tail.role for tail in found} <= {"champion"}
    return {(tail.horizon, tail.side, tail.level): tail for tail in found}


def test_shares_are_counted_by_hand_and_both_horizons_stand_side_by_side() -> None:
    rows = universe(300)
    found = found_of(rows)
    assert [tail.horizon for tail in found.values()] == [1] * 4 + [5] * 4
    for (horizon, side, level), tail in found.items():
        ending, outcome = ("", "log_return") if horizon == 1 else ("_5d", "outcome_5d")
        column = {("lower", 0.95): "q05", ("lower", 0.99): "q01", ("upper", 0.95): "q95", ("upper", 0.99): "q99"}
        bound = rows[column[side, level] + ending]
        beyond = rows[outcome] < bound if side == "lower" else rows[outcome] > bound
        assert tail.share is not None
        assert tail.share.estimate == pytest.approx(beyond.mean())
        assert (tail.sessions, tail.rows, tail.promised) == (300, 1500, pytest.approx(1 - level))
        assert tail.share.low < tail.share.estimate < tail.share.high
    # Overlapping outcomes of a week know less than as many of a day.
    one, five = (found[horizon, "lower", 0.95] for horizon in (1, 5))
    assert one.effective_rows is not None
    assert five.effective_rows is not None
    assert 300 / 5 < five.effective_rows < one.effective_rows < 1500
    assert (one.name, five.name) == ("VaR 95 %, 1 session", "VaR 95 %, 5 sessions")
    assert found[5, "upper", 0.99].name == "VaR 99 % of a short position, 5 sessions"


@pytest.mark.parametrize(("one", "five"), [(0.5, 1.0), (1.0, 0.5)])
def test_a_horizon_that_is_too_narrow_is_the_one_that_is_found(one: float, five: float) -> None:
    found = found_of(universe(1000, one=one, five=five))
    for (horizon, _, level), tail in found.items():
        assert tail.share is not None
        assert tail.frequency_holm is not None
        narrow = (one if horizon == 1 else five) < 1
        assert (tail.share.low > tail.promised) == narrow, (horizon, level)
        assert (tail.frequency_holm < 0.01) == narrow, (horizon, level)


def test_p_values_count_the_tests_of_the_arm() -> None:
    for tail in found_of(universe(400)).values():
        assert tail.frequency is not None
        assert tail.frequency_holm is not None
        assert tail.frequency <= tail.frequency_holm <= min(8 * tail.frequency, 1.0) + 1e-12


@pytest.mark.parametrize(("worlds", "fewest"), [(40, 30), pytest.param(200, 168, marks=pytest.mark.statistics)])
def test_intervals_of_overlapping_weeks_hold_what_they_promise(worlds: int, fewest: int) -> None:
    """Of right forecasters, some 95 % have the promised share inside; intervals for separate days far fewer.

    With 90 %, fewer than 168 of 200 have it inside three times in a thousand, and fewer than 30 of 40 once or twice.
    """
    inside, naive = 0, 0
    for seed in range(worlds):
        tail = found_of(universe(250, 10, seed))[5, "lower", 0.95]
        assert tail.share is not None
        inside += tail.share.low <= 0.05 <= tail.share.high
        half = 1.96 * (0.05 * 0.95 / tail.rows) ** 0.5
        naive += abs(tail.share.estimate - 0.05) <= half
    assert inside >= fewest, inside
    assert naive < 0.6 * worlds, naive


def test_an_arm_of_an_earlier_version_has_one_horizon_beside_one_with_two() -> None:
    earlier = universe(60).assign(**dict.fromkeys(QUANTILE_5D_COLUMNS, np.nan))
    found = tail_coverage({CHALLENGER: universe(60, seed=1), CHAMPION: earlier}, ROLES, SESSIONS)
    assert [(tail.model, tail.horizon) for tail in found] == [
        *[(CHAMPION, 1)] * 4,
        *[(CHALLENGER, 1)] * 4,
        *[(CHALLENGER, 5)] * 4,
    ]


def test_a_week_that_is_not_over_does_not_count_and_nothing_is_known_before_one_is() -> None:
    rows = universe(60)
    waiting = rows["session"] > SESSIONS[54]
    found = found_of(rows.assign(outcome_5d=rows["outcome_5d"].mask(waiting)))
    assert (found[1, "lower", 0.95].sessions, found[5, "lower", 0.95].sessions) == (60, 55)
    assert {horizon for horizon, *_ in found_of(rows.assign(outcome_5d=np.nan))} == {1}


@pytest.mark.parametrize(("days", "tested"), [(7, set()), (8, {1}), (39, {1}), (40, {1, 5})])
def test_too_few_sessions_have_counts_and_no_interval(days: int, tested: set[int]) -> None:
    found = found_of(universe(days))
    assert {tail.horizon for tail in found.values() if tail.share is not None} == tested
    for tail in found.values():
        assert (tail.sessions, tail.needed) == (days, 8 * tail.horizon)
        assert (tail.share is None) == (tail.frequency is None) == (tail.frequency_holm is None)


def test_gaps_keep_their_place_so_that_weeks_stay_apart() -> None:
    """Half of the sessions are missing: the other ones are not pushed together, as if they followed each other."""
    rows = universe(400)
    odd = rows["session"].isin(SESSIONS[:400:2])
    found = found_of(rows[odd])
    assert found[5, "lower", 0.95].sessions == 200
    assert found[5, "lower", 0.95].share is not None
    shuffled = rows[odd].sample(frac=1, random_state=0)
    assert found_of(shuffled) == found


def test_nobody_answered_is_nothing() -> None:
    assert tail_coverage({}, ROLES, SESSIONS) == ()
    assert tail_coverage({CHAMPION: universe(10).iloc[:0]}, ROLES, SESSIONS) == ()
