"""The command ``replay``: modes, open loop, decisions on the way; plane and registry are doubles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from financial_assets.cli.main import main
from financial_assets.errors import GatewayUnavailableError
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.controller import ExperimentController
from financial_assets.experiment.rollout.state import AvailableModel, Rollout
from financial_assets.installation import ModelStore, ServingAccess
from financial_assets.market.panel import CHANNELS
from financial_assets.resources import make_resources
from financial_assets.serving.client.answers import Answer
from financial_assets.serving.target import ExperimentStatus, TargetStatus
from financial_assets.settings import load_settings
from financial_assets.workflows.replay import enter_shadow
from tests.experiment.builders import CHALLENGER, CHAMPION, SHADOW, FakeGateway, said
from tests.experiment.rollout.builders import measured

POLICY = """
experiment: ab-experiment
champion: {{variant: baseline, weight: 70}}
challengers: [{{variant: enhanced, weight: 30}}]
shadow: [lightweight]
test: {{metric: accuracy, plausible_effect: 0.4, horizon_sessions: 20, looks: 2, deflated_sharpe: 0.0}}
traffic: {{mode: {mode}, steps: [10, 50], dwell_sessions: 4}}
"""
Command = Callable[..., Result]


@dataclass
class World(FakeGateway):
    """A plane that routes as it was told last, with models that are right as often as ``skill`` says."""

    skill: dict[str, float] = field(default_factory=lambda: {CHAMPION: 0.5, CHALLENGER: 0.5, SHADOW: 0.5})
    applied: list[dict[str, Any]] = field(default_factory=list)
    aliases: list[tuple[str, int | None]] = field(default_factory=list)
    tracked: list[Decision] = field(default_factory=list)
    fitted: int = 0
    ups: dict[bytes, bool] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    # --- the gateway ---
    def infer(
        self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
    ) -> Answer:
        routed = super().infer(target, bars, route=route, request_id=request_id).route
        assert routed is not None
        return self.forecast(routed, bars)

    def infer_batch(self, target: str, bars: np.ndarray, **_: object) -> Answer:
        super().infer_batch(target, bars)
        return self.forecast(target, bars)

    def forecast(self, model: str, bars: np.ndarray) -> Answer:
        ups = np.array([self.ups.get(row[-1].tobytes(), True) for row in bars])
        right = self.rng.random(len(bars)) < self.skill[model]
        quantiles = np.tile([-0.03, -0.02, 0.0, 0.02, 0.03], (len(bars), 1))
        return said(np.where(ups == right, 0.7, 0.3), quantiles, model, 0.003)

    # --- the target ---
    def apply(self, manifests: Sequence[dict[str, Any]]) -> None:
        self.applied += manifests
        self.weights = {one["name"]: one["weight"] for one in manifests[-1]["spec"]["candidates"]}

    def wait_ready(self, names: Sequence[str], timeout_s: float) -> None:
        assert names == ["ab-experiment"]

    def status(self) -> TargetStatus:
        split = ExperimentStatus("ab-experiment", CHAMPION, dict(self.weights), None, ready=True)
        return TargetStatus("double", ready=True, endpoint=None, experiments=(split,))

    # --- the registry ---
    def versions(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(version=number, tags={}) for number in (1, 2, 3)]

    def set_alias(self, alias: str, version: int) -> None:
        self.aliases.append((alias, version))

    def remove_alias(self, alias: str) -> None:
        self.aliases.append((alias, None))

    # --- the baselines ---
    cutoff = "2000-01-03"

    def predict(self, features: object, panel: Any, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        self.fitted += 1
        index = pd.MultiIndex.from_product([sessions, panel.tickers], names=["date", "ticker"]).to_frame(index=False)
        coin = np.random.default_rng(1).random(len(index))
        return pd.concat([index.assign(model=name, probability_up=coin) for name in ("majority", "logistic")])


@contextmanager
def opened_log() -> Iterator[PredictionLog]:
    with make_resources(load_settings())["ab_test"].log() as log:
        yield log


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    settings = {
        "FINANCIAL_ASSETS_HOME": str(tmp_path / "home"),
        "ROLLOUT_POLICY": str(tmp_path / "policy.yaml"),
        "PRICE_SOURCE": "simulated",
        "SIMULATED_SESSIONS": "400",
        "TICKERS": "AAA,BBB,CCC,DDD",
        "PROGRESS": "false",
        "COLUMNS": "200",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "policy.yaml").write_text(POLICY.format(mode="fixed"))
    return lambda *arguments: CliRunner().invoke(main, ["replay", *arguments])


@pytest.fixture
def world(command: Command, monkeypatch: pytest.MonkeyPatch) -> World:
    """Prices are in, the experiment has begun, its plan is registered."""
    made = World()
    monkeypatch.setattr(ServingAccess, "connect", lambda _: made.connect())
    monkeypatch.setattr(ServingAccess, "target", lambda _: made)
    monkeypatch.setattr(ModelStore, "registry", lambda _: made)
    monkeypatch.setattr(ModelStore, "baselines_for", lambda *_: made)
    monkeypatch.setattr("financial_assets.workflows.decisions.compute_panel", lambda *_: None)
    monkeypatch.setattr(
        "financial_assets.workflows.decisions.track_decision", lambda _tracker, _plan, one, *_: made.tracked.append(one)
    )
    resources = make_resources(load_settings())
    market, ab_test = resources["market"], resources["ab_test"]
    market.ingest()
    panel = market.whole_panel()
    market.begin(panel.sessions)
    cutoff = market.first_cutoff().get()
    models = [
        AvailableModel(name, name.split("-")[0], version, cutoff)
        for version, name in enumerate((CHAMPION, CHALLENGER, SHADOW), 1)
    ]
    with ab_test.log() as log:
        conduct = ExperimentController(Rollout(log, ab_test.policy()))
        conduct.rollout.reconcile(models)
        conduct.register(measured, cutoff)
    ups = outcome_frame(panel).set_index(["session", "ticker"])["up"]
    assert panel.values.shape[1] == len(CHANNELS)
    for row, ticker in enumerate(panel.tickers):
        for column, session in enumerate(panel.sessions[:-1]):
            made.ups[panel.values[row, :, column].tobytes()] = bool(ups[(session, ticker)])
    return made


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--rate", "0"], "0.0 is not in the range 0<x<=10000"),
        (["--rate", "fast"], "'fast' is not a valid float"),
        (["--arrivals", "uniform"], "--arrivals is about the instants of --rate"),
        (["--rate", "5", "--arrivals", "bursts"], "'bursts' is not one of"),
        (["--mode", "both"], "'both' is not one of 'split', 'shadow', 'paired'"),
        (["--rate", "5", "--mode", "paired"], "--mode paired sends none"),
        (["--decide", "--mode", "shadow"], "leave out --mode"),
    ],
)
def test_options_that_contradict_each_other_are_refused(command: Command, options: list[str], named: str) -> None:
    refused = command(*options)
    assert refused.exit_code == 2
    assert named in " ".join(refused.output.split())


@pytest.mark.parametrize(
    ("mode", "routed", "paired"), [("split", 20, 0), ("paired", 0, 60), (None, 20, 60)], ids=["split", "paired", "both"]
)
def test_a_mode_sends_its_part_and_the_rest_can_follow(
    command: Command, world: World, mode: str | None, routed: int, paired: int
) -> None:
    shown = command("--sessions", "5", *(() if mode is None else ("--mode", mode)))
    assert shown.exit_code == 0, shown.output
    assert (
        f"5 had something to send: {routed} routed requests (0 failed, 0 unattributed), {paired} paired" in shown.output
    )
    assert (len(world.requests), sum(rows for _, rows in world.batches)) == (routed, paired)
    rest = command("--sessions", "5")
    assert f"{20 - routed} routed requests (0 failed, 0 unattributed), {60 - paired} paired" in rest.output
    with opened_log() as log:
        assert (len(log.routed()), len(log.direct())) == (20, 60)
    assert world.applied == []  # no mode but the shadow touches the weights


def test_a_shadow_takes_the_share_and_gives_it_back(command: Command, world: World) -> None:
    shown = command("--sessions", "5", "--mode", "shadow")
    assert shown.exit_code == 0, shown.output
    with opened_log() as log:
        routed, epochs = log.routed(), log.epochs()
    assert [epoch.weights for epoch in epochs] == [
        {CHAMPION: 70, CHALLENGER: 30},
        {CHAMPION: 100, CHALLENGER: 0},
        {CHAMPION: 70, CHALLENGER: 30},
    ]
    mirrored, back = world.applied
    assert mirrored["spec"]["mirror"] == {"name": CHALLENGER, "percent": 100}
    assert "mirror" not in back["spec"]
    assert (set(routed["model"]), set(routed["epoch"]), set(routed["propensity"])) == ({CHAMPION}, {2}, {1.0})
    assert world.batches == []
    later = command("--sessions", "8", "--mode", "split")
    assert "12 routed requests" in later.output  # each session is routed once, in whatever mode


def test_a_shadow_that_was_killed_ends_with_the_next_replay(command: Command, world: World) -> None:
    with opened_log() as log:  # as a kill without any warning leaves it
        enter_shadow(Rollout(log, make_resources(load_settings())["ab_test"].policy()))
    assert command("--sessions", "5", "--mode", "split").exit_code == 0
    with opened_log() as log:
        assert [epoch.weights[CHALLENGER] for epoch in log.epochs()] == [30, 0, 30]
        assert set(log.routed()["epoch"]) == {3}
    assert world.weights == {CHAMPION: 70, CHALLENGER: 30}


def test_a_step_that_was_killed_before_it_was_routed_is_routed_by_the_next_replay(
    command: Command, world: World
) -> None:
    with opened_log() as log:  # the epoch is in the log, and the gateway splits as before
        Rollout(log, make_resources(load_settings())["ab_test"].policy()).take_step(50, "a step")
    assert world.weights == {CHAMPION: 70, CHALLENGER: 30}
    assert command("--sessions", "5", "--mode", "split").exit_code == 0
    assert world.weights == {CHAMPION: 50, CHALLENGER: 50}
    assert len(world.applied) == 1
    with opened_log() as log:
        assert set(log.routed()["epoch"]) == {2}


def test_an_error_in_a_shadow_gives_the_share_back(command: Command, world: World) -> None:
    def defect(_target: str, _bars: np.ndarray, _request: str | None) -> None:
        raise ZeroDivisionError("a bug")

    world.before = defect
    assert isinstance(command("--sessions", "5", "--mode", "shadow").exception, ZeroDivisionError)
    assert world.weights == {CHAMPION: 70, CHALLENGER: 30}
    with opened_log() as log:
        assert log.epochs()[-1].weights == {CHAMPION: 70, CHALLENGER: 30}


def test_an_interrupted_replay_says_how_to_go_on(command: Command, world: World) -> None:
    def ctrl_c(_target: str, _bars: np.ndarray, _request: str | None) -> None:
        if len(world.requests) > 8:
            raise KeyboardInterrupt

    world.before = ctrl_c
    stopped = command("--sessions", "5")
    assert stopped.exit_code == 130
    assert "the same command continues where this one stopped" in stopped.output
    world.before = None
    assert command("--sessions", "5").exit_code == 0
    with opened_log() as log:
        assert log.routed()["status"].eq("ok").all()


def test_an_open_loop_prints_both_latencies_and_keeps_every_request(
    command: Command, world: World, tmp_path: Path
) -> None:
    shown = command("--sessions", "5", "--rate", "2000", "--arrivals", "uniform", "--workers", "8")
    assert shown.exit_code == 0, shown.output
    assert "open loop, 2000 requests/s" in shown.output
    assert "could not be sent in time (10 ms)" in shown.output
    for line in ("latency from the scheduled instant", "service time from sending"):
        assert line in shown.output
    assert "p50 3.0, p95 3.0, p99 3.0, max 3.0 ms" in shown.output  # what the double says it took
    (path,) = (tmp_path / "home" / "reports" / "load").iterdir()
    kept = pd.read_parquet(path)
    assert len(kept) == 20
    with opened_log() as log:
        assert set(kept["request_id"]) == set(log.routed()["request_id"])


def test_what_was_measured_is_kept_when_the_gateway_falls_silent(
    command: Command, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def falls_silent(_target: str, _bars: np.ndarray, _request: str | None) -> None:
        if len(world.requests) > 8:
            raise GatewayUnavailableError("connection refused")

    monkeypatch.setattr("financial_assets.experiment.replay.asking._FIRST_WAIT_S", 0.0)
    world.before = falls_silent
    refused = command("--sessions", "10", "--rate", "5000", "--workers", "2")
    assert refused.exit_code == 1
    assert "financial-assets serve" in refused.output
    (path,) = (tmp_path / "home" / "reports" / "load").iterdir()
    assert len(pd.read_parquet(path)) >= 20


def test_a_better_challenger_is_promoted_in_the_middle_and_the_replay_goes_on(command: Command, world: World) -> None:
    world.skill[CHALLENGER] = 0.98
    shown = command("--sessions", "30", "--decide")
    assert shown.exit_code == 0, shown.output
    with opened_log() as log:
        routed, epochs, decisions = log.routed(), log.epochs(), log.decisions("ab-experiment")
    assert [decision.action for decision in decisions[:-1]] == ["hold"] * (len(decisions) - 1)
    assert decisions[-1].action == "promote"
    assert 8 <= len(decisions) < 25
    assert [epoch.weights for epoch in epochs] == [{CHAMPION: 70, CHALLENGER: 30}, {CHALLENGER: 100}]
    last = pd.Timestamp(decisions[-1].as_of)
    assert set(routed.loc[routed["session"] > last, "model"]) == {CHALLENGER}
    assert (routed["session"] <= last).equals(routed["epoch"] == 1)
    assert not routed.duplicated(["session", "ticker"]).any()
    assert len(routed) == 30 * 4
    assert world.aliases[-6:-4] == [("champion", 2), ("challenger", None)]
    assert world.tracked == list(decisions)
    assert world.fitted == 1  # the baselines' predictions are computed once
    assert f"{len(decisions)} decisions, 1 weight epochs opened by them" in shown.output
    again = command("--sessions", "30", "--decide")
    assert "0 routed requests" in again.output
    with opened_log() as log:
        assert log.decisions("ab-experiment") == decisions


def test_an_interrupted_deciding_replay_ends_as_an_uninterrupted_one(command: Command, world: World) -> None:
    world.skill[CHALLENGER] = 0.02
    assert command("--sessions", "3", "--decide").exit_code == 0
    shown = command("--sessions", "30", "--decide")
    assert shown.exit_code == 0, shown.output
    with opened_log() as log:
        routed, decisions, epoch = log.routed(), log.decisions("ab-experiment"), log.epochs()[-1]
    assert decisions[-1].action == "rollback"
    assert epoch.weights == {CHAMPION: 100}
    assert set(routed.loc[routed["session"] > decisions[-1].as_of, "model"]) == {CHAMPION}
    assert len(routed) == 120


def test_a_decision_that_was_missed_is_taken_by_the_next_replay(
    command: Command, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when all of a session was in the log and nothing decided yet."""
    from financial_assets.workflows import replay as module

    taken, decide = [0], module.decide_as_of

    def killed(*values: Any, **options: Any) -> tuple[Decision, ...]:
        taken[0] += 1
        if taken[0] == 3:
            raise KeyboardInterrupt
        return decide(*values, **options)

    monkeypatch.setattr(module, "decide_as_of", killed)
    assert command("--sessions", "4", "--decide").exit_code == 130
    shown = command("--sessions", "4", "--decide")
    assert "2 decisions, 0 weight epochs opened" in shown.output
    with opened_log() as log:
        sessions, decisions = log.routed()["session"].unique(), log.decisions("ab-experiment")
    assert [pd.Timestamp(one.as_of) for one in decisions] == list(sessions)
    assert len(decisions) == 4


def test_the_ladder_is_climbed_during_the_replay(command: Command, world: World, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.format(mode="ladder"))
    with opened_log() as log:
        Rollout(log, make_resources(load_settings())["ab_test"].policy()).take_step(10, "bottom of the ladder")
    assert command("--sessions", "12", "--decide").exit_code == 0
    with opened_log() as log:
        routed, epochs = log.routed(), log.epochs()
    assert [epoch.weights[CHALLENGER] for epoch in epochs] == [30, 10, 50]
    assert routed.groupby("epoch")["session"].nunique().to_dict() == {2: 4, 3: 8}
    assert [sum(weights.values()) for weights in (world.weights,)] == [100]
    assert world.weights == {CHAMPION: 50, CHALLENGER: 50}
