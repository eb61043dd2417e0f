"""Means of dependent days: the size of their test, and what it rests on."""

from __future__ import annotations

import numpy as np
import pytest

from financial_assets.experiment.statistics.group_sequential import daily_z
from financial_assets.experiment.statistics.long_run import (
    autocorrelation,
    cosines,
    long_run_deviation,
    robust_z,
    running_deviation,
    skewness,
)


def autoregressive(rho: float, runs: int, count: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((runs, count + 30))
    days = np.zeros_like(noise)
    for day in range(1, count + 30):
        days[:, day] = rho * days[:, day - 1] + noise[:, day]
    return days[:, 30:]


def overlapping(runs: int, count: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((runs, count + 4))
    return sum(noise[:, lag : lag + count] for lag in range(5)) / np.sqrt(5)


def size(days: np.ndarray, lags: int) -> float:
    """Share of one-sided 2.5 % tests that reject a true mean of 0."""
    return float(np.mean([robust_z(one, 0.0, lags) > 1.96 for one in days]))


def test_dependent_days_reject_as_often_as_they_may_and_independent_tests_do_not() -> None:
    days = autoregressive(0.2, 3000, 200)
    assert size(days, 0) == pytest.approx(0.025, abs=0.01)
    naive = np.mean([daily_z(one) > 1.96 for one in days])
    assert naive > 0.04, "the control"


def test_overlapping_outcomes_too() -> None:
    days = overlapping(2000, 250)
    assert size(days, 4) == pytest.approx(0.025, abs=0.012)
    assert np.mean([daily_z(one) > 1.96 for one in days]) > 0.15, "the control"


@pytest.mark.parametrize("rho", [0.0, 0.2, 0.5])
def test_the_deviation_is_that_of_the_process(rho: float) -> None:
    found, freedom = long_run_deviation(autoregressive(rho, 300, 400))
    assert freedom == 399
    assert float(np.median(found)) == pytest.approx(1 / (1 - rho), rel=0.05)


def test_it_never_falls_below_that_of_independent_days() -> None:
    days = autoregressive(-0.5, 50, 100)
    np.testing.assert_allclose(long_run_deviation(days)[0], days.std(axis=1, ddof=1))


def test_after_each_day_it_is_that_of_the_days_so_far() -> None:
    days = autoregressive(0.4, 3, 60) + 5.0
    running = running_deviation(days)
    for count in (2, 3, 10, 60):
        np.testing.assert_allclose(running[:, count - 1], long_run_deviation(days[:, :count])[0], rtol=1e-8)


def test_days_that_do_not_vary_prove_what_they_are_asked_to() -> None:
    still = np.full(30, 0.2)
    assert robust_z(still) == 0.0
    assert robust_z(still, still=38.0) == 38.0
    assert robust_z(still, 0.3, still=38.0) == -38.0
    assert robust_z(still, 0.2, still=38.0) == 0.0
    assert robust_z(np.array([0.1])) == robust_z(np.array([])) == 0.0
    assert (skewness(still), autocorrelation(still)) == (0.0, 0.0)
    assert np.isfinite(robust_z(still + 1e-9 * np.arange(30)))


def test_shapes_are_seen() -> None:
    rare = np.where(np.random.default_rng(0).random(5000) < 0.1, -0.9, 0.1)
    assert float(skewness(rare)) == pytest.approx(-2.67, abs=0.2)
    assert float(autocorrelation(autoregressive(0.2, 1, 400)[0])) > 2
    assert cosines(8) == 2
    assert cosines(252) == 16
