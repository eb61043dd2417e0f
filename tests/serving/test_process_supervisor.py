from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from financial_assets.errors import NotReadyError, TargetError
from financial_assets.locking import exclusive, is_held
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import Layout, Ports, pick_ports, read_ports
from financial_assets.serving.local.processes.orphans import find_processes
from financial_assets.serving.local.processes.process import (
    ChildState,
    Identity,
    ProcessSpec,
    SupervisorState,
    answers,
    read_specs,
    write_specs,
)
from financial_assets.serving.local.processes.watchdog import ProcessWatchdog
from tests import waiting

SERVER = textwrap.dedent(
    """
    import http.server, signal, sys
    if "deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
        def log_message(self, *_):
            print("asked", flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    """
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spec(folder: Path, *arguments: str, command: tuple[str, ...] | None = None, **change: Any) -> ProcessSpec:
    port = free_port()
    return ProcessSpec(
        **{
            "name": "dummy",
            "command": command or (sys.executable, "-S", "-c", SERVER, str(port), *arguments),
            "cwd": str(folder),
            "health_url": f"http://127.0.0.1:{port}/",
            "health_interval_s": 0.05,
            "health_timeout_s": 0.3,
            "health_failures": 2,
            "stop_grace_s": 0.3,
            **change,
        }
    )


def wait(condition: Callable[[], object]) -> None:
    waiting.wait("the condition holds", condition, poll_s=0.02)


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[[ProcessSpec], ProcessWatchdog]]:
    watchdogs: list[ProcessWatchdog] = []

    def start(what: ProcessSpec) -> ProcessWatchdog:
        watchdogs.append(ProcessWatchdog(what, tmp_path, lambda: None))
        watchdogs[-1].start()
        return watchdogs[-1]

    yield start
    for watchdog in watchdogs:
        watchdog.end()
        watchdog.join(timeout=10)
        assert not watchdog.is_alive()


def pid_of(watchdog: ProcessWatchdog) -> int:
    wait(lambda: watchdog.state.state == "running")
    assert watchdog.state.identity is not None
    return watchdog.state.identity.pid


def test_a_killed_process_comes_back_and_the_reason_is_told(keep: Any, tmp_path: Path) -> None:
    watchdog = keep(spec(tmp_path))
    first = pid_of(watchdog)
    os.kill(first, signal.SIGKILL)
    wait(lambda: watchdog.state.restarts == 1)
    assert watchdog.state.last_exit == "killed by SIGKILL"
    assert pid_of(watchdog) != first
    assert "asked" in (tmp_path / "dummy.log").read_text()


def test_a_hung_process_is_killed_and_comes_back(keep: Any, tmp_path: Path) -> None:
    watchdog = keep(spec(tmp_path))
    first = pid_of(watchdog)
    os.kill(first, signal.SIGSTOP)
    wait(lambda: watchdog.state.restarts == 1)
    assert "did not answer" in watchdog.state.last_exit
    assert pid_of(watchdog) != first
    assert not psutil.pid_exists(first)


def test_a_busy_process_is_not_taken_for_hung_unless_it_is_busy_for_ever(keep: Any, tmp_path: Path) -> None:
    """One thread serves; from its third answer on it works instead, for two seconds or for ever."""
    code = textwrap.dedent(
        """
        import http.server, sys, time
        class Handler(http.server.BaseHTTPRequestHandler):
            asked = 0
            def do_GET(self):
                Handler.asked += 1
                until = time.monotonic() + float(sys.argv[2]) * (Handler.asked == 3)
                while time.monotonic() < until:
                    pass
                self.send_response(200)
                self.end_headers()
        http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
        """
    )

    def busy(seconds: str, **change: Any) -> ProcessSpec:
        port = free_port()
        command = (sys.executable, "-S", "-c", code, str(port), seconds)
        return spec(tmp_path, command=command, health_url=f"http://127.0.0.1:{port}/", **change)

    watchdog = keep(busy("2"))
    log = tmp_path / "dummy.log"
    wait(lambda: log.exists() and log.read_text().count("GET") >= 6)
    assert (watchdog.state.state, watchdog.state.restarts) == ("running", 0)
    endless = keep(busy("1e9", name="endless", busy_grace_s=0.5))
    wait(lambda: "for 0.5 s, busy all the time" in endless.state.last_exit)


