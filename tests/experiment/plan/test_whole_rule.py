"""The simulated rule is the rule: the same endings as ``decide`` day by day, and figures that others agree with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.decision.words import power_in_words
from financial_assets.experiment.paired_score import PairedDays
from financial_assets.experiment.plan.plan import DailyDeviation, ExperimentPlan, make_plan
from financial_assets.experiment.plan.whole_rule.power import simulate_power
from financial_assets.experiment.plan.whole_rule.verdicts import WholeRule
from financial_assets.experiment.plan.whole_rule.worlds import Worlds, draw_worlds
from tests.experiment.decision.builders import CUTOFF, EPOCH, QUIET, SPREAD, days, plan, policy


def series(values: np.ndarray) -> PairedDays:
    made = days(values)
    return PairedDays(made.sessions, values, made.rows, made.disagreements)


def ending(registered: ExperimentPlan, worlds: Worlds, effect: float, world: int) -> tuple[str, int]:
    """How a test ends by the rule itself, decided on each day."""
    for day in range(1, registered.looks[-1] + 1):
        main = series(worlds.main[world, :day] + effect)
        against = {name: series(rows[world, :day] + effect) for name, rows in worlds.against.items()}
        guards = {name: series(rows[world, :day]) for name, rows in worlds.guards.items()}
        seen = Evidence(main, main, against, 0, 0, "simulated", guards=guards)
        decision = decide(registered, EPOCH, seen, QUIET, as_of="2011-02-01", deflated_sharpe=lambda: None)
        if decision.ended:
            return decision.action, day
    return "hold", registered.looks[-1]


@pytest.mark.parametrize("effect", [-0.06, 0.0, 0.05, 0.12])
@pytest.mark.parametrize("test", [{}, {"margin": 0.01, "noninferiority": 0.2}, {"futility": 0.0, "looks": 3}])
def test_it_ends_as_the_rule_does(effect: float, test: dict[str, float]) -> None:
    made = replace(plan(**{"horizon_sessions": 40, "plausible_effect": 0.06, **test}), detectable=0.0)
    worlds = draw_worlds(made, 3, seed=3)
    found = WholeRule(made, worlds).endings(effect)
    for world in range(3):
        action, day = ending(made, worlds, effect, world)
        expected = "promote" if found.promoted[world] else "rollback" if found.rolled_back[world] else "hold"
        assert (expected, found.day[world]) == (action, day)


def test_uneven_and_dependent_days_end_as_the_rule_does() -> None:
    rng = np.random.default_rng(1)
    lossy = rng.choice([0.02, -0.3], p=[0.93, 0.07], size=100) + 0.01 * rng.standard_normal(100)
    for sample in (lossy, np.repeat(rng.standard_normal(50), 2) * 0.1):
        spread = DailyDeviation.of_days(sample, "the test")
        assert spread is not None
        rules = policy(horizon_sessions=40, plausible_effect=0.06)
        made = replace(make_plan(rules, EPOCH, EPOCH.challengers[0], spread, CUTOFF), detectable=0.0)
        assert made.uneven or made.autocorrelated
        worlds = draw_worlds(made, 3, seed=3)
        found = WholeRule(made, worlds).endings(0.08)
        for world in range(3):
            action, day = ending(made, worlds, 0.08, world)
            expected = "promote" if found.promoted[world] else "rollback" if found.rolled_back[world] else "hold"
            assert (expected, found.day[world]) == (action, day)


def test_the_figures_are_those_of_other_worlds_and_the_same_when_repeated() -> None:
    made = plan(horizon_sessions=40, plausible_effect=0.06)
    power = simulate_power(made, worlds=1500)
    assert simulate_power(made, worlds=1500) is power, "kept"
    assert power.effects == (0.0, 0.03, 0.06, 0.12)
    assert power.promoted[0] < 0.03
    assert power.promoted[0] < power.promoted[1] < power.promoted[2] < power.promoted[3]
    assert power.days[3] < power.days[1]
    assert all(price >= 0 for price in power.prices.values())
    found = WholeRule(made, draw_worlds(made, 1500, seed=99)).endings(power.detectable)
    assert float(found.promoted.mean()) == pytest.approx(made.test.power, abs=0.03)
    halved = WholeRule(made, draw_worlds(made, 1500, seed=99)).endings(power.detectable / 2)
    assert float(halved.promoted.mean()) < 0.5, "a false figure fails"


def test_a_plan_with_them_is_judged_by_them() -> None:
    told = list[str]()

    def simulated(made: ExperimentPlan) -> object:
        return simulate_power(made, worlds=600, progress=told.append)

    rules = policy(horizon_sessions=60, plausible_effect=0.04)
    spread = DailyDeviation(SPREAD, "the test")
    alone = make_plan(rules, EPOCH, EPOCH.challengers[0], spread, CUTOFF)
    whole = make_plan(rules, EPOCH, EPOCH.challengers[0], spread, CUTOFF, whole_rule=simulated)  # type: ignore[arg-type]
    assert whole.whole_rule is not None
    assert whole.detectable == whole.whole_rule.detectable > alone.detectable
    assert whole.days_for_plausible > alone.days_for_plausible
    assert told == ["simulating the rule of enhanced-predictor-v2 against baseline-predictor-v1 in 600 tests"]
    assert ExperimentPlan.from_json(whole.to_json()) == whole
    first, *_ = power_in_words(whole)
    assert "is promoted in" in first
    assert ("Underpowered" in first) is not whole.can_promote


def test_days_that_were_measured_are_drawn_in_blocks() -> None:
    sample = np.sin(np.arange(80.0)) + 0.3
    spread = DailyDeviation.of_days(sample, "the calibration block")
    assert spread is not None
    made = make_plan(policy(horizon_sessions=50, plausible_effect=0.5), EPOCH, EPOCH.challengers[0], spread, CUTOFF)
    worlds = draw_worlds(made, 300, seed=1)
    assert worlds.main.shape == (300, 50)
    assert float(worlds.main.mean()) == pytest.approx(0.0, abs=0.02), "their own mean is no evidence"
    assert float(worlds.main.std()) == pytest.approx(spread.deviation, rel=0.02)
    assert np.corrcoef(worlds.main[:, 1], worlds.main[:, 0])[0, 1] > 0.3
    assert "the calibration block in blocks of 21" in worlds.basis
    assert "too few" in draw_worlds(plan(), 2, seed=1).basis
