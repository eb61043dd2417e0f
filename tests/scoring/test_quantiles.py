"""Scores of quantiles against scikit-learn, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_pinball_loss

from financial_assets.scoring.quantiles import pinball_losses

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