def test_what_has_been_well_waits_no_longer_than_its_own_start_takes(
    keep: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watchdog = keep(spec(tmp_path))
    starts: list[float] = []
    for killed in range(1, 6):
        os.kill(pid_of(watchdog), signal.SIGKILL)
        starts.append(watchdog._start_s)
        wait(lambda killed=killed: watchdog.state.restarts == killed)
    delays = [record.args[2] for record in caplog.records if "starting again" in record.msg]  # type: ignore[index]
    assert len(delays) == len(starts)
    assert all(delay <= start for delay, start in zip(delays, starts, strict=True)), (delays, starts)


def test_a_crash_loop_slows_down_and_is_told(keep: Any, tmp_path: Path) -> None:
    began = time.monotonic()
    watchdog = keep(spec(tmp_path, command=(sys.executable, "-S", "-c", "raise SystemExit(3)")))
    wait(lambda: watchdog.state.restarts == 3)
    assert time.monotonic() - began > 0.2 + 0.4
    assert watchdog.state.last_exit == "ended with exit status 3"
    assert watchdog.state.state == "back-off"


def test_a_process_that_cannot_start_or_never_answers_is_told(keep: Any, tmp_path: Path) -> None:
    missing = keep(spec(tmp_path, command=(str(tmp_path / "no-such-program"),)))
    wait(lambda: "could not be started" in missing.state.last_exit)
    silent = keep(
        spec(tmp_path, command=(sys.executable, "-S", "-c", "import time; time.sleep(60)"), start_grace_s=0.3)
    )
    wait(lambda: "within 0.3 s of its start" in silent.state.last_exit)


def test_ending_is_bounded_even_for_the_deaf(keep: Any, tmp_path: Path) -> None:
    watchdog = keep(spec(tmp_path, "deaf"))
    pid = pid_of(watchdog)
    began = time.monotonic()
    watchdog.end()
    watchdog.join(timeout=10)
    assert 0.3 <= time.monotonic() - began < 5
    assert not psutil.pid_exists(pid)
    assert watchdog.state.state == "stopped"


def test_an_empty_variable_is_taken_away(keep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLSERVER_HTTP_PORT", "1")
    code = "import os; print(sorted(k for k in os.environ if k.startswith('MLSERVER') or k == 'ADDED'), flush=True)"
    environment = {"MLSERVER_HTTP_PORT": "", "ADDED": "1"}
    watchdog = keep(spec(tmp_path, command=(sys.executable, "-S", "-c", code), environment=environment))
    wait(lambda: watchdog.state.restarts >= 1)
    assert (tmp_path / "dummy.log").read_text().splitlines()[0] == "['ADDED']"


def test_an_identity_is_not_fooled_by_a_reused_id(tmp_path: Path) -> None:
    me = Identity.of(os.getpid())
    assert me is not None
    assert me.find() is not None
    assert Identity(me.pid, me.created - 3600).find() is None
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    identity = Identity.of(ended.pid)
    wait(lambda: psutil.Process(ended.pid).status() == psutil.STATUS_ZOMBIE)
    assert identity is not None
    assert identity.find() is None, "a zombie runs no more"
    ended.wait()
    assert Identity.of(ended.pid) is None


def test_specs_and_state_survive_their_files(tmp_path: Path) -> None:
    specs = (spec(tmp_path, environment={"A": "b"}), spec(tmp_path, name="other"))
    write_specs(tmp_path / "processes.json", specs)
    assert read_specs(tmp_path / "processes.json") == specs
    state = SupervisorState(
        Identity(1, 2.5),
        (ChildState("a", None, "back-off", 2, "x"), ChildState("b", Identity(3, 4.0), "running", 0, "")),
    )
    state.write(tmp_path / "state.json")
    assert SupervisorState.read(tmp_path / "state.json") == state


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", '{"identity": 3, "children": []}', '{"identity": {"pid": 1}}']
)
def test_a_damaged_state_file_means_that_nothing_is_known(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "supervisor.json"
    if content is not None:
        path.write_text(content)
    assert SupervisorState.read(path) is None


def test_stop_ends_nobody_elses_process(tmp_path: Path) -> None:
    """A stale state file whose process ids now belong to others."""
    layout = Layout(tmp_path)
    layout.root.mkdir(parents=True)
    mine = Identity.of(os.getpid())
    assert mine is not None
    other = Identity(mine.pid, mine.created - 100)
    SupervisorState(other, (ChildState("envoy", other, "running", 0, ""),)).write(layout.supervisor_state)
    layout.supervisor_lock.touch()
    assert control.stop(tmp_path) is False
    assert control.stop(tmp_path / "never started") is False


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Layout]:
    """A supervisor over one dummy, as a process of its own."""
    layout = Layout(tmp_path)
    layout.logs.mkdir(parents=True)
    write_specs(layout.specs, [spec(layout.root)])
    run_supervisor(layout)
    wait(lambda: children(layout) and children(layout)[0].state == "running")
    yield layout
    control.stop(tmp_path)
    assert not is_held(layout.supervisor_lock)


def run_supervisor(layout: Layout) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "financial_assets.serving.local.supervisor", str(layout.home)]
    with (layout.logs / "supervisor.log").open("a") as log:  # a pipe would stay open as long as the supervisor lives
        return subprocess.run(command, stdout=log, stderr=log, timeout=30, check=True)


