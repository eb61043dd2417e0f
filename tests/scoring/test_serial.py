"""The mean of dependent days: laws, and coverage by simulation with a control that must fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from financial_assets.scoring.intervals import day_clustered_mean
from financial_assets.scoring.serial import cosines, long_run_covariance, long_run_mean


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
