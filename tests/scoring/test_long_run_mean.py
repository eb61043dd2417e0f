"""The mean of dependent days: laws, and coverage by simulation with a control that must fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from financial_assets.scoring.autocorrelation import cosines, day_blocks, long_run_covariance, long_run_mean
from financial_assets.scoring.classification import auc_by_day
from financial_assets.scoring.intervals import day_clustered_mean


def overlapping(random: np.random.Generator, runs: int, days: int, horizon: int = 5) -> np.ndarray:
    """Sums over the next sessions of skewed independent shocks, mean 0: ``[run, day]``."""
    shocks = random.chisquare(3, (runs, days + horizon - 1)) - 3
    return np.lib.stride_tricks.sliding_window_view(shocks, horizon, axis=1).sum(axis=-1)


def test_the_variance_is_the_mean_square_of_the_cosine_transform() -> None:
    """SciPy's orthonormal discrete cosine transform, without its constant."""
    from scipy import fft

    days = np.random.default_rng(1).normal(size=(120, 2)) + 5
    waves = fft.dct(days, axis=0, norm="ortho")[1 : cosines(120) + 1]
    assert long_run_covariance(days) == pytest.approx(waves.T @ waves / len(waves), rel=1e-9)


def test_interval_statistic_and_p_value_agree() -> None:
    days = np.random.default_rng(2).normal(0.1, 1.0, 200)
    found = long_run_mean(days)
    assert found.interval.estimate == pytest.approx(days.mean())
    error = math.sqrt(float(long_run_covariance(days[:, None])[0, 0]) / 200)
    assert found.degrees == cosines(200) == 13
    expected = stats.t.interval(0.95, 13, days.mean(), error)
    assert (found.interval.low, found.interval.high) == pytest.approx(expected)
    assert found.statistic == pytest.approx(days.mean() / error)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.statistic), 13))


def test_a_constant_is_certain_and_nothing_is_no_evidence() -> None:
    assert long_run_mean(np.full(50, 0.3)).p_value == pytest.approx(0, abs=1e-12)
    nothing = long_run_mean(np.zeros(50))
    assert (nothing.statistic, nothing.p_value) == (0, 1)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: long_run_mean([]), "daily is empty"),
        (lambda: long_run_mean([1.0, math.nan]), "daily holds 1"),
        (lambda: long_run_mean(np.arange(7.0)), "7 days: 8 are needed"),
        (lambda: long_run_covariance(np.arange(20.0)), r"\[day, series\]"),
        (lambda: long_run_mean(np.arange(20.0), 95), "level must lie strictly"),
        (lambda: day_blocks([1, 2], 0), "length must be at least 1"),
        (lambda: day_blocks([1, None], 1), "days holds 1 missing"),
    ],
)
def test_bad_arguments_are_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()


@pytest.mark.statistics
@pytest.mark.parametrize(("days", "most"), [(120, 0.075), (250, 0.07), (500, 0.065)])
def test_overlapping_outcomes_are_covered_and_independent_days_are_not(days: int, most: float) -> None:
    series = overlapping(np.random.default_rng(3), 2000, days)
    misses = np.mean([not long_run_mean(row).interval.spans_zero for row in series])
    assert 0.03 < misses < most, misses
    naive = np.mean([not day_clustered_mean(row, np.arange(days)).spans_zero for row in series[:500]])
    assert naive > 0.30, naive


def test_a_hundred_overlapping_series_are_mostly_covered_and_independent_days_are_not() -> None:
    series = overlapping(np.random.default_rng(4), 200, 250)
    assert np.mean([not long_run_mean(row).interval.spans_zero for row in series]) < 0.11
    assert np.mean([not day_clustered_mean(row, np.arange(250)).spans_zero for row in series]) > 0.25


def test_blocks_are_of_consecutive_days_whatever_the_order_of_rows() -> None:
    days = np.array(["2020-01-03", "2020-01-01", "2020-01-02", "2020-01-06", "2020-01-07", "2020-01-01"], "M8[D]")
    assert day_blocks(days, 2).tolist() == [1, 0, 0, 1, 1, 0]
    assert day_blocks(days, 1).tolist() == [2, 0, 1, 3, 4, 0]
    assert day_blocks(days, 9).tolist() == [0] * 6


@pytest.mark.parametrize("runs", [60, pytest.param(500, marks=pytest.mark.statistics)])
def test_blocks_cover_the_area_under_the_curve_of_overlapping_outcomes_and_days_do_not(runs: int) -> None:
    """A slow signal without skill: 400 days, five sessions ahead, 5 tickers with a common factor."""
    random, day = np.random.default_rng(6), np.repeat(np.arange(400), 5)
    missed = np.zeros(2)
    for _ in range(runs):
        factor, own = overlapping(random, 1, 400)[0], np.stack([*overlapping(random, 5, 400)], axis=1)
        signal = np.stack([*overlapping(random, 5, 400, horizon=10)], axis=1)
        probability, up = 1 / (1 + np.exp(-signal / 50)), factor[:, None] + own > 0
        for place, unit in enumerate((day_blocks(day, 25), day)):
            found = auc_by_day(probability.ravel(), up.ravel(), unit)
            missed[place] += not found.low <= 0.5 <= found.high
    assert missed[0] / runs < 0.06 + 4 * (0.06 * 0.94 / runs) ** 0.5
    assert missed[1] / runs > 0.15
