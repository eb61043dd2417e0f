"""Back-tests of a universe: laws, size and power by simulation, with controls that must fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from financial_assets.scoring.coverage import exceedances, ticker_coverage, universe_coverage
from financial_assets.scoring.risk import (
    christoffersen_conditional_coverage,
    christoffersen_independence,
    kupiec_unconditional_coverage,
)


def honest(
    random: np.random.Generator, rate: float, sessions: int = 250, horizon: int = 1, tickers: int = 50
) -> np.ndarray:
    """Exceedances of a value at risk that is right, of tickers that share a factor ``[ticker, session]``."""
    count = sessions + horizon - 1
    shocks = 0.6 * random.normal(size=count) + 0.8 * random.normal(size=(tickers, count))
    sums = np.lib.stride_tricks.sliding_window_view(shocks, horizon, axis=1).sum(axis=-1)
    return (sums < horizon**0.5 * stats.norm.ppf(rate)).astype(float)


def rejected(worlds: list[np.ndarray], rate: float, horizon: int = 1) -> dict[str, float]:
    found = [universe_coverage(world, rate, horizon) for world in worlds]
    pooled = [stats.binomtest(int(world.sum()), world.size, rate).pvalue for world in worlds]
    return {
        "coverage": float(np.mean([one.coverage < 0.05 for one in found])),
        "independence": float(np.mean([one.independence < 0.05 for one in found])),
        "both": float(np.mean([one.p_value < 0.05 for one in found])),
        "pooled rows": float(np.mean(np.array(pooled) < 0.05)),
    }


@pytest.mark.parametrize(("rate", "horizon"), [(0.05, 1), (0.05, 5)])
def test_a_right_value_at_risk_passes_and_pooled_rows_reject_it(rate: float, horizon: int) -> None:
    random = np.random.default_rng(1)
    found = rejected([honest(random, rate, 250, horizon) for _ in range(100)], rate, horizon)
    assert max(found["coverage"], found["independence"], found["both"]) < 0.16, found
    assert found["pooled rows"] > 0.3, found


@pytest.mark.statistics
@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize(("rate", "sessions"), [(0.05, 250), (0.05, 500), (0.01, 500)])
def test_size_of_the_universe_tests(rate: float, sessions: int, horizon: int) -> None:
    random = np.random.default_rng(2)
    found = rejected([honest(random, rate, sessions, horizon) for _ in range(1000)], rate, horizon)
    most = 0.11 if rate == 0.01 and horizon == 5 else 0.085
    assert max(found["coverage"], found["independence"], found["both"]) < most, found
    assert found["pooled rows"] > 0.25, found


def test_what_is_wrong_is_found() -> None:
    random = np.random.default_rng(3)
    too_many = [honest(random, 0.08, 500) for _ in range(60)]
    assert rejected(too_many, 0.05)["coverage"] > 0.8
    clustered = []
    for _ in range(60):  # a volatility that the value at risk ignores, lasting for weeks
        log_volatility = np.zeros(500)
        for session, shock in enumerate(random.normal(0, 0.25, 499), 1):
            log_volatility[session] = 0.95 * log_volatility[session - 1] + shock
        shocks = 0.6 * random.normal(size=500) + 0.8 * random.normal(size=(50, 500))
        moves = np.exp(log_volatility) * shocks
        clustered.append((moves < np.quantile(moves, 0.05)).astype(float))
    assert rejected(clustered, 0.05)["independence"] > 0.9


@given(st.integers(0, 2**32 - 1))
def test_the_share_is_that_of_the_known_rows(seed: int) -> None:
    random = np.random.default_rng(seed)
    hits = honest(random, 0.2, 60, tickers=6)
    hits[random.uniform(size=hits.shape) < 0.3] = np.nan
    hits[:, 7] = np.nan
    found = universe_coverage(hits, 0.2)
    assert found.share == pytest.approx(np.nanmean(hits))
    assert (found.rows, found.sessions) == (np.isfinite(hits).sum(), np.isfinite(hits).any(axis=0).sum())
    assert 0 < found.effective_rows <= found.rows
    assert 0 <= min(found.coverage, found.independence) <= found.p_value <= 1


@pytest.mark.parametrize("horizon", [1, 5])
def test_the_interval_holds_what_it_promises_where_tickers_and_sessions_move_together(horizon: int) -> None:
    """Of 100, some 95 have the true share inside; 86 or fewer of a binomial with 95 % are rarer than one in a thousand.

    The control: Clopper and Pearson's interval of as many separate rows.
    """
    random = np.random.default_rng(5)
    inside, pooled = 0, 0
    for _ in range(100):
        hits = honest(random, 0.05, 300, horizon, tickers=20)
        interval = universe_coverage(hits, 0.05, horizon).interval()
        inside += interval.low <= 0.05 <= interval.high
        rows = stats.binomtest(int(hits.sum()), hits.size).proportion_ci(0.95)
        pooled += rows.low <= 0.05 <= rows.high
    assert inside >= 87, inside
    assert pooled < 75, pooled


def test_the_interval_is_that_of_the_effective_rows() -> None:
    found = universe_coverage(honest(np.random.default_rng(6), 0.05, 300), 0.05)
    wide, narrow = found.interval(0.99), found.interval(0.5)
    assert wide.low < narrow.low < found.share < narrow.high < wide.high
    assert (wide.estimate, wide.days, wide.observations) == (found.share, found.sessions, found.rows)
    never = universe_coverage(np.zeros((50, 250)), 0.05, horizon=5)
    # Of 50 outcomes that do not overlap none exceeded: the rule of three says 3 / 50 at 95 %, one-sided.
    assert never.interval(0.9).low == 0
    assert never.interval(0.9).high == pytest.approx(1 - 0.05 ** (1 / 50))
    always = universe_coverage(np.ones((50, 250)), 0.05, horizon=5).interval(0.9)
    assert (always.low, always.high) == (pytest.approx(0.05 ** (1 / 50)), 1)
    with pytest.raises(ValueError, match="level"):
        found.interval(1.0)


def test_never_exceeded_counts_each_session_once() -> None:
    never = universe_coverage(np.zeros((50, 250)), 0.05)
    assert (never.share, never.effective_rows, never.independence) == (0, 250, 1)
    assert never.coverage < 0.001
    assert universe_coverage(np.zeros((50, 250)), 0.05, horizon=5).effective_rows == 50


def test_one_session_ahead_a_ticker_has_the_tests_of_one_series() -> None:
    hits = honest(np.random.default_rng(4), 0.05, 300, tickers=3)
    hits[1, 50:60] = np.nan
    for row, found in zip(hits, ticker_coverage(hits, 0.05), strict=True):
        known = row[~np.isnan(row)]
        assert found is not None
        assert (found.sessions, found.beyond) == (known.size, known.sum())
        assert found.kupiec == kupiec_unconditional_coverage(known, 0.05).p_value
        assert found.independence == christoffersen_independence(known).p_value
        assert found.conditional == christoffersen_conditional_coverage(known, 0.05).p_value


@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.statistics)])
def test_overlapping_outcomes_of_a_ticker_are_taken_apart(runs: int) -> None:
    random = np.random.default_rng(5)
    worlds = np.concatenate([honest(random, 0.05, 500, horizon=5, tickers=1) for _ in range(runs)])
    apart = np.array([[one.kupiec, one.independence] for one in ticker_coverage(worlds, 0.05, horizon=5) if one])
    naive = np.array([[one.kupiec, one.independence] for one in ticker_coverage(worlds, 0.05) if one])
    assert len(apart) == len(naive) == runs
    # The likelihood ratio of independence, at five expected exceedances a series, is not quite chi-square.
    assert (apart < 0.05).mean(axis=0).max() < 0.09 + 4 * (0.09 * 0.91 / runs) ** 0.5
    assert (naive < 0.05).mean(axis=0) == pytest.approx([0.4, 1.0], abs=0.25)


def test_exceedances_keep_what_is_unknown() -> None:
    outcomes, bounds = [[-3.0, -1.0, np.nan, 2.0]], [[-2.0, -2.0, -2.0, np.nan]]
    assert exceedances(outcomes, bounds)[0, :2].tolist() == [1, 0]
    assert np.isnan(exceedances(outcomes, bounds)[0, 2:]).all()
    assert exceedances([1.0], [0.5], upper=True).tolist() == [1]
    with pytest.raises(ValueError, match="shapes differ"):
        exceedances([1.0], [[1.0]])


def test_a_ticker_without_outcomes_has_no_test() -> None:
    hits = np.full((2, 40), np.nan)
    hits[1, :9] = 0
    assert ticker_coverage(hits, 0.05, horizon=5) == (None, None)
    assert ticker_coverage(hits, 0.05)[0] is None


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: universe_coverage(np.zeros(9), 0.05), r"\[ticker, session\]"),
        (lambda: universe_coverage(np.full((2, 30), 0.5), 0.05), "only 0, 1 and NaN"),
        (lambda: universe_coverage(np.zeros((2, 30)), 5), "rate must lie strictly"),
        (lambda: universe_coverage(np.zeros((2, 30)), 0.05, horizon=0), "horizon must be at least 1"),
        (lambda: universe_coverage(np.zeros((2, 30)), 0.05, horizon=5), "8 sessions with a known outcome"),
        (lambda: ticker_coverage(np.zeros((2, 30)), 0.0), "rate must lie strictly"),
    ],
)
def test_bad_arguments_are_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
