"""Scores of probabilities against scikit-learn, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from sklearn import metrics
from sklearn.calibration import calibration_curve

from financial_assets.scoring.classification import (
    LOG_LOSS_CLIP,
    auc_by_day,
    hits,
    log_losses,
    majority_rate,
    reliability_curve,
    scores_by_day,
    squared_errors,
)
from financial_assets.scoring.intervals import day_jackknife


def accuracy(probability: ArrayLike, up: ArrayLike) -> float:
    return float(hits(probability, up).mean())


def log_loss(probability: ArrayLike, up: ArrayLike) -> float:
    return float(log_losses(probability, up).mean())


def brier_score(probability: np.ndarray, up: np.ndarray) -> float:
    return float(squared_errors(probability, up).mean())


forecasts = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60).map(
    lambda rows: (np.array([p for p, _ in rows]), np.array([y for _, y in rows]))
)


@given(forecasts)
def test_scores_agree_with_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    probability, up = data
    assert accuracy(probability, up) == pytest.approx(metrics.accuracy_score(up, probability > 0.5), abs=1e-12)
    if 0 < up.sum() < up.size:  # its two-class scores want both classes
        assert brier_score(probability, up) == pytest.approx(metrics.brier_score_loss(up, probability), abs=1e-12)
        assert log_loss(probability, up) == pytest.approx(metrics.log_loss(up, probability), rel=1e-9, abs=1e-12)


@given(forecasts)
def test_scores_keep_their_bounds_and_ignore_the_order(data: tuple[np.ndarray, np.ndarray]) -> None:
    probability, up = data
    scores = (accuracy(probability, up), brier_score(probability, up), log_loss(probability, up))
    backwards = (
        accuracy(probability[::-1], up[::-1]),
        brier_score(probability[::-1], up[::-1]),
        log_loss(probability[::-1], up[::-1]),
    )
    assert scores == pytest.approx(backwards, rel=1e-12, abs=1e-12)
    assert 0 <= scores[0] <= 1
    assert 0 <= scores[1] <= 1
    assert 0 <= scores[2] <= -math.log(LOG_LOSS_CLIP) + 1e-9
    assert 0.5 <= majority_rate(up) == majority_rate(~up)


@given(forecasts)
def test_up_and_down_are_scored_alike(data: tuple[np.ndarray, np.ndarray]) -> None:
    probability, up = data
    assert brier_score(1 - probability, ~up) == pytest.approx(brier_score(probability, up), abs=1e-12)
    away = np.clip(probability, 1e-9, 1 - 1e-9)
    assert log_loss(1 - away, ~up) == pytest.approx(log_loss(away, up), rel=1e-6)


@given(st.floats(0.01, 0.99), st.integers(1, 199))
def test_the_base_rate_is_the_best_constant(constant: float, ups: int) -> None:
    up = np.arange(200) < ups
    best, other = np.full(200, up.mean()), np.full(200, constant)
    assert brier_score(best, up) <= brier_score(other, up) + 1e-12
    assert log_loss(best, up) <= log_loss(other, up) + 1e-12
    assert brier_score(up, up) == 0


def test_known_values() -> None:
    half = np.full(4, 0.5)
    up = np.array([1, 0, 1, 1])
    assert log_loss(half, up) == pytest.approx(math.log(2))
    assert brier_score(half, up) == 0.25
    assert accuracy([0.9, 0.2, 0.5, 0.51], up) == 0.75, "one half is not yet up"
    assert squared_errors([0.9, 0.2], [1, 1]).tolist() == pytest.approx([0.01, 0.64])
    assert log_losses([0.9, 0.2], [1, 0]).tolist() == pytest.approx([-math.log(0.9), -math.log(0.8)])
    assert log_loss([0.0], [1]) == pytest.approx(36.0437, abs=1e-4)
    assert log_loss([1.0], [1]) == pytest.approx(0, abs=1e-12)
    assert majority_rate(up) == 0.75


def test_float32_probabilities_as_an_artefact_gives_them_cost_no_infinity() -> None:
    assert math.isfinite(log_loss(np.array([0, 1], dtype=np.float32), [1, 0]))


@given(forecasts, st.integers(1, 12))
def test_a_reliability_curve_accounts_for_each_forecast(data: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    probability, up = data
    curve = reliability_curve(probability, up, bins)
    assert sum(point.count for point in curve) == up.size
    assert all(point.count > 0 for point in curve)
    assert sum(point.count * point.observed for point in curve) == pytest.approx(up.sum())
    assert sum(point.count * point.predicted for point in curve) == pytest.approx(probability.sum(), abs=1e-9)
    predicted = [point.predicted for point in curve]
    assert predicted == sorted(predicted)
    assert len(curve) <= bins


def test_a_forecast_on_a_border_belongs_to_the_bin_above() -> None:
    curve = reliability_curve([0.0, 0.25, 0.5, 1.0], [0, 0, 1, 1], 4)
    assert [(point.predicted, point.count) for point in curve] == [(0.0, 1), (0.25, 1), (0.5, 1), (1.0, 1)]


def test_a_reliability_curve_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(1)
    probability = random.beta(2, 2, 400)
    up = random.uniform(size=400) < probability
    curve = reliability_curve(probability, up, 7)
    observed, predicted = calibration_curve(up, probability, n_bins=7, strategy="uniform")
    np.testing.assert_allclose([point.observed for point in curve], observed)
    np.testing.assert_allclose([point.predicted for point in curve], predicted)


def test_the_curve_of_overconfident_probabilities_leaves_the_diagonal() -> None:
    def calibration_error(probability: np.ndarray) -> float:
        """Expected calibration error (Naeini et al. 2015)."""
        curve = reliability_curve(probability, up)
        errors = [abs(point.observed - point.predicted) for point in curve]
        return float(np.average(errors, weights=[point.count for point in curve]))

    random = np.random.default_rng(2)
    honest = random.uniform(0.3, 0.7, 50_000)
    up = random.uniform(size=honest.size) < honest
    overconfident = np.clip(0.5 + 3 * (honest - 0.5), 0, 1)
    assert calibration_error(honest) < 0.01
    assert calibration_error(overconfident) > 0.15


@pytest.mark.parametrize("score", [accuracy, brier_score, log_loss, reliability_curve])
@pytest.mark.parametrize(
    ("probability", "up", "named"),
    [
        ([], [], "probability_up is empty|went_up is empty"),
        ([0.5, np.nan], [0, 1], "probability_up holds 1 .*position 1"),
        ([0.5, np.inf], [0, 1], "probability_up"),
        ([0.5, 1.01], [0, 1], r"probability_up must lie in \[0, 1\]"),
        ([0.5, -0.01], [0, 1], r"probability_up must lie in \[0, 1\]"),
        ([0.5, 0.5], [0, 2], "went_up must hold only 0 and 1"),
        ([0.5, 0.5], [0, np.nan], "went_up holds 1"),
        ([0.5, 0.5], [0, 1, 1], r"probability_up \(2,\), went_up \(3,\)"),
        ([[0.5], [0.5]], [0, 1], "probability_up must be one-dimensional"),
        (["up", "down"], [0, 1], "probability_up must be numbers"),
        ([0.5, None], [0, 1], "probability_up"),
    ],
)
def test_bad_arguments_are_named(score, probability: list, up: list, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        score(probability, up)


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="bins"):
        reliability_curve([0.5], [1], bins=0)
    with pytest.raises(ValueError, match="went_up is empty"):
        majority_rate([])


ORACLES = {
    "accuracy": lambda p, up: metrics.accuracy_score(up, p > 0.5),
    "precision": lambda p, up: metrics.precision_score(up, p > 0.5),
    "recall": lambda p, up: metrics.recall_score(up, p > 0.5),
    "f1": lambda p, up: metrics.f1_score(up, p > 0.5),
    "mcc": lambda p, up: metrics.matthews_corrcoef(up, p > 0.5),
    "auc": lambda p, up: metrics.roc_auc_score(up, p),
    "brier": lambda p, up: metrics.brier_score_loss(up, p),
    "log_loss": lambda p, up: metrics.log_loss(up, p),
}


def correlated_days(
    random: np.random.Generator, days: int = 40, tickers: int = 6, skill: float = 0.3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (rounded, so that some tie), outcomes and days; a factor moves all tickers of a day."""
    day = np.repeat(np.arange(days), tickers)
    move = random.normal(size=days)[day] + random.normal(size=day.size)
    score = skill * move + random.normal(size=days)[day] + random.normal(size=day.size)
    return (1 / (1 + np.exp(-score))).round(2), move > 0, day


