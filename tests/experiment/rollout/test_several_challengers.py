"""Several challengers at once: one plan and one decision each, shared error probabilities, one champion at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.looks import due_looks, watch
from financial_assets.experiment.decision.record import TrafficEvidence
from financial_assets.experiment.decision.rule import decide
from financial_assets.experiment.decision.words import first_reason
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.planning import family_of, make_plan
from financial_assets.experiment.plan.policy import ArmPolicy
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.roles import next_arms, split_share
from financial_assets.experiment.rollout.routing import manifest_of
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.experiment.rollout.steps import apply_decisions
from tests.experiment.builders import CUTOFF
from tests.experiment.decision.builders import EPOCH, SPREAD, days, frames, policy
from tests.experiment.rollout.builders import (
    BASE,
    MODELS,
    PRICES,
    SECOND,
    THIRD,
    begin,
    judged,
    measured,
    model,
    predict,
    rules,
)


def test_each_has_a_plan_with_its_part_of_the_error_probabilities(log: PredictionLog) -> None:
    conduct = begin(log)
    plans = conduct.plans()
    assert [plan.challenger for plan in plans] == [SECOND, THIRD]
    assert {(plan.family, plan.alpha_planned, plan.alpha_always) for plan in plans} == {(2, 0.02, 0.005)}
    assert plans[0].confidence == "99.5%"
    alone = make_plan(policy(plausible_effect=0.3, horizon_sessions=20, looks=2), EPOCH, EPOCH.challengers[0],
                      DailyDeviation(0.3, "the test"), CUTOFF)  # fmt: skip
    assert plans[0].detectable > alone.detectable, "sharing has its price, and the plan names it"
    assert plans[0].boundaries > alone.boundaries
    assert conduct.register(lambda *_: pytest.fail("both have a plan"), CUTOFF) == plans


def test_the_better_of_two_that_win_is_promoted_and_the_tests_end(log: PredictionLog) -> None:
    conduct = begin(log, test={"horizon_sessions": 36})
    predict(log, {BASE: 0.3, SECOND: 0.9, THIRD: 0.99})
    decisions = judged(conduct)
    assert [one.action for one in decisions] == ["promote", "promote"], [one.reasons for one in decisions]
    assert decisions[1].estimate > decisions[0].estimate  # type: ignore[operator]
    epoch = apply_decisions(conduct.rollout, decisions)
    assert (epoch.champion.model, epoch.weights) == (THIRD, {THIRD: 100})
    assert {arm.model for arm in epoch.shadows} == {BASE, SECOND}
    assert apply_decisions(conduct.rollout, decisions) == epoch
    assert conduct.latest() == ()
    assert judged(conduct) == ()


def test_one_is_rolled_back_and_the_other_keeps_its_requests_and_its_plan(log: PredictionLog) -> None:
    conduct = begin(log)
    predict(log, {BASE: 0.7, SECOND: 0.02, THIRD: 0.7}, last=16)
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    decisions = judged(conduct, later[16])
    assert [one.action for one in decisions] == ["rollback", "hold"], [one.reasons for one in decisions]
    assert decisions[0].weights == {BASE: 85, THIRD: 15}
    epoch = apply_decisions(conduct.rollout, decisions)
    assert epoch.weights == {BASE: 85, THIRD: 15}
    assert [arm.model for arm in epoch.shadows] == [SECOND]
    tested = log.plan(decisions[0].experiment, BASE, SECOND)
    assert epoch.reason == f"rollback: {first_reason(decisions[0], tested)}"
    assert apply_decisions(conduct.rollout, decisions) == epoch
    (plan,) = conduct.plans()
    assert (plan.challenger, plan.family) == (THIRD, 2)
    predict(log, {BASE: 0.7, SECOND: 0.02, THIRD: 0.7}, first=16)
    (again,) = judged(conduct)
    assert again.days > decisions[1].days
    assert not [rail for rail in again.guardrails if rail.fired]
    as_of = pd.Timestamp(decisions[0].as_of)
    known = KnownPrices.of(PRICES.until(later[16]), as_of)
    repeated = conduct.repeat(decisions[0], known, frames(PRICES)[1], cost_bps=5.0)
    assert repeated.to_json() == decisions[0].to_json()


def test_a_withdrawn_challengers_requests_do_not_go_to_the_other_when_shares_adapt(log: PredictionLog) -> None:
    conduct = begin(log, test={"horizon_sessions": 60}, traffic={"mode": "hedge"})
    predict(log, {BASE: 0.7, SECOND: 0.02, THIRD: 0.7}, last=16)
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    decisions = judged(conduct, later[16])
    assert [one.action for one in decisions] == ["rollback", "hold"], [one.reasons for one in decisions]
    withdrawn = apply_decisions(conduct.rollout, decisions)
    assert withdrawn.weights == {BASE: 85, THIRD: 15}
    predict(log, {BASE: 0.7, SECOND: 0.02, THIRD: 0.7}, first=16, last=17)
    apply_decisions(conduct.rollout, judged(conduct, later[17]))
    steps = log.allocations(withdrawn.experiment, withdrawn)
    assert steps[0].before == (85, 15)
    for step in steps:
        assert abs(step.after[1] - step.before[1]) <= 10


def test_released_at_the_horizon_the_champion_serves_alone(log: PredictionLog) -> None:
    conduct = begin(log, test={"at_horizon": "release", "futility": 0.0})
    predict(log, {BASE: 0.5, SECOND: 0.5, THIRD: 0.5})
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    early, late = judged(conduct, later[19]), judged(conduct, later[20])
    assert {one.action for one in (*early, *late)} == {"hold"}
    assert apply_decisions(conduct.rollout, early).number == 1
    epoch = apply_decisions(conduct.rollout, late)
    assert epoch.weights == {BASE: 100}
    assert "is scored in pairs only" in epoch.reason


def test_the_ladder_is_climbed_together(log: PredictionLog) -> None:
    conduct = begin(log, traffic={"mode": "ladder", "steps": (4, 11), "dwell_sessions": 3})
    assert conduct.rollout.started().weights == {BASE: 96, SECOND: 2, THIRD: 2}
    predict(log, {BASE: 0.5, SECOND: 0.5, THIRD: 0.5}, last=4)
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    assert apply_decisions(conduct.rollout, judged(conduct, later[3])).weights == {BASE: 89, SECOND: 6, THIRD: 5}


def test_a_retrained_version_takes_the_place_of_its_variant(log: PredictionLog) -> None:
    rollout = begin(log).rollout
    epoch = rollout.reconcile((*MODELS, model("lightweight", 4)))
    assert epoch.weights == {BASE: 60, SECOND: 25, "lightweight-predictor-v4": 15}
    epoch = rollout.reconcile((*MODELS, model("lightweight", 4), model("baseline", 5)))
    assert epoch.weights == {BASE: 60, SECOND: 25, "baseline-predictor-v5": 15}, "in the last place: none is free"
    assert [arm.model for arm in epoch.shadows] == ["lightweight-predictor-v4"]


def test_a_free_place_is_taken_first(log: PredictionLog) -> None:
    conduct = begin(log)
    predict(log, {BASE: 0.7, SECOND: 0.02, THIRD: 0.7}, last=16)
    apply_decisions(conduct.rollout, judged(conduct, PRICES.sessions[PRICES.sessions > CUTOFF][16]))
    epoch = conduct.rollout.reconcile((*MODELS, model("baseline", 4)))
    assert [arm.model for arm in epoch.challengers] == [THIRD, "baseline-predictor-v4"]
    assert sum(epoch.weights.values()) == 100


@settings(max_examples=60, deadline=None)
@given(
    retrained=st.lists(st.sampled_from(["baseline", "enhanced", "lightweight"]), max_size=8),
    weights=st.tuples(st.integers(1, 98), st.integers(1, 98)).filter(lambda pair: sum(pair) < 100),
)
def test_whatever_is_retrained_all_weights_are_positive_and_add_up(
    retrained: Sequence[str], weights: tuple[int, int]
) -> None:
    arms = [
        replace(arm, role="challenger", weight=weight)
        for arm, weight in zip((EPOCH.arms[1], EPOCH.arms[2]), weights, strict=True)
    ]
    epoch = WeightEpoch(
        "ab-experiment", 1, EPOCH.opened_at, (replace(EPOCH.champion, weight=100 - sum(weights)), *arms), "x"
    )
    models = list(MODELS)
    for variant in retrained:
        models.append(model(variant, len(models) + 1))
        epoch = replace(epoch, arms=next_arms(rules(), epoch, models))
        assert epoch.champion.model == BASE
        assert len(epoch.challengers) == 2
        assert models[-1].model in epoch.weights
        assert sum(epoch.weights.values()) == 100
        assert min(epoch.weights.values()) > 0
        assert manifest_of(epoch)["spec"]["default"] == BASE


def test_copies_go_to_one_model_only() -> None:
    arms = [replace(arm, role="challenger", weight=0) for arm in EPOCH.arms[1:]]
    with pytest.raises(ExperimentError, match="to one model only"):
        WeightEpoch("e", 1, EPOCH.opened_at, (replace(EPOCH.champion, weight=100), *arms), "x")


@given(share=st.integers(0, 100), parts=st.integers(1, 5))
def test_a_share_is_split_into_whole_and_nearly_equal_parts(share: int, parts: int) -> None:
    found = split_share(share, parts)
    assert sum(found) == share
    assert max(found) - min(found) <= 1


def plan(family: int) -> ExperimentPlan:
    rules = policy(plausible_effect=0.04, deflated_sharpe=0.0)
    challengers = tuple(ArmPolicy(f"x{place}", 1) for place in range(family))
    several = replace(rules, champion=ArmPolicy("baseline", 100 - family), challengers=challengers)
    return make_plan(several, EPOCH, EPOCH.challengers[0], DailyDeviation(SPREAD, "the test"), CUTOFF)


@pytest.mark.parametrize("runs", [120, pytest.param(700, marks=pytest.mark.statistics)])
def test_equal_challengers_are_promoted_as_seldom_as_one_would_be(runs: int) -> None:
    """Five of them that err independently, planned looks only; without sharing, five times too often."""
    shared, alone = plan(5), plan(1)
    rng = np.random.default_rng(11)
    promoted = {5: 0, 1: 0}
    for _ in range(runs):
        series = [days(SPREAD * rng.standard_normal(252)) for _ in range(5)]
        for registered in (shared, alone):
            looks = [due_looks(registered, Evidence(one, one, {}, 0, 0, "")) for one in series]
            promoted[registered.family] += any(look.crossed for found in looks for look in found)
    assert promoted[5] / runs < 0.02 + 3 * np.sqrt(0.02 * 0.98 / runs)
    assert promoted[1] / runs > 0.06, "the control: each at the full alpha"


def test_the_always_on_interval_is_wider_for_each_of_several() -> None:
    rng = np.random.default_rng(3)
    series = days(0.05 + SPREAD * rng.standard_normal(150))
    evidence = Evidence(series, series, {"majority": series, "logistic": series}, 0, 0, "")
    shared, alone = watch(plan(5), evidence), watch(plan(1), evidence)
    assert shared.low < alone.low
    assert shared.high > alone.high
    decision = decide(
        plan(5), EPOCH, evidence, TrafficEvidence((), "quiet"), as_of="2010-09-01", deflated_sharpe=lambda: None
    )
    assert decision.always_on == shared


def test_one_that_joins_later_waits_until_error_probability_is_left(log: PredictionLog) -> None:
    """A test that began alone holds all of it: with a second beside it they would promote in 3.75 % of years."""
    alone = replace(rules(), champion=ArmPolicy("baseline", 75), challengers=(ArmPolicy("enhanced", 25),))
    first = ExperimentController(Rollout(log, alone))
    first.rollout.reconcile(MODELS)
    (plan_alone,) = first.register(measured, CUTOFF)
    assert plan_alone.family == 1
    both = ExperimentController(Rollout(log, rules()))
    both.rollout.reconcile((*MODELS, model("lightweight", 4)))
    joined = both.rollout.started().challengers
    assert [arm.variant for arm in joined] == ["enhanced", "lightweight"]
    assert both.register(lambda *_: pytest.fail("no plan may be made"), CUTOFF) == (plan_alone,)
    assert both.plans() == (plan_alone,)
    assert both.waiting() == joined[1:]
    arms = {BASE: 0.5, SECOND: 0.2, "lightweight-predictor-v4": 0.5, THIRD: 0.5}
    predict(log, arms, last=20)
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    (ended,) = judged(both, later[20])
    assert ended.ended
    plans = both.register(measured, later[20])
    assert [plan.family for plan in plans] == [1, 2], "what the ended test gave back, by the policy of two"
    assert plans[1].starts_after == f"{later[19]:%Y-%m-%d}"
    assert both.waiting() == ()


@pytest.mark.parametrize(("taken", "family"), [(0.0, 2), (0.5, 2), (2 / 3, 3), (0.75, 4), (0.6, 3)])
def test_what_is_left_is_never_exceeded(taken: float, family: int) -> None:
    found = family_of(rules(), replace(EPOCH, arms=EPOCH.arms), round(taken, 9))
    assert found == family
    assert taken + 1 / found <= 1 + 1e-6


def test_nothing_is_left() -> None:
    with pytest.raises(ExperimentError, match="a new one starts when one of them ends"):
        family_of(rules(), EPOCH, 1.0)
