"""A test from its plan to its end, over a real log: registered first, decided as of a session, carried out once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment.decision.evidence import Judgement
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.prediction_log import schema as log_schema
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import AvailableModel, Rollout
from financial_assets.experiment.rollout.steps import apply_decisions
from financial_assets.market.panel import PricePanel
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, SHADOW
from tests.experiment.decision.builders import frames, policy
from tests.experiment.rollout.builders import PRICES, measured, predict

MODELS = tuple(
    AvailableModel(f"{variant}-predictor-v{version}", variant, version, CUTOFF)
    for version, variant in enumerate(("baseline", "enhanced", "lightweight"), 1)
)


def conducted(log: PredictionLog, horizon: int = 20, **traffic: object) -> ExperimentController:
    rules = policy(plausible_effect=0.3, horizon_sessions=horizon, looks=2, futility=0.0)
    return ExperimentController(Rollout(log, replace(rules, traffic=replace(rules.traffic, **traffic))))


def begin(conduct: ExperimentController) -> None:
    conduct.rollout.reconcile(MODELS)
    conduct.register(measured, CUTOFF)


def skills(challenger: float) -> dict[str, float]:
    """The others are right half the time."""
    return {CHAMPION: 0.5, CHALLENGER: challenger, SHADOW: 0.5}


def decide(conduct: ExperimentController, session: pd.Timestamp | None = None) -> Decision:
    (judgement,) = judge(conduct, session)
    return judgement.decision


def judge(conduct: ExperimentController, session: pd.Timestamp | None = None) -> tuple[Judgement, ...]:
    as_of = session or PRICES.sessions[-1]
    rivals = frames(PRICES)[1]
    return conduct.decide(KnownPrices.of(PRICES.until(as_of), as_of), lambda _: rivals, cost_bps=5.0)


def repeat(conduct: ExperimentController, decision: Decision, prices: PricePanel = PRICES) -> Decision:
    as_of = pd.Timestamp(decision.as_of)
    return conduct.repeat(decision, KnownPrices.of(prices.until(as_of), as_of), frames(PRICES)[1], cost_bps=5.0)


def test_a_better_challenger_becomes_champion_once(log: PredictionLog) -> None:
    conduct = conducted(log, 36)
    begin(conduct)
    predict(log, skills(0.98))
    decision = decide(conduct)
    assert decision.action == "promote", decision.reasons
    epoch = apply_decisions(conduct.rollout, [decision])
    assert (epoch.champion.model, epoch.challengers) == (CHALLENGER, ())
    assert epoch.weights == {CHALLENGER: 100}
    assert {arm.model for arm in epoch.shadows} == {CHAMPION, SHADOW}
    assert "promote" in epoch.reason
    assert (
        apply_decisions(conduct.rollout, [decision]) == epoch
    )  # a crash after the epoch was opened: nothing is done twice
    assert log.epochs()[-1] == epoch
    assert judge(conduct) == ()


def test_where_nobody_is_tested_no_request_is_read(log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    conduct = conducted(log)
    begin(conduct)
    predict(log, skills(0.02))
    apply_decisions(conduct.rollout, [decide(conduct)])
    monkeypatch.setattr(PredictionLog, "routed", lambda *_, **__: pytest.fail("there is nothing to judge"))
    assert judge(conduct) == ()


def test_a_worse_challenger_is_scored_in_pairs_only(log: PredictionLog) -> None:
    conduct = conducted(log)
    begin(conduct)
    predict(log, skills(0.02))
    decision = decide(conduct)
    assert decision.action == "rollback", decision.reasons
    epoch = apply_decisions(conduct.rollout, [decision])
    assert epoch.weights == {CHAMPION: 100}
    assert {arm.model for arm in epoch.shadows} == {CHALLENGER, SHADOW}
    assert conduct.rollout.reconcile(MODELS) == epoch, "a rolled-back model does not come back by itself"
    newer = AvailableModel("enhanced-predictor-v4", "enhanced", 4, PRICES.sessions[58])
    again = conduct.rollout.reconcile((*MODELS, newer))
    assert again.weights == {CHAMPION: 70, "enhanced-predictor-v4": 30}


def test_the_log_gives_every_decision_again_bit_for_bit(log: PredictionLog) -> None:
    conduct = conducted(log)
    begin(conduct)
    predict(log, skills(0.6))
    early, late = decide(conduct, PRICES.sessions[40]), decide(conduct)
    conduct.rollout.take_step(50, "by hand")
    for decision in (early, late):
        again = repeat(conduct, decision)
        assert again.to_json() == decision.to_json()
    assert log.decisions("ab-experiment") == (early, late)
    restated = replace(PRICES, values=PRICES.values[::-1].copy())
    assert repeat(conduct, late, restated) != late


def test_the_plan_comes_first_and_stands(log: PredictionLog) -> None:
    conduct = conducted(log)
    conduct.rollout.reconcile(MODELS)
    with pytest.raises(ExperimentError, match="no plan was registered"):
        decide(conduct)
    first = conduct.register(measured, CUTOFF)
    changed = replace(conduct.rollout.policy, test=replace(conduct.rollout.policy.test, margin=0.1))
    later = ExperimentController(replace(conduct.rollout, policy=changed))
    assert later.register(lambda *_: pytest.fail("a plan that stands is not made again"), CUTOFF) == first
    assert later.plans() == first


def test_what_was_seen_before_the_plan_is_no_evidence(log: PredictionLog) -> None:
    conduct = conducted(log)
    conduct.rollout.reconcile(MODELS)
    predict(log, skills(0.98), last=14)  # by a replay before the plan, or by an experiment of another name
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    (plan,) = conduct.register(measured, later[10])
    assert plan.starts_after == f"{later[9]:%Y-%m-%d}", "the outcome of the clock's own session is not known yet"
    assert decide(conduct, later[10]).days == 0
    assert decide(conduct, later[14]).days == 4


def test_a_promotion_can_wait_for_a_person_and_a_rollback_cannot(log: PredictionLog) -> None:
    conduct = conducted(log, 36, approval="manual")
    begin(conduct)
    predict(log, skills(0.98))
    early, late = decide(conduct, PRICES.sessions[55]), decide(conduct)
    assert (early.action, late.action) == ("promote", "promote")
    assert apply_decisions(conduct.rollout, [late]).number == 1
    log.approve(early.digest, "risk manager")
    log.approve(early.digest, "somebody later")
    assert log.approved_by(early.digest) == "risk manager"
    assert apply_decisions(conduct.rollout, [late]).champion.model == CHALLENGER
    with pytest.raises(LogError, match="no decision"):
        log.approve("0" * 64, "risk manager")


def test_the_ladder_goes_up_step_by_step_from_a_mirror(log: PredictionLog) -> None:
    conduct = conducted(log, mode="ladder", steps=(0, 10, 30), dwell_sessions=3)
    begin(conduct)
    later, shares = PRICES.sessions[PRICES.sessions > CUTOFF], []
    for last in (2, 4, 8, 12):
        epoch = conduct.rollout.started()
        shares.append(epoch.challengers[0].weight)
        predict(log, skills(0.5), last=last)
        apply_decisions(conduct.rollout, [decide(conduct, later[last - 1])])
    assert shares == [0, 0, 10, 30]


def test_adaptive_shares_follow_the_scores_one_step_a_session(log: PredictionLog) -> None:
    conduct = conducted(log, mode="hedge")
    begin(conduct)
    predict(log, skills(0.7), last=14)
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    begun = conduct.rollout.started()
    judgements = judge(conduct, later[13])
    decision = judgements[0].decision
    assert decision.action == "hold", decision.reasons
    assert log.allocations(begun.experiment, begun) == (), "a decision moves no allocation"
    conduct.update_allocation(judgements, KnownPrices.of(PRICES, later[13]))
    epoch = apply_decisions(conduct.rollout, [decision])
    steps = log.allocations(begun.experiment, begun)
    assert len(steps) == decision.days
    assert epoch.weights == dict(zip((CHAMPION, CHALLENGER), steps[-1].after, strict=True))
    assert steps[-1].after[1] > 30
    assert epoch.reason.startswith("hedge: ")
    assert apply_decisions(conduct.rollout, [decision]) == epoch  # it is about an epoch that is over
    again = judge(conduct, later[13])
    conduct.update_allocation(again, KnownPrices.of(PRICES, later[13]))
    assert apply_decisions(conduct.rollout, [again[0].decision]) == epoch
    assert log.allocations(begun.experiment, begun) == steps


def test_a_test_that_ended_without_a_winner_climbs_no_further(log: PredictionLog) -> None:
    conduct = conducted(log, mode="ladder", steps=(0, 10, 30), dwell_sessions=3)
    begin(conduct)
    predict(log, skills(0.5))
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    before, at_the_end = decide(conduct, later[19]), decide(conduct, later[20])
    assert [(one.action, one.days, one.ended) for one in (before, at_the_end)] == [
        ("hold", 19, False),
        ("hold", 20, True),
    ]
    assert apply_decisions(conduct.rollout, [at_the_end]).number == 1
    assert apply_decisions(conduct.rollout, [before]).number == 2


def test_a_decision_about_other_arms_is_not_carried_out(log: PredictionLog) -> None:
    conduct = conducted(log, 36)
    begin(conduct)
    predict(log, skills(0.98))
    decision = decide(conduct)
    newer = AvailableModel("enhanced-predictor-v4", "enhanced", 4, PRICES.sessions[58])
    assert decision.action == "promote", decision.reasons
    conduct.rollout.reconcile((*MODELS, newer))
    with pytest.raises(ExperimentError, match="decide again"):
        apply_decisions(conduct.rollout, [decision])


def test_an_edited_record_or_plan_is_noticed(log: PredictionLog) -> None:
    conduct = conducted(log)
    begin(conduct)
    predict(log, skills(0.5), last=5)
    decide(conduct)
    for table in (log_schema.decisions, log_schema.plans):
        with log.engine.begin() as connection:
            document = connection.execute(sa.select(table.c.document)).scalar_one()
            connection.execute(sa.update(table).values(document=document.replace(CHALLENGER, "enhanced-predictor-v9")))
    with pytest.raises(LogError, match="was edited"):
        log.decisions("ab-experiment")
    with pytest.raises(LogError, match="was edited"):
        conduct.plans()


def test_a_log_of_the_first_version_gets_the_new_tables(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    new = ("experiment_plans", "decisions", "approvals")
    with PredictionLog(url) as log:
        Rollout(log, policy()).reconcile(MODELS)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for name in reversed(new):
            connection.execute(sa.text(f"DROP TABLE {name}"))
        connection.execute(sa.text("UPDATE prediction_log_version SET version = 1"))
    engine.dispose()
    with PredictionLog(url) as log:
        assert log.decisions("ab-experiment") == ()
        assert log.current_epoch("ab-experiment") is not None