@pytest.mark.parametrize("seed", range(5))
def test_every_score_and_its_interval_is_scikit_learn_s_without_one_day_after_the_other(seed: int) -> None:
    probability, up, day = correlated_days(np.random.default_rng(seed))
    found = scores_by_day(probability, up, day, level=0.9)
    assert set(found) == set(ORACLES)
    for name, oracle in ORACLES.items():
        expected = day_jackknife(oracle, [probability, up], day, level=0.9)
        assert (found[name].estimate, found[name].low, found[name].high) == pytest.approx(
            (expected.estimate, expected.low, expected.high), rel=1e-9
        ), name
        assert (found[name].days, found[name].observations, found[name].level) == (40, 240, 0.9)


def test_who_always_says_up_has_a_high_f1_and_no_skill() -> None:
    _, up, day = correlated_days(np.random.default_rng(9))
    found = scores_by_day(np.full(up.size, 0.53), up, day)
    assert found["recall"].estimate == 1
    assert found["f1"].estimate == pytest.approx(2 * up.mean() / (1 + up.mean()))
    assert found["auc"].estimate == found["auc"].low == found["auc"].high == 0.5
    assert np.isnan([found["mcc"].estimate, found["mcc"].low]).all()
    never = scores_by_day(np.full(up.size, 0.47), up, day)
    assert math.isnan(never["precision"].estimate)
    assert never["recall"].estimate == 0


