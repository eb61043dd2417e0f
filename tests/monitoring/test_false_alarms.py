"""How often ModelAccuracyDegraded is wrong in a year, and how surely it is right: why its bound is one of 99 %."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats

from financial_assets.monitoring.metrics import LEVEL, WINDOW
from financial_assets.scoring.intervals import day_clustered_mean

YEAR, PERSIST = 252, 3  # three closes span the rule's two days
TICKERS = 2


def daily_advantage(accuracy: float, worlds: int) -> np.ndarray:
    """Hits of a model minus hits of a constant that is right half the time, by day ``[world, day]``."""
    rng = np.random.default_rng(0)
    shape = (worlds, YEAR + WINDOW - 1, TICKERS)
    return ((rng.random(shape) < accuracy) * 1.0 - (rng.random(shape) < 0.5)).mean(axis=2)


def upper_bounds(advantage: np.ndarray, level: float) -> np.ndarray:
    """``day_clustered_mean(...).high`` of each rolling window, for days of equal size."""
    windows = sliding_window_view(advantage, WINDOW, axis=1)
    error = windows.std(axis=-1, ddof=1) / WINDOW**0.5
    return windows.mean(axis=-1) + stats.t.ppf((1 + level) / 2, WINDOW - 1) * error


def alarmed(advantage: np.ndarray, level: float) -> float:
    """Share of worlds with an alarm within the year."""
    below = upper_bounds(advantage, level) < 0
    return float(sliding_window_view(below, PERSIST, axis=1).all(axis=-1).any(axis=1).mean())


def test_the_bound_is_that_of_the_exporter() -> None:
    days = daily_advantage(0.5, 1)[:1, :WINDOW]
    expected = day_clustered_mean(days[0], np.arange(WINDOW), LEVEL).high
    assert upper_bounds(days, LEVEL)[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("worlds", "least", "most"), [(100, 0.0, 0.2), pytest.param(1000, 0.05, 0.13, marks=pytest.mark.statistics)]
)
def test_a_model_as_good_as_the_majority_class_seldom_alarms(worlds: int, least: float, most: float) -> None:
    advantage = daily_advantage(0.5, worlds)
    assert least < alarmed(advantage, LEVEL) < most
    assert alarmed(advantage, 0.95) > 0.25  # what the usual level would do, looked at daily


@pytest.mark.parametrize("worlds", [100, pytest.param(1000, marks=pytest.mark.statistics)])
def test_a_model_that_turned_wrong_is_found_within_the_year(worlds: int) -> None:
    assert alarmed(daily_advantage(0.40, worlds), LEVEL) > 0.75
