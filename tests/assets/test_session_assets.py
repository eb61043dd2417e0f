"""Past sessions by partition: what is missing is asked for, what is there stays, what would cheat is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from financial_assets.assets import evaluation
from financial_assets.assets.sessions import (
    SESSIONS,
    add_sessions,
    session_evaluation,
    session_predictions,
    session_signals,
)
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.resources import ABTest, Market, Serving
from financial_assets.serving.signal_files import has_signals, read_signals
from tests.assets.test_signals_asset import CHALLENGER, CHAMPION, Double, ab_test, begun, failure, gateway

__all__ = ["ab_test", "gateway"]  # fixtures


class World:
    def __init__(self, market: Market, experiment: ABTest, instance: dg.DagsterInstance, home: Path) -> None:
        self.market, self.experiment, self.instance, self.home = market, experiment, instance, home
        self.panel: PricePanel = market.panel()
        add_sessions(instance, self.panel.sessions)

    def make(self, asset: dg.AssetsDefinition, session: pd.Timestamp) -> dg.ExecuteInProcessResult:
        serving = Serving(home=str(self.home), serving_target="local", request_timeout=1.0, ready_timeout=1.0)
        return dg.materialize(
            [asset],
            partition_key=f"{session:%Y-%m-%d}",
            resources={"market": self.market, "serving": serving, "ab_test": self.experiment},
            instance=self.instance,
            raise_on_error=False,
        )

    def logged(self, session: pd.Timestamp) -> set[tuple[str, str]]:
        with self.experiment.log() as log:
            rows = log.direct((CHAMPION, CHALLENGER), columns=("session", "ticker", "model", "status"))
        rows = rows[(rows["session"] == session) & (rows["status"] == "ok")]
        return set(zip(rows["ticker"], rows["model"], strict=True))


@pytest.fixture
def world(make_market: Any, ab_test: ABTest, gateway: Double, instance: dg.DagsterInstance, tmp_path: Path) -> World:
    return World(begun(make_market()), ab_test, instance, tmp_path)


def shown(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = [event for event in result.all_events if event.is_step_materialization]
    return {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}


def test_every_arm_is_asked_about_a_past_session_once(world: World, gateway: Double) -> None:
    session = world.panel.sessions[-5]
    clock = world.market.clock().now()
    first = world.make(session_predictions, session)
    assert first.success
    assert world.logged(session) == {(t, m) for t in world.market.tickers for m in (CHAMPION, CHALLENGER)}
    assert shown(first)["asked for now"] == 4
    asked = len(gateway.asked)
    again = world.make(session_predictions, session)
    assert shown(again)["asked for now"] == 0
    assert len(gateway.asked) == asked
    assert world.logged(world.panel.sessions[-4]) == set()
    assert world.market.clock().now() == clock


def test_signals_of_a_past_session_are_those_of_its_close_and_stay(world: World) -> None:
    session, folder = world.panel.sessions[-5], world.market.folder / "signals"
    assert shown(world.make(session_signals, session))["written"] == "now"
    signals = read_signals(folder, session)
    assert signals is not None
    assert set(signals["as_of"]) == {session}
    assert shown(world.make(session_signals, session))["written"] == "before"
    pd.testing.assert_frame_equal(read_signals(folder, session), signals)


def test_a_past_session_is_scored_by_arm_from_its_predictions(world: World) -> None:
    session = world.panel.sessions[-7]
    assert "materialize sessions/predictions of it first" in failure(world.make(session_evaluation, session))
    world.make(session_predictions, session)
    result = world.make(session_evaluation, session)
    assert result.success
    scores = pd.read_parquet(world.market.folder / "session_scores" / f"{session:%Y-%m-%d}.parquet")
    assert list(scores["model"]) == [CHAMPION, CHALLENGER]
    assert (scores["answers"] == len(world.market.tickers)).all()
    # the double says that prices go on as they went
    close = world.panel.values[:, CHANNELS.index("close")].astype(float)
    place = world.panel.sessions.get_loc(session)
    change, happened = (np.log(close[:, place + n] / close[:, place + n - 1]) for n in (0, 1))
    assert scores["accuracy"].tolist() == [np.mean((change > 0) == (happened > 0))] * 2
    assert shown(result)["as of"] == f"{world.market.clock().now():%Y-%m-%d}"


def test_the_last_session_cannot_be_scored_yet(world: World) -> None:
    last = world.market.clock().now()
    world.make(session_predictions, last)
    assert "evaluate it one session later" in failure(world.make(session_evaluation, last))


@pytest.mark.parametrize("asset", [session_predictions, session_signals], ids=["predictions", "signals"])
def test_a_session_that_a_model_has_learned_from_is_refused(
    world: World, asset: dg.AssetsDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = world.panel.sessions[-5]
    with world.experiment.log() as log:
        epoch = log.current_epoch(world.experiment.policy().experiment)
    assert epoch is not None
    learned = replace(epoch, arms=tuple(replace(arm, data_cutoff=session) for arm in epoch.arms))
    monkeypatch.setattr(ABTest, "current_epoch", lambda *_: learned)
    result = world.make(asset, session)
    assert not result.success
    assert "cut-off" in failure(result) or "has learned from" in failure(result)
    assert not has_signals(world.market.folder / "signals", session)
    assert world.logged(session) == set()


def test_a_session_after_the_clock_is_refused(world: World) -> None:
    later = world.market.clock().now() + pd.Timedelta(days=30)
    add_sessions(world.instance, pd.DatetimeIndex([later]))
    assert "is after the market clock" in failure(world.make(session_signals, later))


def test_partitions_are_added_once(instance: dg.DagsterInstance) -> None:
    days = pd.DatetimeIndex(["2020-01-02", "2020-01-03"])
    for _ in range(2):
        add_sessions(instance, days)
    assert instance.get_dynamic_partitions(str(SESSIONS.name)) == ["2020-01-02", "2020-01-03"]


@pytest.mark.parametrize(
    ("config", "sessions"), [({}, 0), ({"sessions": 12}, 12), ({"replay": False}, None), ({"sessions": -1}, "refused")]
)
def test_a_run_may_choose_how_many_sessions_are_replayed(
    world: World, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], sessions: Any
) -> None:
    asked: list[Any] = []

    def replay(*_: Any, sessions: int | None) -> None:
        asked.append(sessions)
        raise dg.Failure("enough is known")

    monkeypatch.setattr(evaluation, "run_replay", replay)
    serving = Serving(home=str(world.home), serving_target="local", request_timeout=1.0, ready_timeout=1.0)
    arguments: dict[str, Any] = {
        "resources": {"market": world.market, "serving": serving, "ab_test": world.experiment},
        "run_config": {"ops": {"predictions": {"config": config}}},
        "instance": world.instance,
        "raise_on_error": False,
    }
    if sessions == "refused":
        assert not dg.materialize([evaluation.predictions], **arguments).success
        assert asked == []
    else:
        dg.materialize([evaluation.predictions], **arguments)
        assert asked == [sessions]
