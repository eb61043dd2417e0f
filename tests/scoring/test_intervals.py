"""Day-clustered intervals against statsmodels, and their laws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from financial_assets.scoring.intervals import (
    Interval,
    day_clustered_difference,
    day_clustered_mean,
    day_clustered_proportion,
    day_jackknife,
    day_jackknife_of_sums,
)

samples = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def panel(random: np.random.Generator, days: int = 30, fewest: int = 1, most: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Values with a common shock per day, and by default a different number of rows each day."""
    day = np.repeat(np.arange(days), random.integers(fewest, most + 1, days))
    return random.normal(size=days)[day] + random.normal(size=day.size), day


def jackknife(estimate: Callable[[np.ndarray], float], day: np.ndarray) -> float:
    """Standard error by leaving out one day after the other; ``estimate`` takes the mask of rows to use."""
    days = np.unique(day)
    moves = [estimate(day != one) - estimate(day == day) for one in days]
    return float(np.sqrt((days.size - 1) / days.size * np.sum(np.square(moves))))


def least_squares(values: np.ndarray, design: np.ndarray, day: np.ndarray, level: float) -> tuple[float, float, float]:
    fit = sm.OLS(values, design).fit(cov_type="cluster", cov_kwds={"groups": day}, use_t=True)
    low, high = fit.conf_int(alpha=1 - level)[-1]
    return float(fit.params[-1]), float(low), float(high)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.998])
def test_the_mean_of_equal_days_agrees_with_cluster_robust_least_squares(level: float) -> None:
    values, day = panel(np.random.default_rng(1), fewest=5, most=5)
    found = day_clustered_mean(values, day, level)
    expected = least_squares(values, np.ones((values.size, 1)), day, level)
    assert (found.estimate, found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert (found.days, found.observations, found.level) == (30, 150, level)


def test_on_many_unequal_days_it_is_close_to_cluster_robust_least_squares_and_wider() -> None:
    random = np.random.default_rng(2)
    values, day = panel(random, days=400)
    first = random.uniform(size=values.size) < 0.7
    for found, design in (
        (day_clustered_mean(values, day), np.ones((values.size, 1))),
        (
            day_clustered_difference(values[first], day[first], values[~first], day[~first]),
            sm.add_constant(first.astype(float)),
        ),
    ):
        estimate, low, high = least_squares(values, design, day, 0.95)
        assert found.estimate == pytest.approx(estimate)
        assert 1 < (found.high - found.low) / (high - low) < 1.02


@given(samples)
def test_the_mean_is_the_jackknife_over_days(random: np.random.Generator) -> None:
    values, day = panel(random, days=9)
    found = day_clustered_mean(values, day)
    error = jackknife(lambda rows: values[rows].mean(), day)
    assert found.high - found.estimate == pytest.approx(stats.t.ppf(0.975, 8) * error)
    assert found.estimate - found.low == pytest.approx(stats.t.ppf(0.975, 8) * error)


@given(samples)
def test_the_difference_is_the_jackknife_over_days_of_both_arms(random: np.random.Generator) -> None:
    (first, first_day), (second, second_day) = panel(random, days=6), panel(random, days=9)
    values, day = np.concatenate([first, second]), np.concatenate([first_day, second_day])
    arm = np.arange(values.size) < first.size
    found = day_clustered_difference(first, first_day, second, second_day)
    error = jackknife(lambda rows: values[rows & arm].mean() - values[rows & ~arm].mean(), day)
    assert found.estimate == pytest.approx(first.mean() - second.mean())
    assert found.high - found.estimate == pytest.approx(stats.t.ppf(0.975, 5) * error), "the first arm has six days"


def test_one_row_a_day_is_the_one_sample_t_interval() -> None:
    values = np.random.default_rng(4).normal(size=25)
    found = day_clustered_mean(values, np.arange(25))
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_equal_days_are_the_t_interval_of_their_means() -> None:
    values = np.random.default_rng(5).normal(size=(20, 7))
    found = day_clustered_mean(values.ravel(), np.repeat(np.arange(20), 7))
    low, high = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))


@given(samples)
def test_copied_rows_carry_no_information(random: np.random.Generator) -> None:
    values, day = panel(random, days=8)
    once, thrice = day_clustered_mean(values, day), day_clustered_mean(np.tile(values, 3), np.tile(day, 3))
    assert (thrice.estimate, thrice.low, thrice.high) == pytest.approx((once.estimate, once.low, once.high))


@given(samples, st.floats(-5, 5), st.floats(0.1, 10))
def test_intervals_follow_order_names_shifts_and_scales(
    random: np.random.Generator, shift: float, scale: float
) -> None:
    values, day = panel(random, days=8)
    base = day_clustered_mean(values, day)
    order = random.permutation(values.size)
    dates = pd.Timestamp("2024-01-02") + pd.to_timedelta(-3 * day, unit="D")
    moved = day_clustered_mean(shift + scale * values[order], np.asarray(dates)[order])
    expected = [shift + scale * value for value in (base.estimate, base.low, base.high)]
    assert [moved.estimate, moved.low, moved.high] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(samples)
