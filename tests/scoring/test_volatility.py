"""Losses of variance forecasts: laws, what "robust" means, and range estimators on simulated paths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from financial_assets.scoring.intervals import day_jackknife
from financial_assets.scoring.volatility import (
    absolute_volatility_errors,
    garman_klass_variance,
    parkinson_variance,
    qlike_losses,
    squared_variance_errors,
    volatility_scores,
)


@given(st.floats(1e-6, 10), st.floats(0.01, 100))
def test_qlike_is_smallest_at_the_truth_and_differences_have_no_unit(truth: float, factor: float) -> None:
    exact, wrong = qlike_losses([truth], [truth])[0], qlike_losses([truth], [factor * truth])[0]
    assert wrong >= exact - 1e-12
    other_unit = qlike_losses([1e4 * truth], [1e4 * factor * truth])[0] - qlike_losses([1e4 * truth], [1e4 * truth])[0]
    assert wrong - exact == pytest.approx(other_unit, abs=1e-9)
    usual = 1 / factor + np.log(factor) - 1
    assert wrong - exact == pytest.approx(usual, abs=1e-9)


def test_the_squared_return_ranks_as_the_truth_does_by_robust_losses_only() -> None:
    """Patton (2011): by the absolute error of the volatility a forecast that is a third too low looks better."""
    random = np.random.default_rng(1)
    truth = np.exp(random.normal(0, 0.5, 50_000))
    proxy = truth * random.normal(size=truth.size) ** 2
    for losses in (qlike_losses, squared_variance_errors):
        assert losses(proxy, truth).mean() < losses(proxy, truth / 1.5).mean()
    assert absolute_volatility_errors(proxy, truth).mean() > absolute_volatility_errors(proxy, truth / 1.5).mean()


def test_scores_are_those_of_scikit_learn_with_intervals_by_day() -> None:
    random = np.random.default_rng(2)
    proxy, variance, day = random.chisquare(3, 2000), random.uniform(2, 4, 2000), np.repeat(np.arange(400), 5)
    found = volatility_scores(proxy, variance, day)
    assert found["rmse"].estimate == pytest.approx(metrics.root_mean_squared_error(proxy, variance))
    assert found["mae"].estimate == pytest.approx(metrics.mean_absolute_error(proxy**0.5, variance**0.5))
    deviance = metrics.mean_gamma_deviance(proxy, variance) / 2
    assert found["qlike"].estimate - (1 + np.log(proxy)).mean() == pytest.approx(deviance)
    by_leaving_out = day_jackknife(metrics.root_mean_squared_error, [proxy, variance], day)
    assert (found["rmse"].low, found["rmse"].high) == pytest.approx(
        (by_leaving_out.low, by_leaving_out.high), rel=0.005
    )


def intraday(random: np.random.Generator, sessions: int, steps: int = 2000) -> tuple[np.ndarray, ...]:
    """Open, high, low, close of Brownian sessions of variance 1e-4."""
    path = np.cumsum(random.normal(0, 0.01 / steps**0.5, (sessions, steps)), axis=1)
    prices = 50 * np.exp(np.concatenate([np.zeros((sessions, 1)), path], axis=1))
    return prices[:, 0], prices.max(axis=1), prices.min(axis=1), prices[:, -1]


def test_ranges_know_the_variance_of_a_path_better_than_its_end() -> None:
    """The efficiencies that Parkinson and Garman-Klass publish are 5.2 and 7.4; a path of few steps hides extremes."""
    opening, high, low, close = intraday(np.random.default_rng(3), 3000)
    squared = np.log(close / opening) ** 2
    for estimate, efficiency in (
        (parkinson_variance(high, low), 4.5),
        (garman_klass_variance(opening, high, low, close), 6.5),
    ):
        assert estimate.mean() == pytest.approx(1e-4, rel=0.07)
        assert squared.var() / estimate.var() > efficiency


@given(st.lists(st.floats(1, 100), min_size=4, max_size=4))
def test_no_possible_bar_has_a_negative_variance(prices: list[float]) -> None:
    low, high = min(prices), max(prices)
    assert garman_klass_variance(prices[0], high, low, prices[1]) >= 0
    assert garman_klass_variance(low, high, low, high) == pytest.approx(
        (1.5 - 2 * np.log(2)) * np.log(high / low) ** 2, abs=1e-12
    )
    assert np.isnan(garman_klass_variance(np.nan, high, low, 1.0))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: qlike_losses([], []), "proxy is empty"),
        (lambda: qlike_losses([-1e-9], [1]), "proxy must be at least 0"),
        (lambda: qlike_losses([1], [0]), "variance must be above 0"),
        (lambda: squared_variance_errors([1, 2], [1]), "shapes differ"),
        (lambda: volatility_scores([1], [1], [3]), "at least two days"),
    ],
)
def test_bad_arguments_are_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