def supervisor_of(layout: Layout) -> Identity | None:
    state = SupervisorState.read(layout.supervisor_state)
    return state.identity if state else None


def children(layout: Layout) -> tuple[ChildState, ...]:
    state = SupervisorState.read(layout.supervisor_state)
    return state.children if state else ()


def test_a_second_supervisor_leaves_the_first_alone(supervised: Layout) -> None:
    before = SupervisorState.read(supervised.supervisor_state)
    run_supervisor(supervised)
    time.sleep(0.5)
    assert SupervisorState.read(supervised.supervisor_state) == before
    assert answers(read_specs(supervised.specs)[0].health_url, 1)


def test_the_supervisor_is_detached(supervised: Layout) -> None:
    state = SupervisorState.read(supervised.supervisor_state)
    assert state is not None
    assert os.getsid(state.identity.pid) == state.identity.pid
    assert psutil.Process(state.identity.pid).ppid() != os.getpid()


def test_stop_leaves_no_process(supervised: Layout) -> None:
    state = SupervisorState.read(supervised.supervisor_state)
    assert state is not None
    members = [state.identity, *(child.identity for child in state.children if child.identity)]
    assert control.stop(supervised.home) is True
    assert [member for member in members if member.find()] == []
    assert control.stop(supervised.home) is False


def test_a_killed_supervisor_leaves_children_that_stop_finds(supervised: Layout) -> None:
    state = SupervisorState.read(supervised.supervisor_state)
    assert state is not None
    os.kill(state.identity.pid, signal.SIGKILL)
    wait(lambda: not is_held(supervised.supervisor_lock))
    assert answers(read_specs(supervised.specs)[0].health_url, 1), "the child serves on"
    supervised.supervisor_state.unlink()
    assert [child.state for child in control.children(supervised.home)] == ["running"]
    assert control.stop(supervised.home) is True
    assert not answers(read_specs(supervised.specs)[0].health_url, 1)


def test_the_next_supervisor_keeps_the_children_of_a_killed_one(supervised: Layout) -> None:
    before = SupervisorState.read(supervised.supervisor_state)
    assert before is not None
    os.kill(before.identity.pid, signal.SIGKILL)
    wait(lambda: not is_held(supervised.supervisor_lock))
    run_supervisor(supervised)
    assert is_held(supervised.supervisor_lock), "held from the moment on at which the caller goes on"
    wait(lambda: supervisor_of(supervised) != before.identity and children(supervised)[0].state == "running")
    [child] = children(supervised)
    assert (child.identity, child.restarts) == (before.children[0].identity, 0)
    assert child.identity is not None
    os.kill(child.identity.pid, signal.SIGKILL)
    wait(lambda: children(supervised)[0].restarts == 1 and children(supervised)[0].state == "running")
    assert children(supervised)[0].identity != child.identity
    assert "known only to the supervisor that started it" in children(supervised)[0].last_exit