def test_scores_that_hang_on_one_day_have_no_interval() -> None:
    up = np.array([True, False, True, False, True, False])
    found = scores_by_day([0.9, 0.2, 0.3, 0.2, 0.1, 0.4], up, [1, 1, 2, 2, 3, 3])
    assert found["precision"].estimate == 1
    assert np.isnan([found["precision"].low, found["precision"].high]).all()
    one_way = scores_by_day([0.9, 0.2, 0.3, 0.2], [True, True, True, True], [1, 1, 2, 2])
    assert math.isnan(one_way["auc"].estimate)
    with pytest.raises(ValueError, match="days must span at least two days"):
        auc_by_day([0.9, 0.2], [True, False], [1, 1])


@pytest.mark.statistics
@pytest.mark.parametrize("name", ["auc", "mcc", "f1"])
def test_the_truth_is_covered_by_days_and_missed_by_rows(name: str) -> None:
    random = np.random.default_rng(11)
    truth = ORACLES[name](*correlated_days(random, days=60_000)[:2])

    def held(as_rows: bool, runs: int = 500) -> float:
        hits = []
        for _ in range(runs):
            probability, up, day = correlated_days(random, days=100)
            found = scores_by_day(probability, up, np.arange(day.size) if as_rows else day)[name]
            hits.append(found.low <= truth <= found.high)
        return float(np.mean(hits))

    assert abs(held(as_rows=False) - 0.95) < 4 * (0.05 * 0.95 / 500) ** 0.5 + 0.01
    assert held(as_rows=True) < 0.90
