from __future__ import annotations

import math

import numpy as np
import pytest
import ville

from benchmarks.ab.many_tests import variations
from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.asymptotic import (
    AsymptoticSequence,
    Clipping,
    asymptotic_radius,
    precision_for,
)
from financial_assets.experiment.statistics.bernstein import (
    AverageSequence,
    bernstein_radius,
    log_mixture,
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


def test_radius_state_and_process_agree() -> None:
    days, _ = switching(np.random.default_rng(2), 1, 300)
    state = AverageSequence().extend(days[0])
    assert state.variation == pytest.approx(variations(days)[0, -1], rel=1e-12)
    low, high = state.interval(0.05)
    half = bernstein_radius(state.variation, 0.025) / 300
    assert (high - low) / 2 == pytest.approx(half)
    assert float(log_mixture(half * 300, state.variation)) == pytest.approx(math.log(40), abs=1e-9)
    assert AverageSequence().interval(0.05) == (-1.0, 1.0)
    with pytest.raises(ExperimentError):
        state.update(1.5)


def test_the_average_sequence_is_narrower_for_quiet_days() -> None:
    quiet = AverageSequence(bound=0.1).extend([0.01, -0.01] * 150)
    loud = AverageSequence(bound=0.1).extend([0.1, -0.1] * 150)
    assert quiet.interval(0.05)[1] < 0.5 * loud.interval(0.05)[1]


def test_the_asymptotic_sequence_is_that_of_ville() -> None:
    days = np.random.default_rng(3).standard_t(4, 400) * 3 + 0.1
    theirs = ville.AsymptoticCS(alpha=0.05, t_opt=250, min_samples=50).fit(days)
    rho = 1 / math.sqrt(theirs.rho_)
    state = AsymptoticSequence(rho)
    for day, low, high in zip(days, theirs.lower_, theirs.upper_, strict=True):
        state = state.update(day)
        mine = state.interval(0.05)
        assert mine == pytest.approx((low, high), abs=1e-8)
    assert precision_for(250, 0.05) == pytest.approx(rho, rel=0.02)
    assert state.label == "asymptotic"


def test_heavy_tails_are_covered_about_as_promised() -> None:
    days = np.random.default_rng(4).standard_t(4, (1000, 500))
    n = np.arange(1, 501)
    mean = np.cumsum(days, axis=1) / n
    deviation = np.sqrt((np.cumsum(days**2, axis=1) / n - mean**2) * n / np.maximum(n - 1, 1))
    half = asymptotic_radius(n, 0.05, precision_for(250, 0.05))
    assert (np.abs(mean) > half * deviation)[:, 49:].any(axis=1).mean() <= 0.05
    assert (np.abs(mean) > 1.96 * deviation / np.sqrt(n))[:, 49:].any(axis=1).mean() > 0.2


def test_nothing_is_concluded_from_few_days() -> None:
    state = AsymptoticSequence(precision_for(100, 0.05)).extend(np.full(49, 5.0) + np.arange(49) * 1e-3)
    assert state.interval(0.05) == (-math.inf, math.inf)
    low, high = state.update(5.0).interval(0.05)
    assert 4.9 < low < high < 5.1
    with pytest.raises(ExperimentError):
        state.update(math.nan)


def test_clipping_refuses_what_is_missing() -> None:
    clip = Clipping(0.5)
    np.testing.assert_array_equal(clip([-3.0, 0.2, math.inf]), [-0.5, 0.2, 0.5])
    with pytest.raises(ExperimentError):
        clip([math.nan])
    with pytest.raises(ExperimentError):
        Clipping(0.0)