def test_more_confidence_is_wider_and_holds_the_estimate(random: np.random.Generator) -> None:
    values, day = panel(random, days=8)
    for interval in (day_clustered_mean, lambda v, d, level: day_clustered_proportion(v > 0, d, level)):
        narrow, wide = interval(values, day, 0.8), interval(values, day, 0.99)
        assert wide.low <= narrow.low <= narrow.estimate <= narrow.high <= wide.high


@given(samples)
def test_swapping_the_arms_turns_the_difference_round(random: np.random.Generator) -> None:
    (first, first_day), (second, second_day) = panel(random, days=6), panel(random, days=9)
    one = day_clustered_difference(first, first_day, second, second_day)
    other = day_clustered_difference(second, second_day, first, first_day)
    assert (one.estimate, one.low, one.high) == pytest.approx((-other.estimate, -other.high, -other.low))
    assert one.days == 9


def test_what_both_arms_share_on_a_day_cancels_in_their_difference() -> None:
    random = np.random.default_rng(6)
    shock, day = 10 * random.normal(size=40), np.arange(40)
    first, second = shock + 0.1 * random.normal(size=40), shock + 0.1 * random.normal(size=40)
    together = day_clustered_difference(first, day, second, day)
    apart = day_clustered_difference(first, day, second, day + 1000)
    assert together.high - together.low < 0.1
    assert apart.high - apart.low > 5
    paired = day_clustered_mean(first - second, day)
    assert together.estimate == pytest.approx(paired.estimate)
    assert (together.low, together.high) == pytest.approx((paired.low, paired.high), rel=0.1, abs=0.01)


@pytest.mark.parametrize("hits", [1, 20, 100, 199])
def test_with_one_row_a_day_a_proportion_is_clopper_pearson(hits: int) -> None:
    success = np.random.default_rng(7).permutation(200) < hits
    found = day_clustered_proportion(success, np.arange(200))
    assert (found.low, found.high) == pytest.approx(proportion_confint(hits, 200, method="beta"), rel=0.02)


def test_a_proportion_of_few_large_days_has_the_effective_size_of_korn_and_graubard() -> None:
    random = np.random.default_rng(9)
    day = np.repeat(np.arange(6), 40)
    success = random.normal(size=6)[day] + random.normal(size=day.size) > 0.3
    share, error = success.mean(), jackknife(lambda rows: success[rows].mean(), day)
    size = share * (1 - share) / error**2 * (stats.t.ppf(0.975, 239) / stats.t.ppf(0.975, 5)) ** 2
    assert size < 20, "240 rows are worth fewer than 20"
    found = day_clustered_proportion(success, day)
    assert found.low == pytest.approx(stats.beta.ppf(0.025, share * size, (1 - share) * size + 1))
    assert found.high == pytest.approx(stats.beta.ppf(0.975, share * size + 1, (1 - share) * size))


def test_a_proportion_never_claims_more_than_its_rows() -> None:
    success = np.array([1, 0] * 50 + [1, 1])  # each day but one has a hit and a miss: hardly any variance between days
    found = day_clustered_proportion(success, np.repeat(np.arange(51), 2))
    assert (found.low, found.high) == pytest.approx(proportion_confint(52, 102, method="beta"))
    level = day_clustered_proportion(success[:100], np.repeat(np.arange(50), 2))
    assert (level.low, level.high) == pytest.approx(proportion_confint(50, 100, method="beta")), "and without any"


def test_a_proportion_without_variation_counts_its_days() -> None:
    day = np.repeat(np.arange(10), 50)
    for success in (0, 1):
        found = day_clustered_proportion(np.full(500, success), day)
        assert (found.low, found.high) == pytest.approx(proportion_confint(10 * success, 10, method="beta"), abs=1e-9)


@given(samples, st.floats(0, 1))
def test_a_proportion_stays_between_none_and_all(random: np.random.Generator, share: float) -> None:
    day = np.repeat(np.arange(5), random.integers(1, 4, 5))
    success = random.uniform(size=day.size) < share
    found = day_clustered_proportion(success, day)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.low < found.high
    mirrored = day_clustered_proportion(~success, day)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-9)


def test_days_may_be_dates_strings_or_numbers() -> None:
    values = [1.0, 2.0, 4.0]
    dates = pd.to_datetime(["2024-01-02", "2024-01-02", "2024-01-03"])
    intervals = {
        day_clustered_mean(values, days) for days in (dates, dates.date, list(dates.strftime("%F")), [1, 1, 2])
    }
    assert len(intervals) == 1
    assert isinstance(intervals.pop(), Interval)


