"""Several questions of one challenger, over a real log: a plan and an answer each, one of them moves traffic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment.arms import Arm
from financial_assets.experiment.decision.evidence import Judgement, leading_decision
from financial_assets.experiment.decision.history import EvidenceHistory
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.words import metric_and_why, reasons_in_words
from financial_assets.experiment.metrics.choice import MeasuredDays
from financial_assets.experiment.metrics.registry import METRICS
from financial_assets.experiment.outcomes import KnownPrices, outcome_frame
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.policy import ArmPolicy, QuestionPolicy, RolloutPolicy
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.experiment.report.questions import question_lines
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.registration import Registration
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.experiment.rollout.steps import apply_decisions
from financial_assets.market import calendar
from financial_assets.monitoring.questions import questions
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, SHADOW, panel
from tests.experiment.decision.builders import policy
from tests.experiment.decision.worlds import QUANTILES, Baselines
from tests.experiment.rollout.builders import MODELS

PRICES = panel(sessions=240, tickers=4, start="2009-04-01")
"""Longer before the cut-off than a volatility looks back."""
AFTER = PRICES.sessions[PRICES.sessions > CUTOFF]
UP = outcome_frame(PRICES).set_index(["session", "ticker"])["up"]
RIVALS = Baselines(dict.fromkeys(AFTER, 0), PRICES.tickers, ("majority", "logistic", "filtered", "ewma", "har"))
RISK = QuestionPolicy("risk", "qlike", 0.4)


def rules(*questions: QuestionPolicy, **test: object) -> RolloutPolicy:
    quick = {"plausible_effect": 0.3, "horizon_sessions": 36, "looks": 2, "futility": 0.0, **test}
    return replace(policy(**quick), shadow=(), questions=questions)


def measured(_arm: Arm, _asked: QuestionPolicy) -> MeasuredDays:
    return MeasuredDays({name: DailyDeviation(0.3, "the test") for name in METRICS}, len(PRICES.tickers))


def begin(log: PredictionLog, agreed: RolloutPolicy, folder: Path | None = None) -> ExperimentController:
    history = None if folder is None else EvidenceHistory(folder)
    conduct = ExperimentController(Rollout(log, agreed), history)
    conduct.rollout.reconcile(MODELS)
    conduct.register(measured, CUTOFF)
    return conduct


def predict(log: PredictionLog, widths: dict[str, float], sessions: Iterable[pd.Timestamp] = AFTER[:-6]) -> None:
    """Every arm names the direction by a coin of its own; its quantiles are as wide as it says."""
    epoch = log.current_epoch("ab-experiment")
    assert epoch is not None
    for session in sessions:
        rng = np.random.default_rng(int(session.value % 2**32))
        intents = log.begin_direct(epoch.arms, session, calendar.next_session(session), PRICES.tickers)
        log.complete_direct(
            [
                Result(
                    one.id,
                    Forecast(rng.choice([0.4, 0.6]), tuple(widths.get(one.model, 1.0) * QUANTILES)),
                    latency_s=0.002,
                )
                for one in intents
            ]
        )


def judge(conduct: ExperimentController, session: pd.Timestamp = AFTER[-6]) -> tuple[Judgement, ...]:
    known = KnownPrices.of(PRICES.until(session), session)
    rivals = RIVALS.frame() if conduct.history is None else RIVALS
    return conduct.decide(known, lambda _: rivals, cost_bps=5.0)


def decisions(conduct: ExperimentController, session: pd.Timestamp = AFTER[-6]) -> tuple[Decision, ...]:
    return tuple(judgement.decision for judgement in judge(conduct, session))


def test_each_question_has_a_plan_and_all_together_keep_the_error_probabilities(log: PredictionLog) -> None:
    conduct = begin(log, rules(RISK))
    direction, risk = conduct.plans()
    assert (direction.question, direction.traffic_question, direction.moves_traffic) == ("direction", None, True)
    assert (risk.question, risk.traffic_question, risk.moves_traffic) == ("risk", "direction", False)
    assert risk.test.plausible_effect == 0.4
    assert risk.must_beat == METRICS["qlike"].baselines
    assert sum(plan.alpha_planned for plan in (direction, risk)) == pytest.approx(0.04)
    assert sum(plan.alpha_always for plan in (direction, risk)) == pytest.approx(0.01)
    assert conduct.register(lambda *_: pytest.fail("both are registered"), CUTOFF) == (direction, risk)
    assert log.plan("ab-experiment", CHAMPION, CHALLENGER) == direction
    assert ExperimentPlan.from_json(direction.to_json()) == direction
    assert ExperimentPlan.from_json(risk.to_json()) == risk
    assert not {"why", "ratios", "traffic_question"} & direction.to_dict().keys(), (
        "as plans before there were questions"
    )


def test_challengers_times_questions_share_them(log: PredictionLog) -> None:
    two = replace(
        rules(RISK), champion=ArmPolicy("baseline", 60),
        challengers=(ArmPolicy("enhanced", 25), ArmPolicy("lightweight", 15)),
    )  # fmt: skip
    plans = begin(log, two).plans()
    assert [(plan.challenger, plan.question) for plan in plans] == [
        (CHALLENGER, "direction"), (CHALLENGER, "risk"), (SHADOW, "direction"), (SHADOW, "risk"),
    ]  # fmt: skip
    assert {plan.family for plan in plans} == {4}


def test_what_wins_on_risk_is_held_on_direction_and_moves_no_request(log: PredictionLog) -> None:
    conduct = begin(log, rules(RISK))
    predict(log, {CHAMPION: 3.0})
    before = conduct.rollout.started()
    judgements = judge(conduct)
    direction, risk = (judgement.decision for judgement in judgements)
    assert [one.action for one in (direction, risk)] == ["hold", "promote"], (direction.reasons, risk.reasons)
    assert (direction.question, risk.question) == (None, "risk")
    assert risk.ended
    assert not direction.ended
    assert [rail.name for rail in risk.guardrails] == ["missing"], "harm by requests is acted on once"
    assert risk.weights == before.weights
    said = " ".join(reasons_in_words(risk, judgements[1].plan))
    assert said.startswith(f"{CHALLENGER} is better on risk than {CHAMPION}")
    assert f"{CHAMPION} goes on serving, because traffic follows the question of direction" in said
    assert "set test.question: risk in the rollout policy" in said
    assert leading_decision([risk, direction]) is direction
    assert leading_decision([risk]) is None
    assert apply_decisions(conduct.rollout, [direction, risk]) == before
    assert apply_decisions(conduct.rollout, [risk]) == before
    assert conduct.latest() == (direction, risk)


def test_an_answer_to_a_further_question_stands_and_gives_its_part_back(log: PredictionLog) -> None:
    conduct = begin(log, rules(RISK))
    predict(log, {CHAMPION: 3.0})
    first = decisions(conduct, AFTER[-9])
    assert first[1].action == "promote", first[1].reasons
    later = decisions(conduct)
    assert later[1] == first[1]
    assert later[0].as_of > first[0].as_of
    assert log.decisions("ab-experiment") == (*first, later[0])
    assert Registration(conduct.rollout).taken() == 0.5
    conduct.rollout.take_step(50, "by hand")
    assert conduct.latest() == (first[1],), "the other is asked again in the new epoch"
    assert decisions(conduct)[1] == first[1]
    assert decisions(conduct, AFTER[-10])[1].as_of < first[1].as_of, "what is asked of an earlier day is of that day"


def test_both_answers_are_computed_again_bit_for_bit(log: PredictionLog, tmp_path: Path) -> None:
    conduct = begin(log, rules(RISK), tmp_path)
    predict(log, {CHAMPION: 3.0})
    for session in (AFTER[6], AFTER[7], AFTER[-6]):
        made = decisions(conduct, session)
        known = KnownPrices.of(PRICES.until(session), session)
        for decision in made:
            again = conduct.repeat(decision, known, RIVALS.frame(), cost_bps=5.0)
            assert again.to_json() == decision.to_json()
            assert Decision.from_json(decision.to_json()) == decision
    assert made[1].action == "promote"


def test_questions_of_a_pair_share_their_reads(
    log: PredictionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conduct = begin(log, rules(RISK), tmp_path)
    predict(log, {}, AFTER[:9])
    reads, read = list[object](), PredictionLog.direct

    def counted(self: PredictionLog, *given: object, **how: object) -> pd.DataFrame:
        reads.append(given)
        return read(self, *given, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(PredictionLog, "direct", counted)
    for place in (8, 9):  # of all sessions, then of the new one
        assert len(judge(conduct, AFTER[place])) == 2
        assert len(reads) == 1
        reads.clear()


def test_what_does_harm_on_risk_keeps_its_requests(log: PredictionLog) -> None:
    conduct = begin(log, rules(RISK))
    predict(log, {CHALLENGER: 3.0})
    judgements = judge(conduct)
    risk = judgements[1].decision
    assert (risk.action, risk.ended, risk.weights) == ("rollback", True, conduct.rollout.started().weights)
    assert reasons_in_words(risk, judgements[1].plan)[-1] == (
        f"No request is taken from {CHALLENGER} for it: traffic follows the question of direction."
    )
    assert apply_decisions(conduct.rollout, [one.decision for one in judgements]).weights[CHALLENGER] == 30


def test_the_metric_is_chosen_by_rule_and_the_plan_says_why(log: PredictionLog) -> None:
    sharp = {"brier": 0.0001, "qlike_5d": 0.01}

    def known(_arm: Arm, _asked: QuestionPolicy) -> MeasuredDays:
        return MeasuredDays({name: DailyDeviation(sharp.get(name, 0.3), "the test") for name in METRICS}, 4)

    agreed = rules(QuestionPolicy("risk"), metric="auto", plausible_effect=None)
    conduct = ExperimentController(Rollout(log, agreed))
    conduct.rollout.reconcile(MODELS)
    direction, risk = conduct.register(known, CUTOFF)
    assert (direction.test.metric, risk.test.metric) == ("brier", "qlike_5d")
    assert (direction.test.plausible_effect, risk.test.plausible_effect) == (0.0004, 0.086)
    assert direction.ratios["brier"] == min(direction.ratios.values())
    assert direction.ratios["brier"] == pytest.approx(direction.detectable / direction.test.plausible_effect)
    assert metric_and_why(direction).startswith(
        "Brier score, chosen by rule: by the planned looks alone, 36 sessions can detect a difference in Brier score "
    )
    assert risk.lags == 4
    assert ExperimentPlan.from_json(risk.to_json()) == risk


def test_a_question_whose_baseline_forecasts_nothing_is_not_asked(log: PredictionLog) -> None:
    """Otherwise its plan would want predictions that nobody can make, and every evaluation would fail."""

    def known(_arm: Arm, _asked: QuestionPolicy) -> MeasuredDays:
        measured = {name: DailyDeviation(0.3, "the test") for name in METRICS}
        return MeasuredDays(measured, 4, silent={"har": "no ticker has 384 returns"})

    conduct = ExperimentController(Rollout(log, rules(QuestionPolicy("risk"), metric="auto", plausible_effect=None)))
    conduct.rollout.reconcile(MODELS)
    (direction,) = conduct.register(known, CUTOFF)
    assert direction.family == 1
    (unasked,) = conduct.unasked()
    assert unasked.sentence.endswith(
        "because it asks for models that beat the baseline har, but no ticker has 384 returns"
    )
    assert not unasked.waits
    later = conduct.register(
        lambda *_: MeasuredDays({name: DailyDeviation(0.3, "the test") for name in METRICS}, 4), CUTOFF
    )
    assert later == (direction,), "the one test holds all of the error probability by now"


def test_without_a_measurement_direction_is_assumed_and_risk_is_not_asked(log: PredictionLog) -> None:
    conduct = ExperimentController(Rollout(log, rules(QuestionPolicy("risk"), metric="auto", plausible_effect=None)))
    conduct.rollout.reconcile(MODELS)
    (direction,) = conduct.register(lambda *_: MeasuredDays({}, 4, "nothing was kept of its training"), CUTOFF)
    assert (direction.test.metric, direction.family) == ("accuracy", 1), "nobody else takes part of the alpha"
    assert direction.why.endswith("These days are assumed, because nothing was kept of its training")
    (unasked,) = conduct.unasked()
    assert (unasked.question, unasked.waits) == ("risk", False)
    assert "because nothing was kept of its training" in unasked.sentence
    for _ in range(2):  # it is asked again at each run, and noted once
        assert conduct.register(lambda *_: MeasuredDays({}, 4, "another reason"), CUTOFF) == (direction,)
    predict(log, {}, AFTER[:3])
    judged = [(one.decision, one.plan) for one in judge(conduct, AFTER[3])]
    lines = question_lines(judged, conduct.unasked())
    assert [line.sentence for line in lines] == [
        f"Direction, {CHALLENGER}: No answer yet: 3 of 36 planned sessions have been seen, and the test is too small "
        "for what one can expect, which takes 5,781 sessions (23 years).",
        f"Risk, {CHALLENGER}: Cannot be asked, because {conduct.unasked()[0].reason}.",
    ]


def test_a_universe_that_is_too_small_is_not_ranked(log: PredictionLog) -> None:
    conduct = begin(log, rules(QuestionPolicy("ranking"), RISK))
    assert [(plan.question, plan.family) for plan in conduct.plans()] == [("direction", 2), ("risk", 2)]
    assert [one.sentence for one in conduct.unasked()] == [
        f"the question of ranking cannot be asked for {CHALLENGER}, because it needs 20 tickers, and the universe has 4"
    ]


def test_what_moves_traffic_must_be_askable(log: PredictionLog) -> None:
    conduct = ExperimentController(Rollout(log, rules(metric="rank_ic", plausible_effect=0.02)))
    conduct.rollout.reconcile(MODELS)
    with pytest.raises(ExperimentError, match=r"ranking, which moves traffic, .* needs 20 tickers.*test\.question"):
        conduct.register(measured, CUTOFF)
    assert log.plans("ab-experiment", CHAMPION, CHALLENGER) == ()


def test_a_question_that_a_policy_gains_waits_for_free_error_probability(log: PredictionLog) -> None:
    conduct = begin(log, rules(horizon_sessions=20))
    (alone,) = conduct.plans()
    gained = ExperimentController(Rollout(log, rules(RISK, horizon_sessions=20)))
    assert gained.register(lambda *_: pytest.fail("nothing is free"), CUTOFF) == (alone,)
    (unasked,) = gained.unasked()
    assert (unasked.waits, unasked.question) == (True, "risk")
    assert gained.waiting() == (), "the challenger is tested"
    predict(log, {}, AFTER[:24])
    (ended,) = decisions(gained, AFTER[24])
    assert ended.ended
    (line,) = question_lines([(ended, alone)], ())
    last = ended.looks[-1].day
    assert last <= 20 < ended.days, "days are scored after the end of a test as well"
    assert f"No winner: the test ended after {last} sessions" in line.sentence
    plans = gained.register(measured, AFTER[24])
    assert [(plan.question, plan.family) for plan in plans] == [("direction", 1), ("risk", 2)]
    assert plans[1].starts_after == f"{AFTER[23]:%Y-%m-%d}", "what was seen before is no evidence"
    assert [one.days for one in decisions(gained, AFTER[24])] == [24, 0]


def test_a_plan_of_a_question_is_registered_once_and_an_edited_one_is_noticed(log: PredictionLog) -> None:
    direction, risk = begin(log, rules(RISK)).plans()
    for plan in (direction, risk):
        assert log.register_plan(replace(plan, registered_as_of="2011-01-03")) == plan
    assert log.plans("ab-experiment", CHAMPION, CHALLENGER) == (direction, risk)
    with log.engine.begin() as connection:
        edited = risk.to_json().replace('"plausible_effect":0.4', '"plausible_effect":0.1')
        connection.execute(sa.update(schema.question_plans).values(document=edited))
    assert log.plan("ab-experiment", CHAMPION, CHALLENGER) == direction
    with pytest.raises(LogError, match="was edited"):
        log.plans("ab-experiment", CHAMPION, CHALLENGER)


def test_a_running_pair_keeps_the_question_that_moves_its_traffic(log: PredictionLog) -> None:
    direction, risk = begin(log, rules(RISK)).plans()
    turned = rules(metric="qlike", plausible_effect=0.4)
    assert turned.asked[0].question == "risk"
    later = ExperimentController(Rollout(log, turned))
    assert later.register(lambda *_: pytest.fail("both are registered"), CUTOFF) == (direction, risk)
    predict(log, {CHAMPION: 3.0})
    assert apply_decisions(later.rollout, decisions(later)).champion.model == CHAMPION


def test_prometheus_sees_each_question(log: PredictionLog) -> None:
    conduct = begin(log, rules(RISK))
    predict(log, {CHAMPION: 3.0})
    first = decisions(conduct, AFTER[-9])
    decisions(conduct)
    families = {family.name: family for family in questions(log, [conduct.rollout.started()])}
    found: dict[str, dict[str, float]] = {"direction": {}, "risk": {}}
    for name, family in families.items():
        for sample in family.samples if "question" in name else ():
            found[sample.labels["question"]][name.removeprefix("ab_test_question_")] = sample.value
    latest = {decision.question or "direction": decision for decision in log.decisions("ab-experiment")}
    direction = latest["direction"]
    for question, decision, answer, moves in (("direction", direction, 0.0, 1.0), ("risk", first[1], 1.0, 0.0)):
        told = found[question]
        plan = log.plan_of(decision)
        assert plan is not None
        assert (told["answer"], told["sessions"], told["moves_traffic"]) == (answer, decision.days, moves)
        assert (told["planned_sessions"], told["ended"]) == (36.0, decision.ended)
        left = 0 if decision.ended else sum(day > decision.days for day in plan.looks)
        assert told["looks_left"] == left
        assert (told["z"], told["z_boundary"]) == (decision.looks[-1].z, decision.looks[-1].boundary)
        assert told["log10_e_value"] == pytest.approx(decision.always_on.log_e / np.log(10))
        bounds = (decision.always_on.low, decision.estimate, decision.always_on.high)
        assert (told["effect_lower"], told["effect"], told["effect_upper"]) == bounds
        assert (told["detectable_effect"], told["plausible_effect"]) == (plan.detectable, plan.test.plausible_effect)
        assert (told["alpha_spent"], told["alpha_planned"]) == (decision.alpha_spent, plan.alpha_planned)
        assert told["promotion_probability"] == decision.looks[-1].conditional_power
    assert latest["direction"].days == first[0].days + 3
    counted = {sample.labels["action"]: sample.value for sample in families["ab_test_decisions"].samples}
    taken = [decision.action for decision in log.decisions("ab-experiment")]
    assert counted == {action: taken.count(action) for action in ("promote", "hold", "rollback")}
    fired = {sample.labels["guardrail"]: sample.value for sample in families["ab_test_guardrail_fired"].samples}
    assert fired == {rail.name: float(rail.fired) for rail in latest["direction"].guardrails}


def test_before_the_first_decision_prometheus_sees_the_plan(log: PredictionLog) -> None:
    conduct = begin(log, rules(RISK))
    (plan, *_) = log.plans("ab-experiment", CHAMPION, CHALLENGER)
    told = {
        family.name.removeprefix("ab_test_question_"): sample.value
        for family in questions(log, [conduct.rollout.started()])
        for sample in family.samples
        if sample.labels.get("question") == "direction"
    }
    assert (told["looks_left"], told["z_boundary"]) == (len(plan.looks), plan.boundaries[0])
    assert told["alpha_spent"] == 0
    assert {"z", "effect", "log10_e_value", "answer", "sessions"} & set(told) == set()
