"""A plane that is away for a while, and a lock that is lost: what a replay waits for, sends again, and never does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
import sqlalchemy as sa
from rich.console import Console

from financial_assets.errors import (
    GatewayUnavailableError,
    InferenceTimeoutError,
    LockLostError,
    LogError,
    NotReadyError,
    ReplayError,
)
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log import lock as log_lock
from financial_assets.experiment.prediction_log.holder import LockHolder
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.counts import ReplayReport
from financial_assets.experiment.replay.open_loop import OpenLoop
from financial_assets.market.panel import PricePanel
from financial_assets.serving.client.answers import Answer
from tests.experiment.builders import CHALLENGER, CHAMPION, CUTOFF, FakeGateway, panel, play
from tests.experiment.replay.replay_child import start_child
from tests.waiting import wait, wait_on

REFUSED = GatewayUnavailableError("connection refused", answered=False)


def run(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel, gateway: FakeGateway, count: int = 10, **options: object
) -> ReplayReport:
    sessions = prices.sessions[prices.sessions > CUTOFF][:count]
    connect = options.pop("connect", gateway.connect)
    return play(log, epoch, prices, sessions, connect, **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("financial_assets.experiment.replay.readiness._POLL_S", 0.001)


class Outage:
    """The plane is away from one request on, until it was asked ``asks`` times whether it is back."""

    def __init__(self, after: int, asks: int = 5) -> None:
        self.after, self.left = after, asks
        self.swallowed: list[str] = []
        self.lock = threading.Lock()
        self.sent = 0

    def before(self, _target: str, _bars: np.ndarray, request: str | None) -> None:
        with self.lock:
            self.sent += 1
            if self.sent > self.after and self.left > 0:
                self.swallowed.append(request or "pair")
                raise REFUSED

    def down(self, _model: str) -> str:
        with self.lock:
            if self.sent > self.after and self.left > 0:
                self.left -= 1
                return "nobody there"
            return ""


@pytest.mark.parametrize("load", [None, OpenLoop(2000.0, seed=1)], ids=["closed", "open"])
@pytest.mark.parametrize("after", [0, 13, 15, 17], ids=["first", "routed", "last", "pairs"])
def test_what_was_never_answered_is_sent_again_and_nothing_else(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel, load: OpenLoop | None, after: int
) -> None:
    outage = Outage(after)
    gateway = FakeGateway(before=outage.before, down=outage.down)
    console = Console(file=io.StringIO(), width=200)
    report = run(log, epoch, prices, gateway, count=4, load=load, console=console)
    assert (report.sent, report.ok, report.failed, report.unattributed, report.direct) == (16, 16, 0, 0, 48)
    assert outage.swallowed
    routed = [request for request in outage.swallowed if request != "pair"]
    assert (report.unanswered, report.repeated) == (len(routed), len(set(routed)))
    answered = Counter(gateway.requests) - Counter(routed)
    assert set(answered.values()) == {1}
    assert sorted(answered) == sorted(log.routed()["request_id"])
    assert log.direct()["status"].eq("ok").all()
    assert report.waits >= 1
    assert report.waited_s > 0
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "waiting for the gateway (0 s of 120 s): nobody there" in said
    assert gateway.opened == gateway.closed
    assert not any(request in gateway.pinned for request in gateway.requests)  # no arm was named: drawn anew


def test_nothing_is_sent_before_all_arms_answer(log: PredictionLog, epoch: WeightEpoch, prices: PricePanel) -> None:
    """Else the requests of the arm that is away would move to the other one."""
    outage, waited = Outage(after=8, asks=0), [0]

    def before(target: str, bars: np.ndarray, request: str | None) -> None:
        outage.sent += 1
        if outage.sent == 9:  # the second request of the second session
            raise REFUSED
        assert outage.sent < 9 or waited[0] == 20, "sent into half a plane"

    def down(model: str) -> str:
        if model != CHALLENGER or waited[0] == 20:
            return ""
        waited[0] += 1
        return "the challenger is away"

    gateway = FakeGateway(before=before, down=down)
    assert run(log, epoch, prices, gateway, count=4, workers=1).ok == 16
    assert set(gateway.asked_ready) == {CHAMPION, CHALLENGER}  # a shadow gets no routed requests


def test_the_arm_that_was_drawn_stays_the_one_that_is_asked(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    """A slow arm has more requests under way when a server dies: drawn anew, a part of them would be lost to it."""
    rng = np.random.default_rng(4)

    class Drawing(FakeGateway):
        """Draws at every sending; all that the challenger gets at first meets the death of its server."""

        def draw(self, request_id: str) -> str:
            model = CHALLENGER if rng.random() < 0.3 else CHAMPION
            first.setdefault(request_id, model)
            return model

        def infer(
            self, target: str, bars: np.ndarray, *, route: str | None = None, request_id: str | None = None
        ) -> Answer:
            answer = super().infer(target, bars, route=route, request_id=request_id)
            if route is None and answer.route == CHALLENGER:
                raise GatewayUnavailableError(
                    "503", status=503, route=CHALLENGER, sticky=f":{CHALLENGER}_4:", answered=False
                )
            return answer

    first: dict[str, str] = {}
    gateway = Drawing()
    assert run(log, epoch, prices, gateway, count=20).ok == 80
    rows = log.routed().set_index("request_id")["model"]
    assert rows.to_dict() == first
    assert set(gateway.pinned.values()) == {f":{CHALLENGER}_4:"}


@pytest.mark.parametrize("route", [CHALLENGER, None])
@pytest.mark.parametrize("load", [None, OpenLoop(2000.0, seed=1)], ids=["closed", "open"])
def test_a_request_that_takes_the_server_down_is_found_alone_and_costs_no_other(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel, route: str | None, load: OpenLoop | None
) -> None:
    poison = f"ab-experiment.1.{prices.sessions[prices.sessions > CUTOFF][1].date()}.T02"
    dead = threading.Event()

    def before(_target: str, _bars: np.ndarray, request: str | None) -> None:
        if request == poison:
            dead.set()
        if dead.is_set():
            raise GatewayUnavailableError("503", status=503, route=route, answered=False)

    def back(_model: str) -> str:
        dead.clear()
        return ""

    gateway = FakeGateway(before=before, down=back)
    report = run(log, epoch, prices, gateway, count=4, load=load)
    assert (report.ok, report.failed + report.unattributed) == (15, 1)
    (row,) = log.routed().query("status != 'ok'").itertuples()
    assert (row.request_id, row.failure, row.model) == (poison, "failed", route)
    assert row.error.startswith("sent 3 times to a plane that was ready")
    assert Counter(gateway.requests)[poison] == 3


@pytest.mark.parametrize("away", [True, False])
def test_a_deadline_that_passes_while_nobody_is_there_is_no_failure(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel, away: bool
) -> None:
    """The gateway waits for a server that is away, for longer than the client; a server that is there was too slow."""
    late, asked = [f"ab-experiment.1.{prices.sessions[prices.sessions > CUTOFF][1].date()}.T02"], [0]

    def before(_target: str, _bars: np.ndarray, request: str | None) -> None:
        if request in late:
            late.clear()
            raise InferenceTimeoutError("no answer within 10 s")

    def down(_model: str) -> str:
        asked[0] += 1
        return "503" if away and asked[0] == 1 else ""

    report = run(log, epoch, prices, FakeGateway(before=before, down=down), count=4)
    assert (report.ok, report.unattributed, report.repeated) == ((16, 0, 1) if away else (15, 1, 0))


def test_a_plane_that_stays_away_ends_the_replay_with_its_requests_open(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    outage = Outage(after=9, asks=10**9)
    gateway = FakeGateway(before=outage.before, down=outage.down)
    with pytest.raises(ReplayError, match=r"waited 0.05 s \(READY_TIMEOUT\).*nobody there.*financial-assets serve"):
        run(log, epoch, prices, gateway, ready_timeout=0.05, workers=1)
    rows = log.routed()
    assert set(rows["status"]) == {"ok", "pending"}
    answered = set(rows.query("status == 'ok'")["request_id"])
    again = FakeGateway()
    assert run(log, epoch, prices, again).ok == 40 - len(answered)
    assert not answered & set(again.requests)


def test_a_gateway_that_comes_back_elsewhere_is_found(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel
) -> None:
    """The first one dies for ever; while none runs the target says so; then it names another one."""
    outage = Outage(after=6, asks=10**9)
    old, new, asks = FakeGateway(before=outage.before, down=outage.down), FakeGateway(), [0]

    def connect() -> object:
        if outage.sent <= 6:
            return old.connect()
        asks[0] += 1
        if asks[0] < 20:
            raise NotReadyError("no plane runs")
        return new.connect()

    report = run(log, epoch, prices, old, connect=connect, load=OpenLoop(500.0, seed=2))
    assert (report.ok, report.failed, report.unattributed) == (40, 0, 0)
    answered = Counter(old.requests + new.requests) - Counter(outage.swallowed)
    assert sorted(answered.elements()) == sorted(log.routed()["request_id"])


@pytest.mark.parametrize("phase", ["waiting", "sending again"])
def test_a_replay_killed_in_an_outage_goes_on_where_it_was(
    log: PredictionLog, epoch: WeightEpoch, log_url: str, tmp_path: Path, phase: str
) -> None:
    sent, outage = tmp_path / "sent", tmp_path / "outage"

    def lines(path: Path) -> list[str]:
        return path.read_text().split() if path.exists() else []

    def reached() -> bool:
        asked = lines(outage).count("asked")
        return asked >= 5 if phase == "waiting" else len(lines(outage)) > asked + 8

    with start_child(log_url, str(sent), "0.02", str(outage)) as child:
        wait_on(child, "it was killed", reached, poll_s=0.002)
        os.kill(child.pid, signal.SIGKILL)
    rows = log.routed()
    completed = set(rows.loc[rows["status"] != "pending", "request_id"])
    assert len(completed) < len(rows)
    assert set(rows["status"]) == {"ok", "pending"}
    prices, gateway = panel(sessions=60, tickers=4), FakeGateway()
    run(log, epoch, prices, gateway, count=1000)
    assert not completed & set(gateway.requests)
    assert set(lines(sent)) | set(gateway.requests) == set(log.routed()["request_id"])
    assert len(log.routed()) == 4 * int((prices.sessions > CUTOFF).sum())
    assert log.routed()["status"].eq("ok").all()


# --- the lock ----------------------------------------------------------------------------------------------------


def take_away(log: PredictionLog) -> None:
    """As a replay on another machine does that has not seen this one renew its lock for a minute."""
    with log.engine.connect().execution_options(log_write=True) as connection, connection.begin():
        connection.execute(sa.update(log_lock.locks).values(generation=log_lock.locks.c.generation + 1, released=True))


@pytest.mark.parametrize("load", [None, OpenLoop(300.0, seed=1)], ids=["closed", "open"])
def test_a_replay_that_lost_its_lock_stops_and_sends_nothing_twice(
    log: PredictionLog, epoch: WeightEpoch, prices: PricePanel, load: OpenLoop | None, log_url: str
) -> None:
    first, second = FakeGateway(), FakeGateway()

    def before(_target: str, _bars: np.ndarray, _request: str | None) -> None:
        if len(first.requests) == 10:
            take_away(log)

    first.before = before
    with pytest.raises(LockLostError, match=r"another process has taken its lock.*replay again"):
        run(log, epoch, prices, first, load=load, workers=1)
    with PredictionLog(log_url) as other:
        run(other, epoch, prices, second)
    assert not set(first.requests) & set(second.requests)
    assert sorted(first.requests + second.requests) == sorted(log.routed()["request_id"])
    assert log.routed()["status"].eq("ok").all()


def test_nothing_is_sent_while_the_lock_is_not_confirmed(
    log: PredictionLog, epoch: WeightEpoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(log_lock, "_now", lambda: now[0])
    monkeypatch.setattr(log_lock, "_RENEW_S", 1e6)
    with log.exclusive(epoch.experiment) as lock:
        now[0] += 9
        lock.check()
        now[0] += 2  # the machine slept, or the database is away
        stop = threading.Event()
        stop.set()
        with pytest.raises(LockLostError, match="has not confirmed its lock for 11 s"):
            lock.check(stop)


def test_a_lock_is_renewed_and_that_of_a_dead_process_is_free_at_once(
    log: PredictionLog, log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lock, "_RENEW_S", 0.01)
    with log.exclusive("ab") as lock:
        renewed = lock._renewed_at
        wait("the lock is renewed", lambda: lock._renewed_at != renewed)
    holds = (
        "import sys; from financial_assets.experiment.prediction_log.log import PredictionLog\n"
        "with PredictionLog(sys.argv[1]) as log, log.exclusive('ab'):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holds, log_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LogError, match=f"another replay of ab is running \\(process {child.pid} on"):
            log.exclusive("ab").__enter__()
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with log.exclusive("ab"):
        pass


def test_a_lock_from_another_machine_is_taken_when_it_is_not_renewed(
    log: PredictionLog, log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lock, "_LAPSED_S", 0.2)
    monkeypatch.setattr(log_lock, "_RENEW_S", 0.01)
    monkeypatch.setattr(log_lock, "_TRY_AGAIN_S", 0.05)
    with PredictionLog(log_url) as other, other.exclusive("ab") as lost:
        monkeypatch.setattr(LockHolder, "state", lambda _: "unknown")  # as another machine sees it
        with pytest.raises(LogError, match="another replay of ab is running"):
            log.exclusive("ab").__enter__()
        lost._ended.set()  # it is cut off
        lost._renewer.join()
        with log.exclusive("ab"), pytest.raises(LockLostError), other.engine.connect() as connection:
            lost.prove(connection)


def test_the_row_of_a_lock_keeps_its_format(log: PredictionLog) -> None:
    """Another release may read it, and what another release wrote is understood: an ended process holds nothing."""
    with log.exclusive("ab"), log.engine.connect() as connection:
        holder = json.loads(connection.execute(sa.select(log_lock.locks.c.holder)).scalar_one())
    assert set(holder) == {"host", "space", "pid", "created", "token"}
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    for pid, is_free in ((ended.pid, True), (os.getppid(), False)):
        row = json.dumps(holder | {"pid": pid, "created": psutil.Process(os.getppid()).create_time(), "token": "other"})
        with log.engine.begin() as connection:
            connection.execute(sa.update(log_lock.locks).values(released=False, holder=row))
        with (
            contextlib.nullcontext() if is_free else pytest.raises(LogError, match="another replay of ab"),
            log.exclusive("ab"),
        ):
            pass


def test_unlocking_hides_no_error(log: PredictionLog) -> None:
    def fail() -> None:
        log_lock.locks.drop(log.engine)
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError) as raised, log.exclusive("ab"):
        fail()
    assert "could not be given back" in raised.value.__notes__[0]
    with log.exclusive("ab"):
        log_lock.locks.drop(log.engine)
    with log.exclusive("ab"):  # the process that holds it lives, but this holding ended
        pass
