"""Scores of quantiles and intervals against scikit-learn, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_pinball_loss

from financial_assets.scoring.quantiles import coverage, interval_score, pinball_loss, pinball_losses, share_below

numbers = st.floats(-100, 100)
rows = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=40).map(np.array)
levels = st.floats(0.01, 0.99)


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


@given(rows, levels)
def test_the_interval_score_is_the_two_pinball_losses(data: np.ndarray, level: float) -> None:
    """Gneiting and Raftery (2007), section 6.2: with tails a/2, a/2 * score = sum of both pinball losses."""
    actual, low, high = data[:, 0], np.minimum(data[:, 1], data[:, 2]), np.maximum(data[:, 1], data[:, 2])
    tail = (1 - level) / 2
    both = pinball_loss(actual, low, tail) + pinball_loss(actual, high, 1 - tail)
    assert interval_score(actual, low, high, level) == pytest.approx(both / tail, rel=1e-6, abs=1e-9)


@given(rows, st.floats(0, 10))
def test_wider_intervals_cover_more(data: np.ndarray, wider: float) -> None:
    actual, low, high = data[:, 0], np.minimum(data[:, 1], data[:, 2]), np.maximum(data[:, 1], data[:, 2])
    assert 0 <= coverage(actual, low, high) <= coverage(actual, low - wider, high + wider) <= 1


def test_known_values() -> None:
    assert coverage([0, 1, 2, 3], [0, 0, 0, 0], [2, 2, 2, 2]) == 0.75, "the borders belong to the interval"
    assert share_below([0, 1, 2, 3], [1, 1, 1, 1]) == 0.5
    assert pinball_losses([1, -1], [0, 0], 0.9).tolist() == pytest.approx([0.9, 0.1])
    assert interval_score([3], [0], [2], 0.9) == pytest.approx(2 + 20 * 1)


@pytest.mark.parametrize("score", [lambda y, q: pinball_loss(y, q, 0.5), share_below, lambda y, q: coverage(y, q, q)])
@pytest.mark.parametrize(
    ("actual", "predicted", "named"),
    [
        ([], [], "outcomes is empty"),
        ([0, np.nan], [0, 1], "outcomes holds 1"),
        ([0, 1], [0, np.inf], "predicted holds 1|low holds 1"),
        ([0, 1], [0], "shapes differ: outcomes"),
    ],
)
def test_bad_arguments_are_named(score, actual: list, predicted: list, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        score(actual, predicted)


def test_bad_levels_and_crossed_intervals_are_named() -> None:
    for level in (0, 1, -0.1, 5, np.nan):
        with pytest.raises(ValueError, match="level must lie strictly between 0 and 1"):
            pinball_loss([0], [0], level)
        with pytest.raises(ValueError, match="level must lie strictly between 0 and 1"):
            interval_score([0], [0], [0], level)
    with pytest.raises(ValueError, match="low is above high in 1 intervals, the first at position 1"):
        coverage([0, 0], [0, 1], [0, 0])
