"""The simulated rule is the rule: the same endings as ``decide`` day by day, and figures that others agree with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.decision.words import power_in_words
from financial_assets.experiment.paired_score import PairedDays
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.planning import make_plan
from financial_assets.experiment.plan.whole_rule.power import simulate_power
from financial_assets.experiment.plan.whole_rule.verdicts import WholeRule, critical_t
from financial_assets.experiment.plan.whole_rule.worlds import Worlds, draw_worlds
from financial_assets.experiment.statistics.group_sequential import z_of_t
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


@pytest.mark.parametrize("freedom", [1.0, 2.0, 41.0, 251.0])
@pytest.mark.parametrize("limit", [0.0, 1.645, -1.645, 4.5, -8.0, 38.0, 99.0, -99.0])
def test_t_beyond_its_critical_values_has_a_deviate_beyond_the_limit(limit: float, freedom: float) -> None:
    below, above = (float(value) for value in critical_t(limit, np.array(freedom)))
    t = np.concatenate([np.linspace(-60, 60, 4001), np.geomspace(1e-9, 1e9, 500), -np.geomspace(1e-9, 1e9, 500)])
    near = [side * (1 + part) for side in (below, above) for part in np.linspace(-1e-5, 1e-5, 201) if np.isfinite(side)]
    t = np.concatenate([t, near])
    z = np.clip(z_of_t(t, freedom), -38.0, 38.0)
    assert (z[t <= below] < limit).all()
    assert (z[t >= above] > limit).all()
    if abs(limit) < 5 and freedom > 1:
        assert 0 < above - below < 1e-5 * (1 + abs(below)), "few deviates are left to be computed"


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
    last = power_in_words(whole)[-1]
    assert last.startswith("Promotions that each condition prevents in 100 tests of a challenger that is better by ")


def measured(sample: np.ndarray, **series: np.ndarray) -> ExperimentPlan:
    """A plan of 50 sessions whose spread was measured on these days, and some series beside them."""
    spread = DailyDeviation.of_days(sample, "the calibration block")
    assert spread is not None
    beside = tuple((name.replace("_", " "), tuple(map(float, values))) for name, values in series.items())
    rules = policy(horizon_sessions=50, plausible_effect=0.5)
    return make_plan(rules, EPOCH, EPOCH.challengers[0], replace(spread, beside=beside), CUTOFF)


def test_days_that_were_measured_are_drawn_in_blocks() -> None:
    made = measured(np.sin(np.arange(80.0)) + 0.3)
    worlds = draw_worlds(made, 300, seed=1)
    assert worlds.main.shape == (300, 50)
    assert float(worlds.main.mean()) == pytest.approx(0.0, abs=0.02), "their own mean is no evidence"
    assert np.corrcoef(worlds.main[:, 1], worlds.main[:, 0])[0, 1] > 0.3
    assert "the calibration block in blocks of 21" in worlds.basis
    assert "majority, logistic, profit, tail go with them is assumed" in worlds.basis
    assert "too few" in draw_worlds(plan(), 2, seed=1).basis
    again = draw_worlds(made, 300, seed=1)
    assert np.array_equal(again.main, worlds.main)
    assert all(np.array_equal(again.guards[name], days) for name, days in worlds.guards.items())


def test_a_short_block_leaves_the_spread_open_and_a_long_one_does_not() -> None:
    rng = np.random.default_rng(4)
    apart = list[float]()
    for count in (60, 4000):
        made = measured(rng.standard_normal(count))
        variances = draw_worlds(made, 600, seed=1).main.var(axis=1) / made.spread.deviation**2
        assert float(np.median(variances)) == pytest.approx(1.0, abs=0.15)
        apart.append(float(np.log(variances).std()))
    # Fifty independent normal days alone have a deviation of 0.2.
    assert apart[1] == pytest.approx(0.2, abs=0.03)
    assert apart[0] > 1.25 * apart[1]


def test_volatility_goes_on_in_spells_where_the_block_had_them() -> None:
    rng = np.random.default_rng(5)
    spells = np.repeat(np.tile([0.4, 1.6], 10), 40) * rng.standard_normal(800)
    calm = rng.standard_normal(800)

    def persistence(sample: np.ndarray) -> float:
        sizes = np.abs(draw_worlds(measured(sample), 400, seed=1).main)
        return float(np.corrcoef(sizes[:, :-5].ravel(), sizes[:, 5:].ravel())[0, 1])

    assert persistence(spells) > 0.15
    assert persistence(rng.permutation(calm)) < 0.05
    few = [draw_worlds(measured(sample), 600, seed=1).main.var(axis=1) for sample in (spells, calm)]
    assert np.log(few[0]).std() > 1.5 * np.log(few[1]).std(), "tests of a year fall into calm and wild ones"


def test_what_was_measured_beside_keeps_its_size_and_its_part_in_the_days() -> None:
    rng = np.random.default_rng(6)
    main, own = rng.standard_normal((2, 400))
    made = measured(main, against_majority=3 * (0.8 * main + 0.6 * own), guard_profit=-0.01 * main)
    worlds = draw_worlds(made, 400, seed=1)
    assert np.corrcoef(worlds.against["majority"].ravel(), worlds.main.ravel())[0, 1] == pytest.approx(0.8, abs=0.05)
    assert float(worlds.against["majority"].std() / worlds.main.std()) == pytest.approx(3.0, rel=0.1)
    assert np.corrcoef(worlds.guards["profit"].ravel(), worlds.main.ravel())[0, 1] < -0.95
    assert "logistic, tail go with them is assumed" in worlds.basis
    wild = replace(made, spread=replace(made.spread, deviation=2 * made.spread.deviation))
    doubled = draw_worlds(wild, 400, seed=1)
    assert np.allclose(doubled.against["majority"], 2 * worlds.against["majority"]), "they were as calm as the block"


def test_an_opposite_baseline_costs_more_than_one_that_moves_with_the_champion() -> None:
    main = np.random.default_rng(7).standard_normal(300)
    power = [
        simulate_power(measured(main, against_majority=side * 3 * main, against_logistic=main), worlds=500)
        for side in (1, -1)
    ]
    assert power[1].prices["baselines"] > power[0].prices["baselines"]
    assert power[1].detectable > power[0].detectable


def test_days_themselves_are_no_part_of_a_record() -> None:
    made = measured(np.sin(np.arange(80.0)), against_majority=np.cos(np.arange(80.0)))
    assert "beside" not in made.to_json()
    assert ExperimentPlan.from_json(made.to_json()) == made


def test_a_rule_that_its_baselines_stop_does_not_find_what_the_looks_alone_find() -> None:
    """Two models that are nearly alike: each is far from the baselines, whose days vary a thousand times as much."""
    rng = np.random.default_rng(2)
    main, far = 1e-4 * rng.standard_normal(120), 0.5 * rng.standard_normal(120)
    made = measured(main, against_majority=far, against_logistic=far)
    hopeful = replace(made, test=replace(made.test, plausible_effect=0.03), noninferiority_margin=0.015)
    power = simulate_power(hopeful, worlds=500)
    assert power.promoted[2] < 0.8
    assert power.detectable > hopeful.test.plausible_effect
