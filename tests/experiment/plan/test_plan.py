"""The pre-registration: what it promises holds, and nothing can be promoted that it does not cover."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.looks import due_looks, watch
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.planning import make_plan
from financial_assets.experiment.plan.sections import HORIZONS, planned_looks
from financial_assets.experiment.plan.whole_rule.figures import WholeRulePower
from tests.experiment.decision.builders import CUTOFF, EPOCH, SPREAD, days, first_plan, plan, policy


def test_a_plan_reads_back_equal_to_the_last_bit() -> None:
    registered = plan(margin=0.001)
    again = ExperimentPlan.from_json(registered.to_json())
    assert again == registered
    assert again.digest == registered.digest
    assert json.loads(registered.to_json())["looks"] == [63, 126, 189, 252]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"looks": 3}', plan().to_json()[:-2]])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ExperimentError, match="no experiment plan"):
        ExperimentPlan.from_json(text)


def test_a_changed_plan_has_another_digest() -> None:
    registered = plan()
    assert replace(registered, detectable=registered.detectable / 2).digest != registered.digest


@pytest.mark.parametrize(("runs", "tolerance"), [(250, 0.08), pytest.param(1500, 0.035, marks=pytest.mark.statistics)])
def test_the_detectable_effect_is_found_with_the_plans_power(runs: int, tolerance: float) -> None:
    """Of the looks alone, as the first rule took them; a false figure fails: half the effect is found far less often.

    That of the second rule is simulated with all its conditions: see ``test_whole_rule.py``.
    """
    registered = first_plan(looks=3, horizon_sessions=90)
    rng = np.random.default_rng(3)

    def power(effect: float) -> float:
        found = 0
        for _ in range(runs):
            series = days(effect + SPREAD * rng.standard_normal(90))
            looks = due_looks(registered, Evidence(series, series, {}, 0, 0, ""))
            found += bool(looks and looks[-1].crossed)
        return found / runs

    assert power(registered.detectable) == pytest.approx(registered.test.power, abs=tolerance)
    assert power(registered.detectable / 2) < 0.5


def test_days_for_the_plausible_effect_agree_with_the_detectable_one() -> None:
    registered = plan()
    scale = (registered.detectable / registered.test.plausible_effect) ** 2
    assert registered.days_for_plausible == pytest.approx(252 * scale, abs=1.0)


@settings(max_examples=60, deadline=None)
@given(deviation=st.floats(0.001, 1.0), plausible=st.floats(0.001, 0.5))
def test_a_plan_can_promote_only_if_it_finds_what_is_plausible(deviation: float, plausible: float) -> None:
    registered = make_plan(
        policy(plausible_effect=plausible), EPOCH, EPOCH.challengers[0], DailyDeviation(deviation, "x"), CUTOFF
    )
    assert registered.can_promote is (registered.detectable <= plausible)
    assert registered.can_promote is (registered.days_for_plausible <= 252)


def test_the_plausible_effect_must_exceed_the_margin() -> None:
    with pytest.raises(ExperimentError, match=r"test\.plausible_effect of the rollout policy above test\.margin"):
        plan(margin=0.05, plausible_effect=0.02)


def test_a_margin_beyond_what_a_day_can_show_is_refused() -> None:
    rules = policy(metric="brier", margin=0.05, plausible_effect=0.06)
    with pytest.raises(ExperimentError, match=r"lower test\.margin of the rollout policy"):
        make_plan(rules, EPOCH, EPOCH.challengers[0], DailyDeviation(0.01, "x"), CUTOFF)


def test_without_a_challenger_there_is_nothing_to_plan() -> None:
    alone = WeightEpoch("e", 1, EPOCH.opened_at, (replace(EPOCH.champion, weight=100),), "x")
    for nobody in (None, EPOCH.challengers[0], EPOCH.shadows[0]):
        with pytest.raises(ExperimentError, match="is not a challenger of weight epoch 1"):
            make_plan(policy(), alone, nobody, DailyDeviation(0.1, "x"), CUTOFF)


@given(horizon=st.integers(1, 5000), looks=st.integers(1, 12))
def test_looks_rise_to_the_horizon(horizon: int, looks: int) -> None:
    if looks > horizon:
        with pytest.raises(ExperimentError):
            planned_looks(horizon, looks)
        return
    found = planned_looks(horizon, looks)
    assert found[-1] == horizon
    assert len(found) == looks
    assert all(a < b for a, b in itertools.pairwise(found))


@given(horizon=st.integers(20, 5000))
def test_looks_by_themselves_begin_when_rare_losses_can_be_seen(horizon: int) -> None:
    found = planned_looks(horizon, "auto")
    assert found[-1] == horizon
    assert found[0] >= min(42, horizon)
    assert all(9 <= b - a <= 28 for a, b in itertools.pairwise(found))


def chosen(deviation: float, **test: object) -> ExperimentPlan:
    """A plan that may choose how long it lasts, by the looks alone."""
    rules = policy(**{"plausible_effect": 0.03, "horizon_sessions": "auto", "looks": "auto", **test})
    return make_plan(rules, EPOCH, EPOCH.challengers[0], DailyDeviation(deviation, "x"), CUTOFF)


@settings(max_examples=30, deadline=None)
@given(deviation=st.floats(0.02, 0.3))
def test_the_shortest_horizon_that_finds_what_is_plausible_is_taken(deviation: float) -> None:
    made = chosen(deviation)
    horizon = made.test.horizon_sessions
    assert (horizon, len(made.looks)) == (made.looks[-1], made.test.looks)
    assert made.horizons[str(horizon)] == made.detectable
    shorter = [each for each in HORIZONS if each < horizon]
    if not made.can_promote:
        assert horizon == HORIZONS[-1]
    elif shorter:
        assert not chosen(deviation, horizon_sessions=shorter[-1]).can_promote
    named = chosen(deviation, horizon_sessions=horizon)
    assert replace(made, horizons={}) == named, "nothing else depends on the choice"
    assert ExperimentPlan.from_json(made.to_json()) == made


def test_a_horizon_is_chosen_by_the_whole_rule_where_it_is_simulated() -> None:
    asked: list[int] = []

    def simulated(registered: ExperimentPlan) -> WholeRulePower:
        asked.append(registered.looks[-1])
        found = 0.3 / math.sqrt(registered.looks[-1])
        return WholeRulePower((0.0,) * 4, (0.0,) * 4, (0.0,) * 4, {}, found, 1, 1, "said so")

    rules = policy(plausible_effect=0.025, horizon_sessions="auto", looks="auto")
    spread = DailyDeviation(SPREAD, "x")
    made = make_plan(rules, EPOCH, EPOCH.challengers[0], spread, CUTOFF, whole_rule=simulated)
    assert made.test.horizon_sessions == 147, "0.3 / sqrt(147) is below 0.025, and 0.3 / sqrt(126) is not"
    assert asked == [252, 147, 126]
    assert set(made.horizons) == {"126", "147", "252"}


def test_days_whose_simulation_promotes_equals_too_often_are_uneven() -> None:
    def simulated(registered: ExperimentPlan) -> WholeRulePower:
        equal = 0.0 if registered.uneven else 0.12
        return WholeRulePower((0.0,) * 4, (equal, 0.0, 0.0, 0.0), (0.0,) * 4, {}, 0.01, 1, 1, "said so")

    spread = DailyDeviation(SPREAD, "x")
    made = make_plan(policy(), EPOCH, EPOCH.challengers[0], spread, CUTOFF, whole_rule=simulated)
    assert made.uneven
    assert made.whole_rule is not None
    assert made.whole_rule.promoted[0] == 0.0
    assert made.alpha_always == pytest.approx(0.05), "no look is to be trusted"


def test_the_assumed_spread_knows_that_tickers_move_together() -> None:
    one, ten = DailyDeviation.assumed(1), DailyDeviation.assumed(10)
    assert one.deviation == pytest.approx(math.sqrt(0.5))
    assert math.sqrt(0.5 / 10) < ten.deviation < one.deviation
    assert "assumed" in ten.basis


@pytest.mark.parametrize("metric", ["log_loss", "pinball"])
def test_losses_without_bound_are_clipped_by_the_plan_and_never_assumed(metric: PairedMetric) -> None:
    rules = policy(metric=metric, plausible_effect=0.5)
    wild, calm = (
        make_plan(rules, EPOCH, EPOCH.challengers[0], DailyDeviation(deviation, "x"), CUTOFF)
        for deviation in (0.3, 1e-4)
    )
    assert wild.bound == pytest.approx(2.4), "differences in log loss may exceed 1"
    assert calm.bound == pytest.approx(8e-4)
    with pytest.raises(ExperimentError, match=r"set test\.metric of the rollout policy to accuracy or brier"):
        DailyDeviation.assumed(10, metric)
    lost = days(np.full(60, -calm.bound / 2))
    watched = watch(calm, Evidence(lost, lost, {}, 0, 0, ""))
    assert watched.high < 0 < watched.high + calm.bound


def test_too_few_days_or_days_without_difference_measure_nothing() -> None:
    assert DailyDeviation.of_days(np.zeros(100), "x") is None
    assert DailyDeviation.of_days(np.arange(19.0), "x") is None
    measured = DailyDeviation.of_days(np.arange(20.0), "the calibration block")
    assert measured is not None
    assert measured.basis == "20 days of the calibration block"


def test_a_plan_of_before_there_were_incidents_counts_each_failure_as_it_was_registered() -> None:
    now = plan()
    assert now.guardrails.incident_requests == 10
    before = replace(now, guardrails=replace(now.guardrails, incident_requests=1))
    text = before.to_json()
    assert "incident" not in text
    again = ExperimentPlan.from_json(text)
    assert again.guardrails.incident_requests == 1
    assert (again.digest, again.to_json()) == (before.digest, text)
    assert ExperimentPlan.from_json(now.to_json()) == now
