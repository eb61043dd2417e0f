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
from pathlib import Path
from typing import Any

import psutil
import pytest

from financial_assets.errors import NotReadyError, TargetError
from financial_assets.locking import exclusive
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import Layout, Ports, pick_ports
from financial_assets.serving.local.locking import is_held
from financial_assets.serving.local.processes import (
    ChildState,
    Identity,
    ProcessSpec,
    SupervisorState,
    answers,
    end_orphans,
    read_specs,
    write_specs,
)
from financial_assets.serving.local.supervisor import Keeper

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


def wait(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[[ProcessSpec], Keeper]]:
    keepers: list[Keeper] = []

    def start(what: ProcessSpec) -> Keeper:
        keepers.append(Keeper(what, tmp_path, lambda: None))
        keepers[-1].start()
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.end()
        keeper.join(timeout=10)
        assert not keeper.is_alive()


def pid_of(keeper: Keeper) -> int:
    wait(lambda: keeper.state.state == "running")
    assert keeper.state.identity is not None
    return keeper.state.identity.pid


def test_a_killed_process_comes_back_and_the_reason_is_told(keep: Any, tmp_path: Path) -> None:
    keeper = keep(spec(tmp_path))
    first = pid_of(keeper)
    os.kill(first, signal.SIGKILL)
    wait(lambda: keeper.state.restarts == 1)
    assert keeper.state.last_exit == "killed by SIGKILL"
    assert pid_of(keeper) != first
    assert "asked" in (tmp_path / "dummy.log").read_text()


def test_a_hung_process_is_killed_and_comes_back(keep: Any, tmp_path: Path) -> None:
    keeper = keep(spec(tmp_path))
    first = pid_of(keeper)
    os.kill(first, signal.SIGSTOP)
    wait(lambda: keeper.state.restarts == 1)
    assert "did not answer" in keeper.state.last_exit
    assert pid_of(keeper) != first
    assert not psutil.pid_exists(first)


def test_a_crash_loop_slows_down_and_is_told(keep: Any, tmp_path: Path) -> None:
    began = time.monotonic()
    keeper = keep(spec(tmp_path, command=(sys.executable, "-S", "-c", "raise SystemExit(3)")))
    wait(lambda: keeper.state.restarts == 3)
    assert time.monotonic() - began > 0.2 + 0.4
    assert keeper.state.last_exit == "ended with exit status 3"
    assert keeper.state.state == "back-off"


def test_a_process_that_cannot_start_or_never_answers_is_told(keep: Any, tmp_path: Path) -> None:
    missing = keep(spec(tmp_path, command=(str(tmp_path / "no-such-program"),)))
    wait(lambda: "could not be started" in missing.state.last_exit)
    silent = keep(
        spec(tmp_path, command=(sys.executable, "-S", "-c", "import time; time.sleep(60)"), start_grace_s=0.3)
    )
    wait(lambda: "within 0.3 s of its start" in silent.state.last_exit)


def test_ending_is_bounded_even_for_the_deaf(keep: Any, tmp_path: Path) -> None:
    keeper = keep(spec(tmp_path, "deaf"))
    pid = pid_of(keeper)
    began = time.monotonic()
    keeper.end()
    keeper.join(timeout=10)
    assert 0.3 <= time.monotonic() - began < 5
    assert not psutil.pid_exists(pid)
    assert keeper.state.state == "stopped"


def test_an_empty_variable_is_taken_away(keep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLSERVER_HTTP_PORT", "1")
    code = "import os; print(sorted(k for k in os.environ if k.startswith('MLSERVER') or k == 'ADDED'), flush=True)"
    environment = {"MLSERVER_HTTP_PORT": "", "ADDED": "1"}
    keeper = keep(spec(tmp_path, command=(sys.executable, "-S", "-c", code), environment=environment))
    wait(lambda: keeper.state.restarts >= 1)
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
    assert end_orphans(path) is False


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
    assert control.stop(supervised.home) is True
    assert not answers(read_specs(supervised.specs)[0].health_url, 1)


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


def test_a_keeper_that_stumbles_goes_on(keep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stumbles = iter([True])
    watch = Keeper._watch

    def stumble(self: Keeper, process: Any) -> str | None:
        if next(stumbles, False):
            raise RuntimeError("no such luck")
        return watch(self, process)

    monkeypatch.setattr(Keeper, "_watch", stumble)
    keeper = keep(spec(tmp_path))
    assert pid_of(keeper)
    assert "no such luck" in keeper.state.last_exit


def test_kept_ports_are_kept_while_free_and_replaced_when_taken(tmp_path: Path) -> None:
    ports = pick_ports(tmp_path, None)
    assert len(set(vars(ports).values())) == 7
    assert pick_ports(tmp_path, ports) == ports
    assert set(vars(ports).values()).isdisjoint(vars(pick_ports(tmp_path / "other", None)).values())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.admin))
        taken.listen()
        assert ports.admin not in vars(pick_ports(tmp_path, ports)).values()


def test_a_damaged_ports_file_says_what_to_do(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.read_ports() is None
    layout.write_ports(Ports(*range(1, 8)))
    assert layout.read_ports() == Ports(*range(1, 8))
    layout.ports_file.write_text(json.dumps({"gateway": "x"}))
    with pytest.raises(TargetError, match="remove it and start again"):
        layout.read_ports()
