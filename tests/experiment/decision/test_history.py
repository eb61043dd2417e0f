"""Evidence that grows by its new sessions: bit for bit that of all rows, whatever happened to log, prices and files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from financial_assets.errors import ExperimentError
from financial_assets.experiment.decision import history as history_module
from financial_assets.experiment.decision.history import EvidenceHistory
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.market.panel import CHANNELS, PricePanel
from tests.experiment.builders import arms
from tests.experiment.decision.builders import first_plan
from tests.experiment.decision.worlds import AFTER, PRICES, Baselines, World
from tests.experiment.rollout.builders import rules


@pytest.fixture
def world(log: PredictionLog, tmp_path: Path) -> World:
    epoch = log.open_epoch("ab-experiment", arms(), "start", after=0)
    return World(log, epoch, EvidenceHistory(tmp_path / "evidence"), Baselines(dict.fromkeys(AFTER, 0)), first_plan())


@pytest.mark.parametrize("metric", ["accuracy", "brier", "pinball"])
def test_a_new_session_is_added_to_what_is_kept(world: World, tabulated: list[list[pd.Timestamp]], metric: str) -> None:
    world.plan = first_plan(metric=metric, plausible_effect=0.03)  # type: ignore[arg-type]
    for place, session in enumerate(AFTER[:12]):
        world.predict(session)
        world.look(session)
        expected = [AFTER[place - 1]] if place else []
        assert tabulated[-1:] == ([expected] if place else []), "only the session whose outcome has become known"
    before = len(tabulated)
    world.look(AFTER[11])
    assert len(tabulated) == before, "the same again computes nothing"


def test_restated_outcomes_and_predictions_are_computed_again(
    world: World, tabulated: list[list[pd.Timestamp]]
) -> None:
    for session in AFTER[:10]:
        world.predict(session)
    world.look(AFTER[9])
    values = PRICES.values.copy()
    close, at = CHANNELS.index("close"), PRICES.position(AFTER[4])
    values[2, close, at] = values[2, close, at - 1] * (0.9 if values[2, close, at] > values[2, close, at - 1] else 1.1)
    world.look(AFTER[9], replace(PRICES, values=values))
    assert set(tabulated[-1]) <= {AFTER[3], AFTER[4]}
    assert AFTER[3] in tabulated[-1]
    world.baselines.versions[AFTER[6]] += 1
    world.look(AFTER[9], replace(PRICES, values=values))
    assert tabulated[-1] == [AFTER[6]]


def test_prices_rescaled_by_a_dividend_change_no_evidence_of_directions(
    world: World, tabulated: list[list[pd.Timestamp]]
) -> None:
    for session in AFTER[:10]:
        world.predict(session)
    world.look(AFTER[9])
    values = PRICES.values.copy()
    values[1, :4] *= np.float32(0.9871)
    before = len(tabulated)
    world.look(AFTER[9], replace(PRICES, values=values))
    assert len(tabulated) == before
    world.plan = first_plan(metric="pinball", plausible_effect=0.03)
    world.look(AFTER[9])
    world.look(AFTER[9], replace(PRICES, values=values))
    assert len(tabulated[-1]) == 9, "losses of quantiles depend on the returns themselves"


def test_late_rows_and_answers_are_found(world: World, tabulated: list[list[pd.Timestamp]]) -> None:
    some = PRICES.tickers[:3]
    for place, session in enumerate(AFTER[:10]):
        world.predict(session, some if place == 5 else PRICES.tickers, answered=place != 7)
    found = world.look(AFTER[9])
    assert found.evidence.missing == 2 + 5
    world.predict(AFTER[5])
    assert world.look(AFTER[9]).evidence.missing == 5
    assert set(tabulated[-1]) == {AFTER[5], AFTER[7]}
    world.predict(AFTER[7])
    assert world.look(AFTER[9]).evidence.missing == 0
    assert tabulated[-1] == [AFTER[7]]


def test_a_ticker_that_was_asked_for_earlier_than_known_makes_more_due(world: World) -> None:
    most = PRICES.tickers[:4]
    for place, session in enumerate(AFTER[:10]):
        world.predict(session, PRICES.tickers if place >= 6 else most)
    assert world.look(AFTER[9]).evidence.missing == 0
    world.predict(AFTER[2])
    assert world.look(AFTER[9]).evidence.missing == 3, "sessions 3, 4 and 5 lack the fifth ticker"


def test_an_earlier_look_and_one_after_a_gap_agree(world: World) -> None:
    for session in AFTER[:12]:
        world.predict(session)
    for place in (11, 5, 9, 0, 11):
        world.look(AFTER[place])


def test_a_log_that_is_ahead_of_the_decision_is_read_as_the_clock_goes_on(
    world: World, tabulated: list[list[pd.Timestamp]]
) -> None:
    for session in AFTER[:12]:
        world.predict(session)
    for place in (3, 4, 5, 8):
        world.look(AFTER[place])
    assert tabulated[1:] == [[AFTER[3]], [AFTER[4]], list(AFTER[5:8])]


@pytest.mark.parametrize("change", ["plan", "code", "log", "damaged", "earlier", "universe"])
def test_what_may_be_out_of_date_is_computed_anew(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tabulated: list[list[pd.Timestamp]],
    change: str,
) -> None:
    for session in AFTER[:8]:
        world.predict(session)
    world.look(AFTER[7])
    prices = PRICES
    if change == "plan":
        world.plan = first_plan(plausible_effect=0.05)
    elif change == "code":
        monkeypatch.setattr(history_module, "_code", lambda: "another")
    elif change == "damaged":
        (path,) = (tmp_path / "evidence").iterdir()
        path.write_bytes(path.read_bytes()[:-100])
    elif change == "earlier":  # a record per session, and arrays by name
        (path,) = (tmp_path / "evidence").iterdir()
        days = {"2010-03-01": {"outcomes": "ab", "token": "0", "figures": {"main": 0.5}}}
        state = json.dumps({"depends_on": "code", "days": days, "longest": {}}).encode()
        np.savez(path, state=np.frombuffer(state, np.uint8), up=np.ones((6, 401)), peak_up=np.ones(401))
    elif change == "universe":
        prices = PricePanel(PRICES.tickers[:4], PRICES.sessions, PRICES.values[:4].copy(), PRICES.valid[:4].copy())
    else:  # another log with as many rows and the same ids
        with PredictionLog(f"sqlite:///{tmp_path / 'other.db'}") as other:
            world.log, world.epoch = other, other.open_epoch("ab-experiment", arms(), "start", after=0)
            for session in AFTER[:8]:
                world.predict(session)
            columns = schema.direct.c
            with other.engine.begin() as connection:
                statement = sa.update(schema.direct).where(columns.session == AFTER[2].date())
                connection.execute(statement.values(probability_up=0.9))
            world.look(AFTER[7])
        assert len(tabulated[-1]) == 7
        return
    world.look(AFTER[7], prices)
    assert len(tabulated[-1]) == 7


def test_decisions_are_those_of_all_rows(world: World) -> None:
    for session in AFTER[:12]:
        world.predict(session)
    rollout = Rollout(world.log, rules())
    kept, whole = ExperimentController(rollout, world.history), ExperimentController(rollout)
    epoch = world.epoch
    for session in AFTER[4:12]:
        known = KnownPrices.of(PRICES.until(session), session)
        reads = whole._reads([world.plan])
        routed = whole._routed(reads, session)
        judged = [
            controller._judge(world.plan, epoch, routed, known, baselines, 5.0, reads)
            for controller, baselines in ((kept, world.baselines), (whole, world.baselines.frame()))
        ]
        assert judged[0].decision == judged[1].decision
    with pytest.raises(ExperimentError, match="keeps a history"):
        whole._judge(world.plan, epoch, routed, known, world.baselines, 5.0, reads)
