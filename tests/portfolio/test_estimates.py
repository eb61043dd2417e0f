"""Intervals of figures of merit: known formulas, another bootstrap, coverage where the truth is known."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.portfolio.bootstrap import block_length, bootstrap_interval, stationary_draws
from financial_assets.portfolio.estimates import (
    annual_mean,
    calmar_interval,
    drawdown_interval,
    hit_rate,
    ratio_of_means,
    sharpe_interval,
    sortino_interval,
)
from financial_assets.portfolio.performance import calmar_ratio, max_drawdown, moments, sharpe_ratio, sortino_ratio
from financial_assets.portfolio.selection import sharpe_variance
from financial_assets.scoring.autocorrelation import autocorrelation_effect, automatic_lags

YEAR = 252


def days(seed: int, count: int = 500, mean: float = 0.0005) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(5, count) * 0.01 + mean


def test_the_estimates_are_the_figures() -> None:
    returns = days(0)
    for found, figure in (
        (sharpe_interval(returns), sharpe_ratio(returns)),
        (sortino_interval(returns), sortino_ratio(returns)),
        (calmar_interval(returns), calmar_ratio(returns)),
        (drawdown_interval(returns), max_drawdown(returns)),
        (annual_mean(returns), returns.mean() * YEAR),
        (hit_rate(returns), np.mean(returns > 0)),
    ):
        assert found is not None
        assert found.estimate == pytest.approx(figure)
        assert found.low < found.high
        assert (found.days, found.level) == (500, 0.95)


def test_for_independent_days_the_sharpe_ratios_error_is_mertens() -> None:
    returns = days(3, 4000)
    ratio, shape = sharpe_ratio(returns, periods=1), moments(returns)
    assert shape is not None
    found = sharpe_interval(returns)
    assert found is not None
    standardised = (returns - returns.mean()) / returns.std()
    effect = autocorrelation_effect(standardised - ratio / 2 * (standardised**2 - 1), automatic_lags(4000))
    error = math.sqrt(sharpe_variance(ratio, *shape) * effect * YEAR / 4000)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=1e-2)
    assert effect < 1.1


@pytest.mark.parametrize("interval", [sharpe_interval, sortino_interval])
@pytest.mark.parametrize("mean", [0.0, 0.001])
def test_ratios_are_covered(interval, mean: float) -> None:
    """Truth by one very long history of the same days."""
    truth = interval(days(99, 2_000_000, mean))
    found = [interval(days(seed, 500, mean)) for seed in range(400)]
    covered = np.mean([one.low <= truth.estimate <= one.high for one in found])
    assert 0.92 < covered < 0.99


def test_a_ratio_of_means_is_covered_and_that_of_one_day_alone_is_not() -> None:
    random, covered, naive = np.random.default_rng(7), [], []
    for _ in range(400):
        bottom = random.gamma(4, 0.1, 250)
        top = 3 * bottom + random.normal(0, 2, 250)
        found = ratio_of_means(top, bottom)
        covered.append(found.low <= 3 <= found.high)
        naive.append(abs(np.mean(top / bottom) - 3) < (found.high - found.low) / 2)
    assert 0.92 < np.mean(covered) < 0.99
    assert np.mean(naive) < 0.9, "the mean of daily ratios is another, wilder figure"


def test_days_that_move_together_widen_the_interval() -> None:
    random = np.random.default_rng(2)
    noise = random.normal(0, 0.01, (300, 501))
    series = noise[:, 1:] + 0.8 * noise[:, :-1]
    found = [sharpe_interval(row) for row in series]
    assert np.mean([one.spans_zero for one in found]) > 0.9
    half = 1.96 * math.sqrt(YEAR / 500)
    assert np.mean([abs(one.estimate) < half for one in found]) < 0.9, "what independence would say"


def test_too_few_or_equal_days_have_no_interval() -> None:
    few, equal = days(0, 19), np.full(50, 0.01)
    for figure in (sharpe_interval, sortino_interval, calmar_interval, drawdown_interval, annual_mean):
        assert figure(few) is None
    for figure in (sharpe_interval, sortino_interval, calmar_interval):
        assert figure(equal) is None
    assert hit_rate([0.0, 0.0, 0.1]) is None
    assert ratio_of_means(few, np.ones(19)) is None
    assert ratio_of_means(equal, np.zeros(50)) is None
    none = drawdown_interval(np.zeros(50))
    assert none is not None
    assert (none.estimate, none.low, none.high) == (0, 0, 0)


@pytest.mark.parametrize("figure", [sharpe_interval, calmar_interval, drawdown_interval, annual_mean, hit_rate])
@pytest.mark.parametrize(("returns", "named"), [([], "returns is empty"), ([math.nan, 0.1], "returns holds 1")])
def test_bad_returns_are_named(figure, returns: list, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        figure(returns)


def test_other_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="returns must be at least -1"):
        drawdown_interval([-1.5])
    with pytest.raises(ValueError, match="bottom must be at least 0"):
        ratio_of_means([1.0], [-1.0])
    with pytest.raises(ValueError, match=r"top \(1,\), bottom \(2,\)"):
        ratio_of_means([1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="draws must be at least 100"):
        drawdown_interval(days(0), draws=10)
    with pytest.raises(ValueError, match="level must lie"):
        sharpe_interval(days(0), 1.0)


def autoregressive(seed: int, memory: float, count: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(count + 50)
    for day in range(1, len(noise)):
        noise[day] += memory * noise[day - 1]
    return noise[50:]


@pytest.mark.parametrize("memory", [0.2, 0.5, 0.8])
def test_block_lengths_are_those_of_arch(memory: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # arch's own imports
        from arch.bootstrap import optimal_block_length
    ratios = []
    for seed in range(40):
        series = autoregressive(seed, memory, 1000)
        ratios.append(block_length(series) / max(float(optimal_block_length(series)["stationary"].iloc[0]), 1.0))
    # It standardises autocovariances pair by pair, which now and then moves the last significant lag.
    assert np.median(ratios) == pytest.approx(1, abs=0.02)
    assert np.mean(np.log(ratios)) == pytest.approx(0, abs=0.1)


@given(st.integers(2, 40), st.floats(1, 20), st.integers(0, 99))
def test_draws_are_blocks_of_days(count: int, block: float, seed: int) -> None:
    places = stationary_draws(count, block, 20, np.random.default_rng(seed))
    assert places.shape == (20, count)
    assert (places >= 0).all()
    assert (places < count).all()


def test_blocks_have_their_mean_length_and_every_day_its_chance() -> None:
    places = stationary_draws(500, 8.0, 2000, np.random.default_rng(0))
    breaks = (np.diff(places, axis=1) % 500 != 1).mean()
    assert 1 / breaks == pytest.approx(8, rel=0.02)
    assert np.bincount(places.ravel(), minlength=500).std() < 0.12 * 2000


def test_the_bootstrap_of_a_mean_has_its_error_also_where_days_move_together() -> None:
    long = np.stack([autoregressive(seed, 0.5, 400) for seed in range(300)])
    truth = 3.92 * long.mean(axis=1).std()
    widths = []
    for row in long[:40]:
        found = bootstrap_interval(row, lambda series: series.mean(axis=1))
        assert found is not None
        widths.append(found.high - found.low)
    assert np.mean(widths) == pytest.approx(truth, rel=0.15)
    assert 3.92 * long.std() / math.sqrt(400) < 0.65 * truth, "independence"


def test_a_figure_that_is_seldom_defined_has_no_interval() -> None:
    series = days(0, 60)
    assert bootstrap_interval(series, lambda drawn: np.where(drawn[:, 0] == series[0], 1.0, np.nan)) is None
    assert bootstrap_interval(series, lambda drawn: np.full(len(drawn), np.nan)) is None
    assert block_length(np.ones(50)) == block_length(np.ones(1)) == 1


def test_the_range_of_drawdowns_is_what_other_years_show() -> None:
    random = np.random.default_rng(11)
    years = random.normal(0.0004, 0.01, (400, 500))
    truth = np.quantile([max_drawdown(row) for row in years], (0.1, 0.9))
    found = [drawdown_interval(row, 0.8, draws=200) for row in years[:60]]
    low, high = np.median([(one.low, one.high) for one in found], axis=0)
    np.testing.assert_allclose((low, high), truth, rtol=0.2)
