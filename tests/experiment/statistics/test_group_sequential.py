from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics import group_sequential
from financial_assets.experiment.statistics.group_sequential import (
    GroupSequentialDesign,
    daily_z,
    exit_probabilities,
    spent,
    z_of_t,
)


def equal(looks: int) -> list[float]:
    return [(k + 1) / looks for k in range(looks)]


@pytest.mark.parametrize(
    ("fractions", "alpha", "published"),
    [
        # ld98 of Reboussin, DeMets, Kim and Lan, as R's ldbounds prints it
        ((0.2, 0.4, 0.6, 0.8, 1.0), 0.05, (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),
        # documentation of SeqBounds.jl, whose grid is coarser: one side of .05, which the other side hardly touches
        ((0.25, 0.5, 0.75, 1.0), 0.10, (3.74955, 2.53993, 2.01604, 1.72014)),
    ],
)
def test_boundaries_are_the_published_ones(
    fractions: tuple[float, ...], alpha: float, published: tuple[float, ...]
) -> None:
    design = GroupSequentialDesign.of(fractions, alpha)
    assert design.upper == pytest.approx(published, abs=2e-4)
    exits = design.exits(0.0)
    assert np.cumsum(exits.upper) == pytest.approx(design.spent, abs=1e-9)
    assert math.fsum(exits.upper) + math.fsum(exits.lower) == pytest.approx(alpha, abs=1e-9)


@pytest.mark.parametrize(
    ("looks", "pocock", "obrien_fleming", "pocock_inflation", "obrien_fleming_inflation"),
    [(2, 2.178, 1.977, 1.110, 1.008), (5, 2.413, 2.040, 1.229, 1.028), (10, 2.555, 2.087, 1.301, 1.040)],
)
def test_classical_constants_and_inflation_factors_of_jennison_and_turnbull(
    looks: int, pocock: float, obrien_fleming: float, pocock_inflation: float, obrien_fleming_inflation: float
) -> None:
    """Tables 2.1 to 2.4: two-sided alpha .05, power .8."""
    times = equal(looks)
    for upper, inflation in (
        ([pocock] * looks, pocock_inflation),
        ([obrien_fleming / math.sqrt(t) for t in times], obrien_fleming_inflation),
    ):
        lower = [-z for z in upper]
        assert 2 * math.fsum(exit_probabilities(times, upper, lower).upper) == pytest.approx(0.05, abs=2e-4)
        drift = math.sqrt(inflation) * float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
        assert math.fsum(exit_probabilities(times, upper, lower, drift).upper) == pytest.approx(0.8, abs=1e-3)


def test_exit_probabilities_are_those_of_the_multivariate_normal() -> None:
    times, upper, drift = [0.15, 0.5, 1.0], [2.9, 2.4, 2.1], 1.7
    covariance = [[math.sqrt(min(s, t) / max(s, t)) for s in times] for t in times]
    mean = [drift * math.sqrt(t) for t in times]
    law = stats.multivariate_normal(mean, covariance, abseps=1e-10, releps=1e-10, maxpts=2_000_000)  # type: ignore[call-arg]
    stays = float(law.cdf(upper, lower_limit=[-z for z in upper]))
    exits = exit_probabilities(times, upper, [-z for z in upper], drift)
    assert 1 - math.fsum(exits.upper) - math.fsum(exits.lower) == pytest.approx(stays, abs=1e-7)
    assert exits.upper[0] == pytest.approx(float(stats.norm.sf(2.9 - mean[0])), abs=1e-14)


def test_planned_looks_keep_the_error_rate_and_unplanned_ones_do_not() -> None:
    rng = np.random.default_rng(1)
    looks = np.array([30, 45, 80, 100, 150, 160, 252])  # unequal
    design = GroupSequentialDesign.of([float(n) / 252 for n in looks], 0.05)
    days = rng.choice((-1.0, 0.0, 1.0), p=(0.15, 0.7, 0.15), size=(8000, 252))
    mean, square = (np.cumsum(x, axis=1)[:, looks - 1] / looks for x in (days, days**2))
    z = z_of_t(mean / np.sqrt((square - mean**2) / (looks - 1)), looks - 1)
    assert (np.abs(z) >= design.upper).any(axis=1).mean() == pytest.approx(0.05, abs=0.008)
    assert (np.abs(z) >= 1.96).any(axis=1).mean() > 0.12


def test_a_boundary_depends_on_information_up_to_its_own_look_only() -> None:
    planned = GroupSequentialDesign.of(equal(4), 0.04)
    moved = GroupSequentialDesign.of([0.25, 0.5, 0.6, 0.9, 1.0], 0.04)
    assert moved.upper[:2] == planned.upper[:2]
    assert moved.exits(0.0).upper != planned.exits(0.0).upper
    assert math.fsum(moved.exits(0.0).upper) == pytest.approx(0.02, abs=1e-9)


def test_power_and_inflation() -> None:
    design = GroupSequentialDesign.of(equal(12), 0.05)
    drift = design.drift_for(0.8)
    assert design.power(drift) == pytest.approx(0.8, abs=1e-9)
    one_look = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    assert 1.02 < (drift / one_look) ** 2 < 1.05, "horizon over that of one look at its end"
    assert GroupSequentialDesign.of([1.0], 0.05).drift_for(0.8) == pytest.approx(one_look, abs=1e-6)


def test_many_looks_and_a_first_look_with_nothing_to_spend() -> None:
    daily = GroupSequentialDesign.of(equal(120), 0.04)
    assert daily.upper[0] == math.inf
    assert math.fsum(daily.exits(0.0).upper) == pytest.approx(0.02, abs=1e-9)
    assert spent(0.0, 0.05) == 0.0
    assert spent(1.0, 0.05) == pytest.approx(0.05)


@pytest.mark.parametrize("looks", [4, 120])
def test_a_finer_quadrature_changes_nothing(looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    design = GroupSequentialDesign.of(equal(looks), 0.05)
    exits = design.exits(2.0)
    monkeypatch.setattr(group_sequential, "_NODES_PER_DEVIATION", 9.0)
    fine = GroupSequentialDesign.of(equal(looks), 0.05)
    np.testing.assert_allclose(fine.upper, design.upper, rtol=1e-7)
    np.testing.assert_allclose(fine.exits(2.0).upper, exits.upper, atol=1e-9)


def test_daily_z_has_the_p_value_of_students_t() -> None:
    days = np.random.default_rng(3).normal(0.3, 1.0, 12)
    expected = stats.ttest_1samp(days, 0.1, alternative="greater").pvalue
    assert float(stats.norm.sf(daily_z(days, 0.1))) == pytest.approx(expected, rel=1e-9)
    assert daily_z(-days, -0.1) == pytest.approx(-daily_z(days, 0.1), rel=1e-12)
    for bad in ([0.1], [0.1, 0.1], [0.1, math.nan]):
        with pytest.raises(ExperimentError):
            daily_z(bad)


@pytest.mark.parametrize("fractions", [[], [0.0, 1.0], [0.5, 0.5], [0.5, 1.1], [1.0, 0.5]])
def test_information_must_rise_within_the_horizon(fractions: list[float]) -> None:
    with pytest.raises(ExperimentError):
        GroupSequentialDesign.of(fractions, 0.05)
