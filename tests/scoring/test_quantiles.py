"""Scores of quantiles against scikit-learn, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_pinball_loss

from financial_assets.scoring.intervals import day_clustered_mean, day_clustered_proportion
from financial_assets.scoring.quantiles import (
    QUANTILE_LEVELS,
    approximate_crps,
    coverage_by_day,
    mean_pinball_losses,
    normalised_pinball_losses,
    pinball_losses,
    quantile_scores,
)

numbers = st.floats(-100, 100)
rows = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=40).map(np.array)
levels = st.floats(0.01, 0.99)


def pinball_loss(outcomes: np.ndarray, predicted: np.ndarray, level: float) -> float:
    return float(pinball_losses(outcomes, predicted, level).mean())


@given(rows, levels)
def test_pinball_loss_agrees_with_scikit_learn(data: np.ndarray, level: float) -> None:
    actual, predicted = data[:, 0], data[:, 1]
    expected = mean_pinball_loss(actual, predicted, alpha=level)
    assert pinball_loss(actual, predicted, level) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert (pinball_losses(actual, predicted, level) >= 0).all()


@given(rows)
def test_pinball_loss_of_the_median_is_half_the_absolute_error(data: np.ndarray) -> None:
    actual, predicted = data[:, 0], data[:, 1]
    assert pinball_loss(actual, predicted, 0.5) == pytest.approx(np.abs(actual - predicted).mean() / 2, abs=1e-12)


@given(rows, levels)
def test_mirrored_quantiles_score_alike(data: np.ndarray, level: float) -> None:
    actual, predicted = data[:, 0], data[:, 1]
    assert pinball_loss(-actual, -predicted, 1 - level) == pytest.approx(
        pinball_loss(actual, predicted, level), abs=1e-9
    )


@pytest.mark.parametrize("level", [0.01, 0.05, 0.5, 0.95, 0.99])
def test_the_true_quantile_has_the_smallest_pinball_loss(level: float) -> None:
    actual = stats.norm.ppf(np.linspace(0.0005, 0.9995, 1000))
    best = pinball_loss(actual, np.full(1000, stats.norm.ppf(level)), level)
    for miss in (-0.2, 0.2):
        assert best < pinball_loss(actual, np.full(1000, stats.norm.ppf(level) + miss), level)


def test_known_values() -> None:
    assert pinball_losses([1, -1], [0, 0], 0.9).tolist() == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize(
    ("actual", "predicted", "named"),
    [
        ([], [], "outcomes is empty"),
        ([0, np.nan], [0, 1], "outcomes holds 1"),
        ([0, 1], [0, np.inf], "predicted holds 1"),
        ([0, 1], [0], "shapes differ: outcomes"),
    ],
)
def test_bad_arguments_are_named(actual: list, predicted: list, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        pinball_losses(actual, predicted, 0.5)


@pytest.mark.parametrize("level", [0, 1, -0.1, 5, np.nan])
def test_bad_levels_are_named(level: float) -> None:
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1"):
        pinball_losses([0], [0], level)


def forecasts(seed: int = 1, days: int = 60, tickers: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes, right normal quantiles, volatilities and days."""
    random = np.random.default_rng(seed)
    volatility = np.exp(random.normal(-4, 0.5, days * tickers))
    predicted = volatility[:, None] * stats.norm.ppf(QUANTILE_LEVELS)
    return random.normal(size=volatility.size) * volatility, predicted, volatility, np.repeat(np.arange(days), tickers)


def test_losses_of_all_levels_are_the_means_of_scikit_learn_s() -> None:
    actual, predicted, volatility, _ = forecasts()
    each = [mean_pinball_loss(actual, predicted[:, place], alpha=level) for place, level in enumerate(QUANTILE_LEVELS)]
    assert mean_pinball_losses(actual, predicted).mean() == pytest.approx(np.mean(each))
    found = normalised_pinball_losses(actual, predicted, volatility)
    unit = normalised_pinball_losses(actual / volatility, predicted / volatility[:, None], np.ones(actual.size))
    assert found == pytest.approx(unit), "in units of volatility, a loss is that of scaled outcomes"


@pytest.mark.parametrize("law", [stats.norm(0, 0.02), stats.t(5)])
def test_the_crps_of_many_levels_is_the_integral(law) -> None:
    """E |X - y| - E |X - X'| / 2 (Gneiting and Raftery 2007, equation 21)."""
    levels = (np.arange(400) + 0.5) / 400
    draws = law.ppf(levels)
    actual = law.ppf([0.003, 0.2, 0.5, 0.97])
    exact = [np.abs(draws - y).mean() - np.abs(draws[:, None] - draws).mean() / 2 for y in actual]
    found = approximate_crps(actual, np.tile(draws, (4, 1)), tuple(levels))
    assert found == pytest.approx(exact, rel=0.01)


def test_the_crps_of_five_levels_is_as_documented_and_still_smallest_at_the_truth() -> None:
    actual = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    truth = np.tile(stats.norm.ppf(QUANTILE_LEVELS), (4000, 1))
    found = approximate_crps(actual, truth).mean()
    assert found * np.pi**0.5 == pytest.approx(0.82, abs=0.005)
    for factor in (0.8, 1.25):
        assert approximate_crps(actual, factor * truth).mean() > found


def test_coverage_and_scores_by_day() -> None:
    actual, predicted, volatility, day = forecasts()
    coverage = coverage_by_day(actual, predicted, day)
    assert tuple(coverage) == QUANTILE_LEVELS
    for place, level in enumerate(QUANTILE_LEVELS):
        assert coverage[level] == day_clustered_proportion(actual <= predicted[:, place], day)
        assert coverage[level].low <= level <= coverage[level].high
    scores = quantile_scores(actual, predicted, volatility, day)
    assert scores["pinball"] == day_clustered_mean(mean_pinball_losses(actual, predicted), day)
    assert scores["normalised_pinball"] == day_clustered_mean(
        normalised_pinball_losses(actual, predicted, volatility), day
    )
    assert scores["crps"] == day_clustered_mean(approximate_crps(actual, predicted), day)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: mean_pinball_losses([0.0], [[0.0]]), r"\[outcome, level\] \(1, 5\)"),
        (lambda: mean_pinball_losses([0.0], [[np.nan] * 5]), "predicted must be finite"),
        (lambda: approximate_crps([0.0], [[0.0, 1.0]], (0.5, 0.1)), "quantile_levels must rise"),
        (lambda: approximate_crps([0.0], [[0.0, 1.0]], (0.5, 1.0)), r"quantile_levels\[1\] must lie strictly"),
        (lambda: normalised_pinball_losses([0.0], [[0.0]], [0.0], (0.5,)), "volatility must be above 0"),
        (lambda: normalised_pinball_losses([0.0], [[0.0]], [1.0, 1.0], (0.5,)), "shapes differ"),
    ],
)
def test_bad_arguments_of_many_levels_are_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
