"""Comparison of forecasters: against references, and error rates with controls that must fail."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from financial_assets.scoring.autocorrelation import long_run_mean
from financial_assets.scoring.comparison import daily_means, diebold_mariano, model_confidence_set


@pytest.mark.parametrize("days", [8, 9, 10, 11, 12])
def test_a_confidence_set_of_few_days(days: int) -> None:
    """The rule of the block's length has no variance left for the longest lags."""
    losses = np.random.default_rng(days).normal([0.0, 0.0, 9.0], 1.0, (days, 3))
    found = model_confidence_set(losses, ["a", "b", "far"], repetitions=200)
    assert 1 <= found.block <= days // 2
    assert found.included[0] in ("a", "b")
    assert set(found.p_values) == {"a", "b", "far"}


def test_rows_of_a_day_are_one_observation() -> None:
    random = np.random.default_rng(1)
    day = np.repeat(np.arange(50), random.integers(1, 6, 50))
    first, second = random.normal(size=(2, day.size))
    order = random.permutation(day.size)
    expected = [float(np.mean((first - second)[day == one])) for one in range(50)]
    assert daily_means(first - second, day) == pytest.approx(expected)
    found = diebold_mariano(first[order], second[order], day[order])
    reference = long_run_mean(expected)
    assert (found.statistic, found.p_value) == pytest.approx((reference.statistic, reference.p_value))
    assert found.difference.estimate == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_truncated_variance_is_the_one_of_harvey_leybourne_and_newbold(horizon: int) -> None:
    difference = np.random.default_rng(2).normal(0.1, 1, 80)
    off = difference - difference.mean()
    autocovariance = sm.tsa.acovf(off, fft=False, demean=False)[:horizon]
    spread = autocovariance[0] + 2 * autocovariance[1:].sum()
    n = 80
    factor = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    expected = difference.mean() / np.sqrt(spread / n) * factor
    found = diebold_mariano(difference, np.zeros(n), np.arange(n), horizon, variance="truncated")
    assert found.statistic == pytest.approx(expected)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(expected), n - 1))
    if horizon == 1:  # one session ahead it is Student's test
        assert found.p_value == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)


def test_equal_forecasters_are_equal() -> None:
    losses = np.random.default_rng(3).normal(size=30)
    for variance in ("cosine", "truncated"):
        found = diebold_mariano(losses, losses, np.arange(30), variance=variance)
        assert (found.statistic, found.p_value) == (0, 1)


