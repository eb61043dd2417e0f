from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.power import (
    autocorrelation_effect,
    days_needed,
    minimum_detectable_effect,
    planned_days,
)


def test_the_detectable_effect_is_found_with_the_promised_power() -> None:
    """Simulation: with a true mean of the MDE, the two-sided 5 % test rejects in 80 % of cases; without, in 5 %."""
    rng = np.random.default_rng(3)
    effect = minimum_detectable_effect(rng.standard_normal(100_000) * 0.3, level=0.95, power=0.8)
    assert effect is not None
    effect *= np.sqrt(100_000 / 250)  # the same spread on 250 days
    days = rng.standard_normal((6000, 250)) * 0.3
    z = days.mean(axis=1) / (days.std(axis=1, ddof=1) / np.sqrt(250))
    shifted = (days.mean(axis=1) + effect) / (days.std(axis=1, ddof=1) / np.sqrt(250))
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.05, abs=0.012)
    assert np.mean(np.abs(shifted) > 1.96) == pytest.approx(0.80, abs=0.02)


def test_the_days_needed_are_those_at_which_the_effect_is_the_smallest_detectable() -> None:
    daily = np.random.default_rng(1).standard_normal(400) * 0.25
    needed = days_needed(daily, 0.02)
    assert needed is not None
    spread = float(daily.std(ddof=1))
    assert 2.8016 * spread / np.sqrt(needed) <= 0.02 < 2.8015 * spread / np.sqrt(needed - 1)
    assert days_needed(daily, 0.04) == pytest.approx(needed / 4, abs=1)


def test_ten_stocks_and_a_year_detect_what_the_usual_formula_says() -> None:
    """q = .3 disagreement, 10 stocks a day with design effect 1.57: 2.80 sqrt(.3 * 1.57 / 2520) = 3.8 pp."""
    daily = np.tile([1.0, -1.0], 126) * np.sqrt(0.3 * 1.57 / 10)
    assert minimum_detectable_effect(daily) == pytest.approx(0.038, abs=0.0005)


@pytest.mark.parametrize("daily", [np.zeros(50), np.array([0.1]), np.array([])])
def test_days_that_do_not_vary_say_nothing(daily: np.ndarray) -> None:
    assert minimum_detectable_effect(daily) is None
    assert days_needed(daily, 0.02) is None


def test_the_plan_says_what_the_days_say_afterwards() -> None:
    """Ten tickers that move together (rho .2), AR(1) days: the planned deviation is that of simulated days' mean."""
    rng = np.random.default_rng(5)
    tickers, correlation, phi, days, runs = 10, 0.2, 0.3, 200, 400
    common = rng.standard_normal((runs, days, 1)) * np.sqrt(correlation)
    rows = common + rng.standard_normal((runs, days, tickers)) * np.sqrt(1 - correlation)
    daily = rows.mean(axis=2)
    for day in range(1, days):
        daily[:, day] = phi * daily[:, day - 1] + np.sqrt(1 - phi**2) * daily[:, day]
    true_factor = (1 + phi) / (1 - phi)
    estimated = float(np.mean([autocorrelation_effect(run, 10) for run in daily]))
    assert 1.4 < estimated < true_factor  # Bartlett's weights and the estimated mean shrink it
    variance = (1 + (tickers - 1) * correlation) / tickers * true_factor  # the design effect (Kish 1965), of both kinds
    assert np.std(daily.mean(axis=1)) * np.sqrt(days) == pytest.approx(np.sqrt(variance), rel=0.1)
    naive = np.sqrt(1 / tickers)
    assert np.std(daily.mean(axis=1)) * np.sqrt(days) > 1.5 * naive  # pooled rows promise too much


def test_the_planned_horizon_agrees_with_statsmodels() -> None:
    deviation = np.sqrt(0.3 * 1.57 / 10)
    for sides, alternative in ((1, "larger"), (2, "two-sided")):
        days = planned_days(deviation, 0.04, alpha=0.04, power=0.9, sides=sides)
        solved = NormalIndPower(ddof=0).solve_power(
            0.04 / deviation, nobs1=None, alpha=0.04, power=0.9, ratio=0, alternative=alternative
        )
        assert days - 1 < solved <= days
    assert planned_days(deviation, 0.03, alpha=0.05, inflation=1.2) == pytest.approx(
        1.2 * planned_days(deviation, 0.03, alpha=0.05), abs=1.5
    )


@pytest.mark.parametrize(
    "impossible",
    [
        lambda: planned_days(0.0, 0.01, alpha=0.05),
        lambda: planned_days(0.1, 0.01, alpha=0.05, sides=3),
        lambda: planned_days(0.1, 0.01, alpha=0.9),
        lambda: planned_days(0.1, -0.01, alpha=0.05),
        lambda: autocorrelation_effect(np.zeros(50), 2),
        lambda: autocorrelation_effect(np.arange(3.0), 5),
    ],
)
def test_impossible_plans_are_refused(impossible: Callable[[], float]) -> None:
    with pytest.raises(ExperimentError):
        impossible()
