"""Means of dependent days: the size of their test, and what it rests on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.experiment.statistics.group_sequential import GroupSequentialDesign, daily_z, z_of_t
from financial_assets.experiment.statistics.long_run import (
    TOO_UNEVEN,
    autocorrelation,
    cosines,
    effective_count,
    long_run_deviation,
    robust_z,
    robust_zs,
    running_deviation,
    skew_corrected,
    skew_required,
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


@pytest.mark.parametrize("lags", [0, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 40, 300])
def test_several_series_at_once_have_the_bits_of_each_alone(count: int, lags: int) -> None:
    if lags >= count > 1:
        return
    days, margins = autoregressive(0.3, 6, count) * 10.0 ** np.arange(-9, 3, 2)[:, None], [0.0, -0.0, 0.1, -0.2, 0, 0]
    days[1:3] = 0.1  # these do not vary
    alone = [robust_z(one, margin, lags, still=38.0) for one, margin in zip(days, margins, strict=True)]
    np.testing.assert_array_equal(robust_zs(days, margins, lags, still=38.0).view(np.int64), np.array(alone).view("i8"))


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


LOOKS = tuple(range(42, 127, 14))


def losses(runs: int, count: int, seed: int) -> np.ndarray:
    """Most days gain a little, some lose much: skewness -2."""
    return 1 - np.random.default_rng(seed).exponential(1.0, (runs, count))


def losses_that_linger(runs: int, count: int, seed: int) -> np.ndarray:
    days = losses(runs, count + 30, seed)
    for day in range(1, count + 30):
        days[:, day] += 0.2 * days[:, day - 1]
    return days[:, 30:]


def common_jumps(runs: int, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((runs, count)) - 4 * (rng.random((runs, count)) < 0.025) + 0.1


def spells_with_fat_tails(runs: int, count: int, seed: int) -> np.ndarray:
    """GARCH with shocks of Student's t with 2.5 degrees of freedom, 0.2 from day to day."""
    days = np.random.default_rng(seed).standard_t(2.5, (runs, count + 60)) / np.sqrt(5)
    variance = np.ones(runs)
    for day in range(count + 60):
        days[:, day] *= np.sqrt(variance)
        variance = np.minimum(0.03 + 0.1 * days[:, day] ** 2 + 0.87 * variance, 1e4)
    for day in range(1, count + 60):
        days[:, day] += 0.2 * days[:, day - 1]
    return days[:, 60:]


def crossed(days: np.ndarray, *, corrected: bool) -> float:
    """Share of tests in which a planned look promotes, at a one-sided 2 %."""
    boundaries = GroupSequentialDesign.of([day / LOOKS[-1] for day in LOOKS], 0.04).upper
    found = np.zeros(len(days), dtype=bool)
    for day, boundary in zip(LOOKS, boundaries, strict=True):
        seen = days[:, :day]
        deviation, freedom = long_run_deviation(seen)
        t, shape = seen.mean(axis=1) / (deviation / np.sqrt(day)), skewness(seen)
        if corrected:
            t = np.where(shape < -TOO_UNEVEN, 0.0, skew_corrected(t, shape, effective_count(deviation, seen)))
        found |= z_of_t(t, freedom) >= boundary
    return float(found.mean())


@pytest.mark.parametrize(
    ("world", "most"),
    [(losses, 0.027), (losses_that_linger, 0.03), (common_jumps, 0.027)],
    ids=["losses", "losses that linger", "common jumps"],
)
def test_looks_at_uneven_days_promote_as_rarely_as_they_may_and_plain_t_does_not(
    world: Callable[[int, int, int], np.ndarray], most: float
) -> None:
    days = world(8000, LOOKS[-1], 11)
    plain, corrected = crossed(days, corrected=False), crossed(days, corrected=True)
    assert corrected <= most
    assert plain > corrected
    if world is not common_jumps:
        assert plain > 0.035, "the control"


def test_spells_with_fat_tails_leave_t_as_it_is() -> None:
    days = spells_with_fat_tails(6000, LOOKS[-1], 12)
    assert crossed(days, corrected=True) == pytest.approx(0.02, abs=0.006)


def test_one_loss_in_ten_days_is_no_gain() -> None:
    rng = np.random.default_rng(13)
    days = np.where(rng.random((6000, LOOKS[-1])) < 0.1, -3.0, 1 / 3) + 0.03 * rng.standard_normal((6000, LOOKS[-1]))
    assert crossed(days, corrected=False) > 0.05, "the control"
    assert crossed(days, corrected=True) < 0.02


@given(t=st.floats(-30, 30), skew=st.floats(-8, 8), count=st.integers(2, 5000))
def test_the_correction_only_takes_away_what_skewness_adds(t: float, skew: float, count: int) -> None:
    fixed = float(skew_corrected(t, skew, count))
    assert abs(fixed) <= abs(t)
    assert fixed * t >= 0
    assert skew_corrected(-t, -skew, count) == -fixed
    if np.sign(t) * np.sign(skew) >= 0:  # their product may underflow
        assert fixed == t
    assert skew_corrected(np.array([t, t + 0.5]), skew, count)[1] >= fixed - 1e-9 or t < 0 <= t + 0.5


@given(needed=st.floats(0.5, 6), skew=st.floats(-4, 4), count=st.integers(30, 500))
def test_what_is_required_is_what_is_left_of_it(needed: float, skew: float, count: int) -> None:
    required = skew_required(needed, skew, count)
    assert required >= needed
    if np.isfinite(required):
        assert skew_corrected(required, skew, count) == pytest.approx(needed, rel=1e-6)
    else:
        assert skew_corrected(1e6, skew, count) < needed


def test_days_that_depend_on_each_other_count_for_fewer() -> None:
    days = autoregressive(0.5, 50, 400)
    counts = effective_count(long_run_deviation(days)[0], days)
    assert np.median(counts) == pytest.approx(400 / 3, rel=0.15)
    assert effective_count(0.0, np.zeros(30)) == 30


def test_shapes_are_seen() -> None:
    rare = np.where(np.random.default_rng(0).random(5000) < 0.1, -0.9, 0.1)
    assert float(skewness(rare)) == pytest.approx(-2.67, abs=0.2)
    assert float(autocorrelation(autoregressive(0.2, 1, 400)[0])) > 2
    assert cosines(8) == 2
    assert cosines(252) == 16
