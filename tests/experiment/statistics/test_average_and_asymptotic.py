from __future__ import annotations

import math

import numpy as np
import pytest
import ville

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.asymptotic import (
    asymptotic_interval,
    asymptotic_radius,
    clipped,
    precision_for,
)
from financial_assets.experiment.statistics.bernstein import (
    average_interval,
    bernstein_radius,
    log_mixture,
    variations,
)


def switching(rng: np.random.Generator, runs: int, days: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences whose mean is -.1 in the first half and +.1 in the second, and these means."""
    path = np.where(np.arange(days) < days // 2, -0.1, 0.1)
    return np.where(rng.random((runs, days)) < 0.5 + path / 2, 1.0, -1.0), path


def test_the_running_average_is_covered_though_the_mean_moves() -> None:
    days, path = switching(np.random.default_rng(1), 400, 600)
    average, limit = np.cumsum(path), math.log(2 / 0.05)
    off, spread = np.cumsum(days, axis=1) - average, variations(days)
    missed = (log_mixture(off, spread) >= limit) | (log_mixture(-off, spread) >= limit)
    assert missed.any(axis=1).mean() <= 0.05
    n = np.arange(1, 601)
    assert (np.abs(off) > 1.96 * np.sqrt(n))[:, 19:].any(axis=1).mean() > 0.25  # the interval of one look, every day


def test_radius_interval_and_process_agree() -> None:
    days = switching(np.random.default_rng(2), 1, 300)[0][0]
    squares = [(day - (days[:place].mean() if place else 0.0)) ** 2 for place, day in enumerate(days)]
    variation = float(variations(days)[-1])
    assert variation == pytest.approx(sum(squares), rel=1e-12)
    low, high = average_interval(days, 0.05)
    half = bernstein_radius(variation, 0.025) / 300
    assert (high - low) / 2 == pytest.approx(half)
    assert float(log_mixture(half * 300, variation)) == pytest.approx(math.log(40), abs=1e-9)
    assert average_interval([], 0.05) == (-1.0, 1.0)
    for wrong in ([0.1, 1.5], [0.1, math.nan]):
        with pytest.raises(ExperimentError):
            average_interval(wrong, 0.05)


def test_the_average_interval_is_narrower_for_quiet_days() -> None:
    quiet = average_interval([0.01, -0.01] * 150, 0.05, bound=0.1)
    loud = average_interval([0.1, -0.1] * 150, 0.05, bound=0.1)
    assert quiet[1] < 0.5 * loud[1]


def test_the_asymptotic_sequence_is_that_of_ville() -> None:
    days = np.random.default_rng(3).standard_t(4, 400) * 3 + 0.1
    theirs = ville.AsymptoticCS(alpha=0.05, t_opt=250, min_samples=50).fit(days)
    rho = 1 / math.sqrt(theirs.rho_)
    for count, low, high in zip(range(1, 401), theirs.lower_, theirs.upper_, strict=True):
        assert asymptotic_interval(days[:count], 0.05, rho) == pytest.approx((low, high), abs=1e-8)
    assert precision_for(250, 0.05) == pytest.approx(rho, rel=0.02)


def test_heavy_tails_are_covered_about_as_promised() -> None:
    days = np.random.default_rng(4).standard_t(4, (1000, 500))
    n = np.arange(1, 501)
    mean = np.cumsum(days, axis=1) / n
    deviation = np.sqrt((np.cumsum(days**2, axis=1) / n - mean**2) * n / np.maximum(n - 1, 1))
    half = asymptotic_radius(n, 0.05, precision_for(250, 0.05))
    assert (np.abs(mean) > half * deviation)[:, 49:].any(axis=1).mean() <= 0.05
    assert (np.abs(mean) > 1.96 * deviation / np.sqrt(n))[:, 49:].any(axis=1).mean() > 0.2


def test_nothing_is_concluded_from_few_days() -> None:
    days, rho = [5.0 + 1e-3 * day for day in range(49)], precision_for(100, 0.05)
    assert asymptotic_interval(days, 0.05, rho) == (-math.inf, math.inf)
    low, high = asymptotic_interval([*days, 5.0], 0.05, rho)
    assert 4.9 < low < high < 5.1
    with pytest.raises(ExperimentError):
        asymptotic_interval([*days, math.nan], 0.05, rho)


def test_clipping_refuses_what_is_missing() -> None:
    np.testing.assert_array_equal(clipped([-3.0, 0.2, math.inf], 0.5), [-0.5, 0.2, 0.5])
    for days, limit in (([math.nan], 0.5), ([0.1], 0.0), ([0.1], math.inf)):
        with pytest.raises(ExperimentError):
            clipped(days, limit)
