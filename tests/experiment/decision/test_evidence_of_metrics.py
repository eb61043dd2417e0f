"""Evidence of plans of the second rule: their own metric against baselines too, guards, late outcomes, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision import evidence as evidence_module
from financial_assets.experiment.decision.evidence import Evidence, gather
from financial_assets.experiment.decision.history import EvidenceHistory
from financial_assets.experiment.decision.kept.shared import SharedTables, evidence_columns
from financial_assets.experiment.decision.series import prediction_columns
from financial_assets.experiment.metrics.registry import METRICS
from financial_assets.experiment.outcomes import KnownPrices, outcome_frame
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.shared_reads import SharedReads
from financial_assets.market.panel import CHANNELS, PricePanel
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, arms, panel
from tests.experiment.decision.builders import first_plan, plan
from tests.experiment.decision.worlds import Baselines, World

PRICES = panel(sessions=224, tickers=21, start="2009-04-01")
"""Longer before the cut-off than a volatility looks back, and wide enough for a ranking."""
AFTER = PRICES.sessions[PRICES.sessions > CUTOFF]
METRIC_NAMES: tuple[PairedMetric, ...] = get_args(PairedMetric)


def plan_by(metric: PairedMetric) -> ExperimentPlan:
    """A plan of the second rule."""
    return replace(plan(metric=metric, plausible_effect=0.03), rule=2, must_beat=METRICS[metric].baselines)


@pytest.fixture
def world(log: PredictionLog, tmp_path: Path) -> World:
    epoch = log.open_epoch("ab-experiment", arms(), "start", after=0)
    names = tuple(dict.fromkeys(name for metric in METRICS.values() for name in metric.baselines))
    baselines = Baselines(dict.fromkeys(AFTER, 0), PRICES.tickers, names)
    return World(log, epoch, EvidenceHistory(tmp_path / "evidence"), baselines, plan_by("pinball"), PRICES)


def whole(world: World, prices: PricePanel = PRICES) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Paired predictions, and outcomes."""
    return world.log.direct((CHAMPION, CHALLENGER)), outcome_frame(prices, scaled=True)


@pytest.mark.parametrize("metric", ["long_short", "rank_ic", "pinball", "qlike_5d", "var_es", "accuracy"])
def test_what_is_kept_is_bit_for_bit_that_of_all_rows(world: World, metric: PairedMetric) -> None:
    world.plan = plan_by(metric)
    for place, session in enumerate(AFTER[:9]):
        world.predict(session, answered=place != 4)
        if place in (0, 3, 4, 8):
            world.look(session)
    world.predict(AFTER[4])
    found = world.look(AFTER[10]).evidence
    assert len(found.main) == (6 if metric == "qlike_5d" else 9)
    assert list(found.against) == list(METRICS[metric].baselines)
    assert all(len(days) == len(found.main) for days in found.against.values())


