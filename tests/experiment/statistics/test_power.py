from __future__ import annotations

import numpy as np
import pytest

from financial_assets.experiment.statistics.power import (
    days_needed,
    minimum_detectable_effect,
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
