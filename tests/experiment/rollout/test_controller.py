"""A test from its plan to its end, over a real log: registered first, decided as of a session, carried out once."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from financial_assets.errors import ExperimentError, LogError
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.plan.plan import DailyDeviation
from financial_assets.experiment.prediction_log import schema as log_schema
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Forecast, Result
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import AvailableModel, Rollout
from financial_assets.market.panel import PricePanel
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, SHADOW, panel
from tests.experiment.decision.builders import policy
from tests.experiment.decision.test_evidence import frames

PRICES = panel(sessions=62, tickers=4)
QUANTILES = (-0.03, -0.02, 0.0, 0.02, 0.03)
MODELS = tuple(
    AvailableModel(f"{variant}-predictor-v{version}", variant, version, CUTOFF)
    for version, variant in enumerate(("baseline", "enhanced", "lightweight"), 1)
)


def conducted(log: PredictionLog, **traffic: object) -> ExperimentController:
    rules = policy(plausible_effect=0.3, horizon_sessions=20, looks=2, deflated_sharpe=0.0)
    return ExperimentController(Rollout(log, replace(rules, traffic=replace(rules.traffic, **traffic))))


def begin(conduct: ExperimentController) -> None:
    conduct.rollout.reconcile(MODELS)
    conduct.register(lambda _: DailyDeviation(0.3, "the test"), CUTOFF)


def predict(log: PredictionLog, prices: PricePanel, skill: float, last: int | None = None) -> None:
    """Sessions after the cut-off: the champion is right half the time, the challenger with probability ``skill``."""
    epoch = log.current_epoch("ab-experiment")
    assert epoch is not None
    rng = np.random.default_rng(2)
    ups = outcome_frame(prices).set_index(["session", "ticker"])["up"]
    skills = {CHAMPION: 0.5, CHALLENGER: skill, SHADOW: 0.5}

    def result(intent: int, up: bool, route: str | None = None) -> Result:
        return Result(intent, Forecast(0.6 if up else 0.4, QUANTILES), route=route, latency_s=0.002)

    for session, target in list(itertools.pairwise(prices.sessions[prices.sessions > CUTOFF]))[:last]:
        direct = log.begin_direct(epoch.arms, session, target, prices.tickers)
        right = [bool(rng.random() < skills[intent.model]) for intent in direct]
        log.complete_direct(
            [result(one.id, bool(ups[(session, one.ticker)]) == hit) for one, hit in zip(direct, right, strict=True)]
        )
        drawn = rng.random(len(prices.tickers)) < epoch.propensity(CHALLENGER)
        routed = log.begin_routed(epoch, session, target, prices.tickers)
        log.complete_routed(
            [
                result(one.id, True, CHALLENGER if drawn[prices.tickers.index(one.ticker)] else CHAMPION)
                for one in routed
            ]
        )


def decide(conduct: ExperimentController, session: pd.Timestamp | None = None) -> Decision:
    (decision,) = conduct.decide(PRICES, rivals, as_of=session or PRICES.sessions[-1], deflated_sharpe=lambda _: None)
    return decision


def rivals(_plan: object = None) -> pd.DataFrame:
    return frames(PRICES)[1]


def test_a_better_challenger_becomes_champion_once(log: PredictionLog) -> None:
    conduct = conducted(log)
    begin(conduct)
    predict(log, PRICES, 0.98)
    decision = decide(conduct)
    assert decision.action == "promote", decision.reasons
    epoch = conduct.apply_decisions([decision])
    assert (epoch.champion.model, epoch.challengers) == (CHALLENGER, ())
    assert epoch.weights == {CHALLENGER: 100}
    assert {arm.model for arm in epoch.shadows} == {CHAMPION, SHADOW}
    assert "promote" in epoch.reason
    assert conduct.apply_decisions([decision]) == epoch  # a crash after the epoch was opened: nothing is done twice
    assert log.epochs()[-1] == epoch
    assert conduct.decide(PRICES, rivals, as_of=PRICES.sessions[-1], deflated_sharpe=lambda _: None) == ()


def test_where_nobody_is_tested_no_request_is_read(log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    conduct = conducted(log)
    begin(conduct)
    predict(log, PRICES, 0.02)
    conduct.apply_decisions([decide(conduct)])
    monkeypatch.setattr(PredictionLog, "routed", lambda *_, **__: pytest.fail("there is nothing to judge"))
    assert conduct.decide(PRICES, rivals, as_of=PRICES.sessions[-1], deflated_sharpe=lambda _: None) == ()


def test_a_worse_challenger_is_scored_in_pairs_only(log: PredictionLog) -> None:
    conduct = conducted(log)
    begin(conduct)
    predict(log, PRICES, 0.02)
    decision = decide(conduct)
    assert decision.action == "rollback", decision.reasons
    epoch = conduct.apply_decisions([decision])
    assert epoch.weights == {CHAMPION: 100}
    assert {arm.model for arm in epoch.shadows} == {CHALLENGER, SHADOW}
    assert conduct.rollout.reconcile(MODELS) == epoch, "a rolled-back model does not come back by itself"
    newer = AvailableModel("enhanced-predictor-v4", "enhanced", 4, PRICES.sessions[58])
    again = conduct.rollout.reconcile((*MODELS, newer))
    assert again.weights == {CHAMPION: 70, "enhanced-predictor-v4": 30}


def test_the_log_gives_every_decision_again_bit_for_bit(log: PredictionLog) -> None:
    conduct = conducted(log)
    begin(conduct)
    predict(log, PRICES, 0.6)
    early, late = decide(conduct, PRICES.sessions[40]), decide(conduct)
    conduct.rollout.take_step(50, "by hand")
    for decision in (early, late):
        again = conduct.repeat(decision, PRICES, rivals, deflated_sharpe=lambda _: None)
        assert again.to_json() == decision.to_json()
    assert log.decisions("ab-experiment") == (early, late)
    restated = replace(PRICES, values=PRICES.values[::-1].copy())
    assert conduct.repeat(late, restated, rivals, deflated_sharpe=lambda _: None) != late


def test_the_plan_comes_first_and_stands(log: PredictionLog) -> None:
    conduct = conducted(log)
    conduct.rollout.reconcile(MODELS)
    with pytest.raises(ExperimentError, match="no plan was registered"):
        decide(conduct)
    first = conduct.register(lambda _: DailyDeviation(0.3, "the test"), CUTOFF)
    changed = replace(conduct.rollout.policy, test=replace(conduct.rollout.policy.test, margin=0.1))
    later = ExperimentController(replace(conduct.rollout, policy=changed))
    assert later.register(lambda _: pytest.fail("a plan that stands is not made again"), CUTOFF) == first
    assert later.plans() == first


def test_what_was_seen_before_the_plan_is_no_evidence(log: PredictionLog) -> None:
    conduct = conducted(log)
    conduct.rollout.reconcile(MODELS)
    predict(log, PRICES, 0.98, 14)  # by a replay before the plan, or by an experiment of another name
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    (plan,) = conduct.register(lambda _: DailyDeviation(0.3, "the test"), later[10])
    assert plan.starts_after == f"{later[9]:%Y-%m-%d}", "the outcome of the clock's own session is not known yet"
    assert decide(conduct, later[10]).days == 0
    assert decide(conduct, later[14]).days == 4


def test_a_promotion_can_wait_for_a_person_and_a_rollback_cannot(log: PredictionLog) -> None:
    conduct = conducted(log, approval="manual")
    begin(conduct)
    predict(log, PRICES, 0.98)
    early, late = decide(conduct, PRICES.sessions[55]), decide(conduct)
    assert (early.action, late.action) == ("promote", "promote")
    assert conduct.apply_decisions([late]).number == 1
    log.approve(early.digest, "risk manager")
    log.approve(early.digest, "somebody later")
    assert log.approved_by(early.digest) == "risk manager"
    assert conduct.apply_decisions([late]).champion.model == CHALLENGER
    with pytest.raises(LogError, match="no decision"):
        log.approve("0" * 64, "risk manager")


def test_the_ladder_goes_up_step_by_step_from_a_mirror(log: PredictionLog) -> None:
    conduct = conducted(log, mode="ladder", steps=(0, 10, 30), dwell_sessions=3)
    begin(conduct)
    later, shares = PRICES.sessions[PRICES.sessions > CUTOFF], []
    for last in (2, 4, 8, 12):
        epoch = conduct.rollout.started()
        shares.append(epoch.challengers[0].weight)
        predict(log, PRICES, 0.5, last)
        conduct.apply_decisions([decide(conduct, later[last - 1])])
    assert shares == [0, 0, 10, 30]


def test_adaptive_shares_follow_the_scores_one_step_a_session(log: PredictionLog) -> None:
    conduct = conducted(log, mode="hedge")
    begin(conduct)
    predict(log, PRICES, 0.7, 14)
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    begun = conduct.rollout.started()
    decision = decide(conduct, later[13])
    assert decision.action == "hold", decision.reasons
    epoch = conduct.apply_decisions([decision])
    steps = log.allocations(begun.experiment, begun)
    assert len(steps) == decision.days
    assert epoch.weights == dict(zip((CHAMPION, CHALLENGER), steps[-1].after, strict=True))
    assert steps[-1].after[1] > 30
    assert epoch.reason.startswith("hedge: ")
    assert conduct.apply_decisions([decision]) == epoch  # it is about an epoch that is over
    again = decide(conduct, later[13])
    assert conduct.apply_decisions([again]) == epoch
    assert log.allocations(begun.experiment, begun) == steps


def test_a_test_that_ended_without_a_winner_climbs_no_further(log: PredictionLog) -> None:
    conduct = conducted(log, mode="ladder", steps=(0, 10, 30), dwell_sessions=3)
    begin(conduct)
    predict(log, PRICES, 0.5)
    later = PRICES.sessions[PRICES.sessions > CUTOFF]
    before, at_the_end = decide(conduct, later[19]), decide(conduct, later[20])
    assert [(one.action, one.days, one.ended) for one in (before, at_the_end)] == [
        ("hold", 19, False),
        ("hold", 20, True),
    ]
    assert conduct.apply_decisions([at_the_end]).number == 1
    assert conduct.apply_decisions([before]).number == 2


def test_a_decision_about_other_arms_is_not_carried_out(log: PredictionLog) -> None:
    conduct = conducted(log)
    begin(conduct)
    predict(log, PRICES, 0.98)
    decision = decide(conduct)
    newer = AvailableModel("enhanced-predictor-v4", "enhanced", 4, PRICES.sessions[58])
    assert decision.action == "promote", decision.reasons
    conduct.rollout.reconcile((*MODELS, newer))
    with pytest.raises(ExperimentError, match="decide again"):
        conduct.apply_decisions([decision])


def test_an_edited_record_or_plan_is_noticed(log: PredictionLog) -> None:
    conduct = conducted(log)
    begin(conduct)
    predict(log, PRICES, 0.5, 5)
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
