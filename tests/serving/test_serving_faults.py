"""Changes and deaths under load."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import GatewayUnavailableError, InferenceError
from financial_assets.experiment.arms import Arm
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.replay import replay
from financial_assets.experiment.replay.request import ReplayHooks, ReplayRequest
from financial_assets.locking import is_held
from financial_assets.resources import Serving
from financial_assets.serving.client.answers import Answer
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import Layout, Ports, pick_ports, read_ports
from financial_assets.serving.local.processes.process import SupervisorState
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import experiment_manifest, model_manifest
from financial_assets.workflows.replay import Connector
from tests import waiting
from tests.experiment.builders import panel

pytestmark = pytest.mark.integration
NAME = "load-experiment"


@dataclass
class Load:
    """Closed-loop clients; every request has exactly one outcome."""

    target: LocalTarget
    bars: Any
    sent: int = 0
    answers: list[str | None] = field(default_factory=list)
    failures: list[InferenceError] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(4)]
        for thread in self._threads:
            thread.start()
        self.wait_for(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        assert self.sent == len(self.answers) + len(self.failures)

    def wait_for(self, more: int) -> None:
        """Wait for that many further answers."""
        wanted = len(self.answers) + more
        waiting.wait(
            f"{wanted} answers", lambda: len(self.answers) >= wanted, progress=lambda: len(self.answers), poll_s=0.01
        )

    def _run(self, number: int) -> None:
        with InferenceClient(self.target.endpoint(), timeout_s=30) as client:
            ask = (client.infer, client.infer_batch)[number % 2]
            while not self._ending.is_set():
                with self._lock:
                    self.sent += 1
                try:
                    self.answers.append(ask(NAME, self.bars).route)
                except InferenceError as error:
                    self.failures.append(error)
                    time.sleep(0.02)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> Iterator[LocalTarget]:
    root: Path = tmp_path_factory.mktemp("faults")
    local = LocalTarget(root / "home", timeout_s=30)
    models = [model_manifest(name, str(write_tiny(root / name, 0.0))) for name in ("a", "b")]
    local.apply([*models, experiment_manifest(NAME, default="a", weights={"a": 50, "b": 50})])
    yield local
    control.stop(root / "home")


def pid(target: LocalTarget, name: str) -> int:
    [process] = [process for process in target.status().processes if process.name == name]
    assert process.pid is not None
    return process.pid


def wait(condition: Callable[[], object]) -> None:
    waiting.wait("the condition holds", condition, poll_s=0.05)


def test_changing_weights_and_models_under_load_fails_no_request(
    target: LocalTarget, bars_of: Any, tmp_path: Path, write_tiny: Any
) -> None:
    with Load(target, bars_of(1)) as load:
        for weights in ({"a": 0, "b": 1}, {"a": 1, "b": 0}, {"a": 30, "b": 70}):
            target.apply([experiment_manifest(NAME, default="a", weights=weights)])
            load.wait_for(5)
        target.apply([model_manifest("c", str(write_tiny(tmp_path / "c", 1.0)))])
        target.apply([experiment_manifest(NAME, default="a", weights={"a": 50, "c": 50}, mirror=("b", 50))])
        load.wait_for(20)
        target.apply([model_manifest("c", str(write_tiny(tmp_path / "c2", 2.0)))])  # c_1 is replaced by c_2
        load.wait_for(20)
        target.apply([experiment_manifest(NAME, default="a", weights={"a": 50, "b": 50})])
        target.delete("Model", "c")
        load.wait_for(20)
    assert load.failures == []
    assert set(load.answers) == {"a", "b", "c"}


def test_a_killed_server_costs_patience_but_no_request(target: LocalTarget, bars_of: Any) -> None:
    with Load(target, bars_of(1)) as load:
        killed = pid(target, "mlserver")
        os.kill(killed, signal.SIGKILL)
        wait(lambda: target.status().ready and pid(target, "mlserver") != killed)
        load.wait_for(50)
    # The gateway's retries (five, from 0.5 s back-off on) bridge the restart unless the machine is very slow.
    assert len(load.failures) <= 4
    assert all(isinstance(error, GatewayUnavailableError) for error in load.failures)
    [server] = [process for process in target.status().processes if process.name == "mlserver"]
    assert (server.restarts, server.last_exit) == (1, "killed by SIGKILL")


def test_a_killed_gateway_recovers_by_itself_and_each_failure_is_counted_once(
    target: LocalTarget, bars_of: Any
) -> None:
    with Load(target, bars_of(1)) as load:
        killed = pid(target, "envoy")
        os.kill(killed, signal.SIGKILL)
        wait(lambda: target.status().ready and pid(target, "envoy") != killed)
        time.sleep(1.5)  # a gRPC channel tries again at most a second later
        failed = len(load.failures)
        load.wait_for(50)
        assert len(load.failures) == failed, "nothing fails any more"
    assert failed
    assert all(isinstance(error, GatewayUnavailableError) and error.route is None for error in load.failures)


def test_a_killed_supervisor_is_replaced_and_interrupts_no_request(target: LocalTarget, bars_of: Any) -> None:
    layout = Layout(target.home)
    before, ports = SupervisorState.read(layout.supervisor_state), control.running_ports(target.home)
    assert before is not None
    with Load(target, bars_of(1)) as load:
        os.kill(before.identity.pid, signal.SIGKILL)
        wait(lambda: not is_held(layout.supervisor_lock))
        assert control.running_ports(target.home) == ports, "other commands find the gateway"
        alone = target.status()
        assert alone.endpoint == target.endpoint()
        assert alone.problems == ("serving, but its supervisor is gone: `financial-assets serve` restores it",)
        with ThreadPoolExecutor(2) as pool:  # two at once; one supervisor results
            assert list(pool.map(lambda _: control.start(target.home), range(2))) == [ports, ports]
        assert target.status().ready
        load.wait_for(20)
    assert load.failures == []
    after = SupervisorState.read(layout.supervisor_state)
    assert after is not None
    assert [child.identity for child in after.children] == [child.identity for child in before.children], "adopted"


def test_a_supervisor_killed_with_the_server_is_replaced_by_the_next_apply(target: LocalTarget, bars_of: Any) -> None:
    layout = Layout(target.home)
    before = SupervisorState.read(layout.supervisor_state)
    assert before is not None
    gateway, server = pid(target, "envoy"), pid(target, "mlserver")
    for one in (before.identity.pid, server):
        os.kill(one, signal.SIGKILL)
    wait(lambda: not is_held(layout.supervisor_lock))
    alone = target.status()
    assert alone.endpoint is not None
    assert "mlserver is gone; last exit: unknown, its supervisor is gone too" in alone.problems
    target.apply([])
    assert target.status().ready
    assert (pid(target, "envoy"), pid(target, "mlserver") != server) == (gateway, True)
    with InferenceClient(target.endpoint()) as client:
        assert client.infer("b", bars_of(1)).route == "b"


@dataclass
class Noting:
    """Connections that note who got an answer; opened as a replay opens them."""

    connector: Connector
    answered: list[str | None] = field(default_factory=list)

    def __call__(self) -> InferenceClient:
        client, infer = self.connector(), self.answered
        ask = client.infer

        def noted(name: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None) -> Answer:
            answer = ask(name, bars, route=route, request_id=request_id)
            infer.append(request_id)
            return answer

        client.infer = noted  # type: ignore[method-assign]
        return client


def test_a_replay_sits_out_every_death_and_asks_for_no_answer_twice(target: LocalTarget, tmp_path: Path) -> None:
    """Server, gateway and supervisor are killed, one after the other, then all at once; they come back elsewhere."""
    layout, prices = Layout(target.home), panel(sessions=290, tickers=5)
    first, *_, last = sessions = prices.sessions[-9:-1]
    cutoff = prices.sessions[-10]
    arms = [Arm("a", "baseline", 1, "champion", 50, cutoff), Arm("b", "enhanced", 2, "challenger", 50, cutoff)]
    before, starting = target.endpoint(), list[threading.Thread]()

    def kill(name: str) -> None:
        state = SupervisorState.read(layout.supervisor_state)
        assert state is not None
        known = {"supervisor": state.identity} | {child.name: child.identity for child in state.children}
        os.kill(known[name].pid, signal.SIGKILL)

    def disturb(session: pd.Timestamp) -> None:
        match list(sessions).index(session):
            case 1:
                kill("mlserver")
            case 3:
                kill("envoy")
            case 4:
                kill("supervisor")
                wait(lambda: not is_held(layout.supervisor_lock))
            case 6:
                kill("mlserver")
                kill("envoy")
                old = read_ports(layout.ports_file, Ports)
                assert old is not None
                layout.ports_file.unlink()
                pick_ports(layout.ports_file, Ports, taken=asdict(old).values())  # where the next one starts
                starting.append(threading.Thread(target=control.start, args=(target.home,)))
                starting[0].start()

    serving = Serving(home=str(target.home), serving_target="local", request_timeout=20, ready_timeout=120)
    connect = Noting(Connector(serving))
    with PredictionLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        request = ReplayRequest(log.open_epoch(NAME, arms, "start", after=0), pd.DatetimeIndex(sessions), 256)
        report = replay(request, log, prices, connect, ReplayHooks(on_session=disturb))
        rows, pairs = log.routed(), log.direct()
    starting[0].join()
    assert (report.ok, report.failed, report.unattributed, report.direct) == (40, 0, 0, 80)
    # The gateway's own retries may bridge the death of the server alone.
    assert report.unanswered >= 1
    assert report.waits >= 1
    assert sorted(connect.answered) == sorted(rows["request_id"])
    assert {first, last} <= set(rows["session"])
    assert rows["status"].eq("ok").all()
    assert pairs["status"].eq("ok").all()
    assert target.endpoint().http_url != before.http_url