def test_a_supervisor_killed_during_a_start_ends_the_wait_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    silent = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
    spec_ = ProcessSpec("mlserver", silent, str(tmp_path), "http://127.0.0.1:9/")
    monkeypatch.setattr(control, "plane_specs", lambda *_: (spec_,))
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(control.start, tmp_path, timeout_s=60)
        wait(lambda: {"mlserver", "supervisor"} <= set(find_processes(layout)))
        os.kill(find_processes(layout)["supervisor"].pid, signal.SIGKILL)
        with pytest.raises(NotReadyError, match=r"its supervisor ended; .*supervisor\.log ends: .*start it again"):
            started.result(timeout=60)
    assert find_processes(layout) == {}


def test_a_plane_whose_home_was_removed_ends_by_itself(supervised: Layout) -> None:
    state, [dummy] = SupervisorState.read(supervised.supervisor_state), read_specs(supervised.specs)
    assert state is not None
    shutil.rmtree(supervised.root)
    wait(lambda: state.identity.find() is None)
    assert not answers(dummy.health_url, 1)
    assert not supervised.root.exists()


def test_a_lock_waits_and_then_says_for_what(tmp_path: Path) -> None:
    path = tmp_path / "apply.lock"
    assert not is_held(path)
    with exclusive(path, 1, error=NotReadyError, purpose="this test"):
        assert is_held(path)
        with (
            pytest.raises(NotReadyError, match="wanted for a second holder; wait"),
            exclusive(path, 0.1, error=NotReadyError, purpose="a second holder", remedy="wait"),
        ):
            pytest.fail("two holders")
    assert not is_held(path)
    with exclusive(path, 0.1, error=NotReadyError, purpose="after the first"):
        pass


def test_asking_for_a_lock_disturbs_neither_askers_nor_takers(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.lock"
    path.touch()
    with path.open("r+") as asker:
        fcntl.flock(asker, fcntl.LOCK_SH)
        assert not is_held(path)


def test_a_start_that_cannot_succeed_fails_soon_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ProcessSpec(
        "mlserver", (sys.executable, "-S", "-c", "raise SystemExit('no room')"), str(tmp_path), "http://127.0.0.1:9/"
    )
    monkeypatch.setattr(control, "plane_specs", lambda *_: (broken,))
    with pytest.raises(
        NotReadyError, match=r"mlserver ended with exit status 1, \d+ times; .*mlserver\.log ends: .*no room"
    ):
        control.start(tmp_path, timeout_s=30)
    assert not control.is_running(tmp_path)
    assert control.stop(tmp_path) is False


def test_a_watchdog_that_fails_continues(keep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stumbles = iter([True])
    watch = ProcessWatchdog._watch

    def stumble(self: ProcessWatchdog, process: Any) -> str | None:
        if next(stumbles, False):
            raise RuntimeError("no such luck")
        return watch(self, process)

    monkeypatch.setattr(ProcessWatchdog, "_watch", stumble)
    watchdog = keep(spec(tmp_path))
    assert pid_of(watchdog)
    assert "no such luck" in watchdog.state.last_exit


def test_kept_ports_are_kept_while_free_and_replaced_when_taken(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    ports = pick_ports(file, Ports)
    assert len(set(vars(ports).values())) == 6
    assert pick_ports(file, Ports) == ports == read_ports(file, Ports)
    assert set(vars(ports).values()).isdisjoint(vars(pick_ports(tmp_path / "other.json", Ports)).values())
    assert ports.mirror not in vars(pick_ports(file, Ports, taken=[ports.mirror])).values()
    ports = pick_ports(file, Ports)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.admin))
        taken.listen()
        assert ports.admin not in vars(pick_ports(file, Ports)).values()


def test_a_damaged_ports_file_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    assert read_ports(file, Ports) is None
    file.write_text(json.dumps(vars(Ports(*range(1, 7)))))
    assert read_ports(file, Ports) == Ports(*range(1, 7))
    file.write_text(json.dumps({"gateway": "x"}))
    with pytest.raises(TargetError, match="remove it and start again"):
        read_ports(file, Ports)
