"""The regressions find what is there, and ridge what that of scikit-learn finds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from financial_assets.errors import TrainingError
from financial_assets.models.fitting.regression import Block, fit_logistic, fit_quantiles, fit_ridge

LEVELS = (0.01, 0.05, 0.5, 0.95, 0.99)


def world(rows: int, seed: int) -> Block:
    """Outcomes whose median follows the first feature and whose spread grows with the second; the others are noise."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, 6)).astype(np.float32)
    return inputs, 0.5 * inputs[:, 0] + np.exp(0.3 * inputs[:, 1]) * rng.normal(size=rows)


@pytest.fixture(scope="module")
def blocks() -> tuple[Block, Block]:
    return world(4000, 0), world(1000, 1)


def test_quantiles_follow_place_and_spread(blocks: tuple[Block, Block]) -> None:
    model = fit_quantiles(*blocks, LEVELS)
    assert model.coefficients.shape == (6, 5)
    assert model.coefficients[0, 2] == pytest.approx(0.5, abs=0.1)
    # Where the second feature is large, outer quantiles lie further out on both sides.
    assert model.coefficients[1, 4] > 0.3
    assert model.coefficients[1, 0] < -0.3
    assert np.abs(model.coefficients[2:, 2]).max() < 0.1


def test_each_quantile_is_undercut_as_often_as_its_level_says(blocks: tuple[Block, Block]) -> None:
    (inputs, outcome), stop = blocks
    model = fit_quantiles((inputs, outcome), stop, LEVELS)
    shares = (outcome[:, None] <= model.predict(inputs.astype(np.float64))).mean(axis=0)
    np.testing.assert_allclose(shares, LEVELS, atol=2 / len(outcome))


def test_regressions_are_repeatable(blocks: tuple[Block, Block]) -> None:
    for fit in (lambda: fit_quantiles(*blocks, LEVELS), lambda: fit_ridge(*blocks)):
        one, other = fit(), fit()
        assert np.array_equal(one.coefficients, other.coefficients)
        assert np.array_equal(one.intercepts, other.intercepts)


def test_ridge_is_scikit_learns(blocks: tuple[Block, Block]) -> None:
    (inputs, outcome), stop = blocks
    model = fit_ridge((inputs, outcome), stop)
    other = Ridge(alpha=model.strength * len(outcome)).fit(inputs.astype(np.float64), outcome)
    np.testing.assert_allclose(model.coefficients[:, 0], other.coef_, atol=1e-10)
    assert model.intercepts[0] == pytest.approx(other.intercept_, abs=1e-10)


def test_noise_is_regularised_more_than_a_signal() -> None:
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(300, 40)).astype(np.float32)
    noise = rng.normal(size=300)
    signal = inputs[:, 0] * 3.0 + 0.1 * noise
    fit, stop = slice(None, 200), slice(200, None)
    by_outcome = [fit_ridge((inputs[fit], y[fit]), (inputs[stop], y[stop])).strength for y in (noise, signal)]
    assert by_outcome[0] > by_outcome[1]


def test_logistic_finds_the_direction_and_refuses_one_class(blocks: tuple[Block, Block]) -> None:
    fit, stop = ((inputs, outcome > 0) for inputs, outcome in blocks)
    model = fit_logistic(fit, stop)
    assert model.coefficients[0, 0] > 5 * np.abs(model.coefficients[2:, 0]).max()
    with pytest.raises(TrainingError, match="one direction only"):
        fit_logistic((fit[0], np.ones(len(fit[0]), dtype=bool)), stop)
    with pytest.raises(TrainingError, match="INGESTION_START_DATE"):
        fit_logistic(fit, (stop[0], np.zeros(len(stop[0]), dtype=bool)))
