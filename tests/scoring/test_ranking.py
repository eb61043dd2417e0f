"""Information coefficients against SciPy, their laws, and the size of their test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from financial_assets.scoring.ranking import information_coefficients, ranking_skill


def with_gaps(seed: int, tickers: int = 12, sessions: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Rounded values, so that there are ties, and NaN in one of ten cells of each."""
    random = np.random.default_rng(seed)
    outcomes = random.normal(size=(tickers, sessions)).round(1)
    forecasts = (0.3 * outcomes + random.normal(size=outcomes.shape)).round(1)
    for matrix in (forecasts, outcomes):
        matrix[random.uniform(size=matrix.shape) < 0.1] = np.nan
    return forecasts, outcomes


@pytest.mark.parametrize(("kind", "reference"), [("rank", stats.spearmanr), ("linear", stats.pearsonr)])
@given(seed=st.integers(0, 2**32 - 1))
def test_each_session_is_the_correlation_of_scipy(kind, reference, seed: int) -> None:
    forecasts, outcomes = with_gaps(seed)
    found = information_coefficients(forecasts, outcomes, kind, fewest=5)
    for session, value in enumerate(found):
        known = ~np.isnan(forecasts[:, session] + outcomes[:, session])
        if known.sum() < 5:
            assert np.isnan(value)
            continue
        expected = reference(forecasts[known, session], outcomes[known, session]).statistic
        assert value == pytest.approx(expected, abs=1e-12)


def test_laws_of_ranking() -> None:
    forecasts, outcomes = with_gaps(1)
    ranks = information_coefficients(forecasts, outcomes, fewest=2)
    assert information_coefficients(np.exp(forecasts), outcomes, fewest=2) == pytest.approx(ranks)
    market = np.random.default_rng(2).normal(size=outcomes.shape[1])
    linear = information_coefficients(forecasts, outcomes, "linear", fewest=2)
    assert information_coefficients(forecasts, outcomes + market, "linear", fewest=2) == pytest.approx(linear)
    assert information_coefficients(-forecasts, outcomes, fewest=2) == pytest.approx(-ranks)
    assert information_coefficients(outcomes, outcomes, fewest=2) == pytest.approx(1)


def test_small_and_undecided_sessions_get_none() -> None:
    forecasts, outcomes = np.random.default_rng(3).normal(size=(2, 6, 5))
    forecasts[:, 1] = 0.1  # 0.1 has no exact mean
    outcomes[:, 2] = -7.3
    forecasts[:4, 3] = np.nan
    outcomes[:, 4] = np.nan
    for kind in ("rank", "linear"):
        found = information_coefficients(forecasts, outcomes, kind, fewest=3)
        assert np.isnan(found).tolist() == [False, True, True, True, True]
    assert np.isnan(information_coefficients(forecasts, outcomes)).all(), "six tickers are fewer than ten"


def test_skill_sums_up_the_sessions() -> None:
    forecasts, outcomes = with_gaps(4, tickers=30, sessions=300)
    forecasts[:, :20] = np.nan
    each = information_coefficients(forecasts, outcomes)[20:]
    found = ranking_skill(forecasts, outcomes)
    assert (found.sessions, found.left_out) == (280, 20)
    assert found.mean.estimate == pytest.approx(each.mean())
    assert found.ratio == pytest.approx(each.mean() / each.std(ddof=1))
    assert found.p_value < 1e-6
    assert found.mean.low > 0.15
    assert found.mean.high < 0.40


def misses(runs: int, horizon: int) -> tuple[float, float]:
    """How often a mean rank IC of nothing differs from 0: with and without regard to overlapping outcomes."""
    random = np.random.default_rng(5)
    found, naive = [], []
    for _ in range(runs):
        shocks = random.normal(size=(20, 250 + horizon - 1))
        outcomes = np.lib.stride_tricks.sliding_window_view(shocks, horizon, axis=1).sum(axis=-1)
        # A forecast that hardly changes from one session to the next, as those of slow signals do not.
        forecasts = random.normal(size=(20, 1)) + 0.2 * random.normal(size=outcomes.shape)
        found.append(ranking_skill(forecasts, outcomes).p_value < 0.05)
        each = information_coefficients(forecasts, outcomes)
        naive.append(stats.ttest_1samp(each, 0).pvalue < 0.05)
    return float(np.mean(found)), float(np.mean(naive))


@pytest.mark.parametrize("runs", [100, pytest.param(1500, marks=pytest.mark.statistics)])
def test_overlapping_outcomes_do_not_make_skill(runs: int) -> None:
    found, naive = misses(runs, horizon=5)
    assert found < 0.06 + 4 * (0.06 * 0.94 / runs) ** 0.5, found
    assert naive > 0.2, naive


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: information_coefficients(np.ones(3), np.ones(3)), r"\[ticker, session\]"),
        (lambda: information_coefficients(np.ones((3, 2)), np.ones((2, 3))), "must both be"),
        (lambda: information_coefficients([[np.inf]], [[1.0]]), "must be finite"),
        (lambda: information_coefficients([[1.0]], [[1.0]], fewest=1), "fewest must be at least 2"),
        (lambda: ranking_skill(np.ones((20, 9)), np.ones((20, 9))), "0 of 9 sessions can be ranked"),
    ],
)
def test_bad_arguments_are_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