def universe(random: np.random.Generator, days: int, horizon: int, tickers: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Losses of two equal forecasters; their difference moves with a factor and with clustered volatility (GARCH)."""
    count = days + horizon - 1
    variance, factor = 1.0, np.empty(count)
    for day, shock in enumerate(random.normal(size=count)):
        factor[day] = variance**0.5 * shock
        variance = 0.05 + 0.1 * factor[day] ** 2 + 0.85 * variance
    rows = factor[:, None] + random.normal(size=(count, tickers))
    sums = np.lib.stride_tricks.sliding_window_view(rows, horizon, axis=0).sum(axis=-1)
    return sums.ravel(), np.repeat(np.arange(days), tickers)


def sizes(runs: int, horizon: int, days: int = 250) -> dict[str, float]:
    random = np.random.default_rng(4)
    p_values: dict[str, list[float]] = {"cosine": [], "truncated": [], "rows": []}
    for _ in range(runs):
        rows, day = universe(random, days, horizon)
        for variance in ("cosine", "truncated"):
            p_values[variance].append(diebold_mariano(rows, 0 * rows, day, horizon, variance=variance).p_value)
        p_values["rows"].append(float(stats.ttest_1samp(rows, 0).pvalue))
    return {name: float(np.mean(np.array(found) < 0.05)) for name, found in p_values.items()}


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("runs", [100, pytest.param(1500, marks=pytest.mark.statistics)])
def test_size_under_a_common_factor_and_clustered_volatility(runs: int, horizon: int) -> None:
    found = sizes(runs, horizon)
    band = 4 * (0.06 * 0.94 / runs) ** 0.5
    assert found["cosine"] < 0.06 + band, found
    assert found["truncated"] < 0.065 + band, found
    assert found["rows"] > 0.5, found


def test_a_better_forecaster_is_found() -> None:
    random = np.random.default_rng(5)
    rows, day = universe(random, 500, 5)
    found = diebold_mariano(rows - 1.5, 0 * rows, day, 5)
    assert found.p_value < 0.01
    assert found.difference.high < 0


def test_losses_that_turn_every_day_have_no_truncated_variance() -> None:
    turning = np.tile([1.0, -1.0], 20) + 0.01
    with pytest.raises(ValueError, match="choose variance='cosine'"):
        diebold_mariano(turning, 0 * turning, np.arange(40), 2, variance="truncated")
    assert diebold_mariano(turning, 0 * turning, np.arange(40), 2).p_value > 0.05


def race(random: np.random.Generator, gaps: np.ndarray, days: int = 300) -> np.ndarray:
    """Losses ``[day, forecaster]`` that share the day's and are autocorrelated."""
    common, own = random.normal(size=(days, 1)), random.normal(size=(days, gaps.size))
    for day in range(1, days):
        own[day] += 0.4 * own[day - 1]
    return 3 * common + own + gaps


def test_the_confidence_set_keeps_the_best_and_drops_the_bad() -> None:
    random = np.random.default_rng(6)
    names = ["bad", "best", "as good", "worse"]
    kept = np.zeros(4)
    for _ in range(25):
        found = model_confidence_set(race(random, np.array([1.0, 0.0, 0.0, 0.6])), names, repetitions=300)
        kept += [name in found.included for name in names]
        assert next(iter(found.p_values)) == found.included[0]
        assert list(found.p_values.values()) == sorted(found.p_values.values(), reverse=True)
        assert max(found.p_values.values()) == 1
    assert kept[1:3].min() >= 20
    assert kept[0] <= 1
    assert kept[3] <= 12


@pytest.mark.statistics
def test_equally_good_forecasters_are_all_kept_nine_times_of_ten_and_blocks_of_one_day_are_not_enough() -> None:
    random = np.random.default_rng(7)
    worlds = [race(random, np.zeros(4), days=500) for _ in range(300)]
    names = list("abcd")
    all_kept = [len(model_confidence_set(world, names, repetitions=400).included) == 4 for world in worlds]
    naive = [len(model_confidence_set(world, names, block=1, repetitions=400).included) == 4 for world in worlds]
    assert np.mean(all_kept) > 0.90 - 0.07, np.mean(all_kept)
    assert np.mean(naive) < 0.70, np.mean(naive)


def test_the_confidence_set_is_repeatable_and_its_blocks_cover_the_horizon() -> None:
    losses = np.random.default_rng(8).normal(size=(200, 3))
    found = model_confidence_set(losses, ["a", "b", "c"], horizon=5)
    assert found == model_confidence_set(losses, ["a", "b", "c"], horizon=5)
    assert found.block >= 5
    assert model_confidence_set(losses, ["a", "b", "c"], block=17).block == 17


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: diebold_mariano([1.0], [1.0, 2.0], [1]), "shapes differ"),
        (lambda: diebold_mariano(np.ones(20), np.zeros(20), np.arange(20), 20), "below the number of days"),
        (lambda: diebold_mariano(np.ones(20), np.zeros(20), np.repeat([1, 2], 10)), "2 days: 8 are needed"),
        (lambda: model_confidence_set(np.ones((5, 2)), ["a", "b"]), "at least 8 days"),
        (lambda: model_confidence_set(np.eye(20, 2), ["a", "a"]), "different ones"),
        (lambda: model_confidence_set(np.eye(20, 1), ["a"]), "at least two"),
        (lambda: model_confidence_set(np.ones((20, 2)), ["a", "b"]), "losses of a and b differ by a constant"),
        (lambda: model_confidence_set(np.eye(20, 2), ["a", "b"], alpha=10), "alpha must lie strictly"),
    ],
)
def test_bad_arguments_are_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