def test_an_interval_reads_well() -> None:
    assert str(Interval(0.51234, 0.4812, 0.5432, 20, 80, 0.95)) == "0.5123 [0.4812, 0.5432]"


@pytest.mark.parametrize("interval", [day_clustered_mean, day_clustered_proportion])
@pytest.mark.parametrize(
    ("values", "days", "named"),
    [
        ([], [], "is empty"),
        ([0, np.nan], [1, 2], "(values|successes) holds 1"),
        ([0, 1], [1, 1], "days must span at least two days"),
        ([0, 1], [1, 2, 3], "days must hold one day for each of 2 rows"),
        ([0, 1], [1, np.nan], "days holds 1 missing"),
        ([0, 1], pd.to_datetime(["2024-01-02", None]), "days holds 1 missing"),
        ([0, 1], pd.Series([pd.Timestamp("2024-01-02"), None], dtype=object), "days holds 1 missing"),
        ([0, 1], ["2024-01-02", None], "days holds 1 missing"),
    ],
)
def test_bad_arguments_are_named(interval, values: list, days: list, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        interval(values, days)


def test_bad_arms_and_levels_are_named() -> None:
    with pytest.raises(ValueError, match="second is empty"):
        day_clustered_difference([1, 2], [1, 2], [], [])
    with pytest.raises(ValueError, match="second_days must hold one day for each of 1 rows"):
        day_clustered_difference([1, 2], [1, 2], [3], [1, 2])
    with pytest.raises(ValueError, match="at least two days"):
        day_clustered_difference([1, 2], [1, 1], [3], [1])
    with pytest.raises(ValueError, match="second_days must span at least two days"):
        day_clustered_difference([1, 2], [1, 2], [3, 4], [2, 2])
    with pytest.raises(ValueError, match="first_days and second_days must be of one type"):
        day_clustered_difference([1, 2], np.array([1, 2], dtype=object), [3, 4], ["a", "b"])
    for level in (0, 1, 95):
        with pytest.raises(ValueError, match="level"):
            day_clustered_mean([1, 2], [1, 2], level)
        with pytest.raises(ValueError, match="level"):
            day_clustered_proportion([1, 0], [1, 2], level)
    with pytest.raises(ValueError, match="successes must hold only 0 and 1"):
        day_clustered_proportion([0.5, 1], [1, 2])


@given(samples)
def test_the_jackknife_of_the_mean_is_the_interval_of_the_mean(random: np.random.Generator) -> None:
    values, day = panel(random)
    expected = day_clustered_mean(values, day)
    for found in (
        day_jackknife(np.mean, [values], day),
        day_jackknife_of_sums(lambda sums: sums[:, 0] / sums[:, 1], np.stack([values, np.ones(day.size)], 1), day),
    ):
        assert (found.estimate, found.low, found.high) == pytest.approx(
            (expected.estimate, expected.low, expected.high), rel=1e-9, abs=1e-12
        )
        assert (found.days, found.observations) == (expected.days, expected.observations)


def test_the_jackknife_of_a_ratio_is_that_of_leaving_out_days() -> None:
    values, day = panel(np.random.default_rng(7))
    columns = np.stack([values**2, np.abs(values)], axis=1)
    error = jackknife(lambda rows: float(columns[rows, 0].sum() / columns[rows, 1].sum()), day)
    found = day_jackknife_of_sums(lambda sums: sums[:, 0] / sums[:, 1], columns, day)
    half = stats.t.ppf(0.975, 29) * error
    assert found.estimate == pytest.approx(columns[:, 0].sum() / columns[:, 1].sum())
    assert (found.high - found.estimate, found.estimate - found.low) == pytest.approx((half, half))


def test_an_undefined_statistic_has_no_bounds() -> None:
    """All the weight on one day: without it nothing is left to divide by."""
    day, weight = np.repeat([0, 1, 2], 2), np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    with np.errstate(invalid="ignore"):
        found = day_jackknife_of_sums(lambda sums: sums[:, 0] / sums[:, 1], np.stack([2 * weight, weight], 1), day)
    assert found.estimate == 2
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: day_jackknife(np.mean, [], [1]), "columns must hold"),
        (lambda: day_jackknife(np.mean, [[1.0], [1.0, 2.0]], [1]), "columns must hold"),
        (lambda: day_jackknife(np.mean, [[1.0, 2.0]], [1, 1]), "days must span at least two days"),
        (lambda: day_jackknife_of_sums(np.sum, [1.0, 2.0], [1, 2]), "columns must be finite"),
        (lambda: day_jackknife_of_sums(np.sum, [[1.0], [np.nan]], [1, 2]), "columns must be finite"),
        (lambda: day_jackknife_of_sums(np.sum, [[1.0], [2.0]], [1]), "days must hold one day"),
    ],
)
def test_bad_arguments_of_the_jackknife_are_named(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