def test_plans_of_one_pair_share_their_rows_and_say_what_each_says_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[str] = []
    arms_of = evidence_module._arms

    def counted(asked: ExperimentPlan, *given: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        joined.append(asked.test.metric)
        return arms_of(asked, *given)

    monkeypatch.setattr(evidence_module, "_arms", counted)
    # The first rule's pinball loss is another one than the second's, of the same name.
    first = first_plan(metric="pinball", plausible_effect=0.03)
    plans = (plan_by("brier"), plan_by("rank_ic"), plan_by("pinball"), first)
    alone = {asked.digest: EvidenceHistory(tmp_path / "alone") for asked in plans}
    columns = tuple(dict.fromkeys(name for asked in plans for name in evidence_columns(asked)))
    for place, session in enumerate(AFTER[:6]):
        world.predict(session, PRICES.tickers[: 21 - place % 2])
        known = KnownPrices.of(PRICES.until(session), session)
        reads, shared = SharedReads(world.log, columns, ()), SharedTables()
        together = [world.history.gather(asked, reads, world.baselines, known, shared) for asked in plans]
        assert joined == (["brier", "pinball"] if place else []), "once for each rule, whose spans of prices differ"
        for asked, found in zip(plans, together, strict=True):
            by_itself = alone[asked.digest].gather(asked, world.log, world.baselines, known)
            assert found.evidence.digest == by_itself.evidence.digest
            assert (found.evidence.due, found.evidence.missing) == (by_itself.evidence.due, by_itself.evidence.missing)
            assert found.evidence.coverage == by_itself.evidence.coverage
        joined.clear()


def test_five_sessions_are_evidence_when_they_are_over(world: World) -> None:
    world.plan = plan_by("pinball_5d")
    for session in AFTER[:9]:
        world.predict(session)
    for place in range(3, 9):
        found = world.look(AFTER[place]).evidence
        assert list(found.main.sessions) == list(AFTER[: max(place - 4, 0)])
        assert list(found.guards["tail"].sessions) == list(AFTER[:place]), "a guard of one session does not wait"
        assert list(found.guards["profit"].sessions) == list(AFTER[: max(place - 1, 0)]), "sold at the second open"
        assert found.due == 21 * place


def test_restated_prices_touch_what_depends_on_them_only(world: World, tabulated: list[list[pd.Timestamp]]) -> None:
    for session in AFTER[:12]:
        world.predict(session)
    world.look(AFTER[11])
    values, close = PRICES.values.copy(), CHANNELS.index("close")
    values[3, close, PRICES.position(AFTER[8])] *= np.float32(1.02)
    restated = replace(PRICES, values=values)
    world.look(AFTER[11], restated)
    # The close settles the session before it, and is in the volatility of all from then on; books pay a session later.
    assert tabulated[-1] == list(AFTER[7:11])
    world.plan = plan_by("var_es_5d")
    world.look(AFTER[11])
    world.look(AFTER[11], restated)
    # Losses of a tail need no volatility: only outcomes that begin or end there, and the book after each.
    assert set(tabulated[-1]) == {*AFTER[[3, 4, 7, 8, 9]]}


def test_old_outcomes_and_a_new_baseline_touch_one_session_and_the_next(
    world: World, tabulated: list[list[pd.Timestamp]]
) -> None:
    for session in AFTER[:8]:
        world.predict(session)
    world.look(AFTER[7])
    world.baselines.versions[AFTER[3]] += 1
    world.look(AFTER[7])
    assert tabulated[-1] == [AFTER[3], AFTER[4]]


def evidence_of(world: World, metric: PairedMetric) -> Evidence:
    direct, outcomes = whole(world)
    return gather(plan_by(metric), direct, world.baselines.frame(), outcomes)


def test_baselines_are_compared_by_the_metric_of_the_plan(world: World) -> None:
    for session in AFTER[:6]:
        world.predict(session)
    direct, outcomes = whole(world)
    found = evidence_of(world, "qlike")
    ours = direct[direct["model"] == CHALLENGER].merge(outcomes, on=["session", "ticker"])
    rival = world.baselines.frame().query("model == 'har'").rename(columns={"date": "session"})
    rows = ours[["session", "ticker"]].merge(rival, on=["session", "ticker"])
    score = METRICS["qlike"].scores
    theirs = score(rows.assign(log_return=ours["log_return"]))
    by_hand = pd.Series(score(ours) - theirs).groupby(ours["session"]).mean()
    np.testing.assert_allclose(found.against["har"].differences, by_hand, rtol=1e-12)


def test_guards_are_profit_tail_and_direction(world: World) -> None:
    for session in AFTER[:6]:
        world.predict(session)
    risk, direction = evidence_of(world, "pinball"), evidence_of(world, "accuracy")
    assert list(risk.guards) == ["accuracy", "profit", "tail"]
    assert list(direction.guards) == ["profit", "tail"]
    assert list(evidence_of(world, "var_es").guards) == ["accuracy", "profit"]
    assert risk.guards["accuracy"] is risk.accuracy
    np.testing.assert_array_equal(risk.accuracy.differences, direction.main.differences)
    np.testing.assert_array_equal(risk.guards["tail"].differences, evidence_of(world, "var_es").main.differences)


def test_coverage_is_that_of_the_challenger(world: World) -> None:
    for session in AFTER[:6]:
        world.predict(session)
    direct, outcomes = whole(world)
    rows = direct[direct["model"] == CHALLENGER].merge(outcomes, on=["session", "ticker"])
    found = evidence_of(world, "pinball")
    assert found.ranged == 6 * 21
    assert found.coverage == np.mean(rows["log_return"].between(rows["q05"], rows["q95"]))
    assert gather(first_plan(), direct, world.baselines.frame(), outcomes).coverage is None


def test_arms_without_the_head_have_no_evidence_of_it(world: World) -> None:
    for session in AFTER[:6]:
        world.predict(session)
    direct, outcomes = whole(world)
    earlier = direct.assign(**dict.fromkeys(METRICS["pinball_5d"].answers, np.nan), excess_return=np.nan)
    for metric in ("pinball_5d", "rank_ic"):
        due = outcomes[outcomes["session"] <= AFTER[5]]
        found = gather(plan_by(metric), earlier, world.baselines.frame(), due)
        assert (len(found.main), len(found.accuracy), found.missing) == (0, 6, 0)


def test_a_baseline_without_the_answers_is_asked_for(world: World) -> None:
    world.predict(AFTER[0])
    direct, outcomes = whole(world)
    without = world.baselines.frame().drop(columns="excess_return")
    with pytest.raises(ExperimentError, match="beat 'reversal'"):
        gather(plan_by("rank_ic"), direct, without, outcomes)


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_only_columns_that_are_needed_are_read(metric: PairedMetric) -> None:
    columns = prediction_columns(plan_by(metric))
    assert {"probability_up", "q01", "q05", "q95", *METRICS[metric].answers} == {*columns}
    assert "q01" not in prediction_columns(first_plan())
