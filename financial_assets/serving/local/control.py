"""Starts, stops and describes the plane of a home, for ``financial-assets serve | stop | status``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import NotReadyError, TargetError
from financial_assets.folders import make_folder
from financial_assets.locking import exclusive, is_held
from financial_assets.serving.local.configuration import plane_specs, static_files
from financial_assets.serving.local.desired import DesiredState
from financial_assets.serving.local.envoy.gateway import EnvoyPublisher
from financial_assets.serving.local.layout import Layout, Ports, pick_ports, read_ports
from financial_assets.serving.local.processes.orphans import SUPERVISOR, end_orphans, find_processes, mark
from financial_assets.serving.local.processes.process import (
    ChildState,
    Identity,
    ProcessSpec,
    SupervisorState,
    end_process,
    package_path,
    read_specs,
    write_specs,
)
from financial_assets.serving.local.waiting import wait_until_well

_START_S = 90.0
_STOP_S = 40.0
_SUPERVISOR = "financial_assets.serving.local.supervisor"


def start(
    home: Path, *, timeout_s: float = _START_S, beside: Callable[[Ports], Sequence[ProcessSpec]] = lambda _: ()
) -> Ports:
    """Start the plane of ``home`` unless it runs; returns when gateway and server answer.

    A plane that runs without its supervisor gets a new one, which adopts the processes as they are. One that another
    version of this package configured is restarted: it would not understand what this version publishes.

    Parameters
    ----------
    home
        State folder.
    timeout_s
        Longest wait.
    beside
        Gives further processes to keep alive with the plane, from its ports; they end last. Not called if the plane
        runs.

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
            ports = read_ports(layout.ports_file, Ports)
            if ports is None:
                raise TargetError(
                    f"{layout.ports_file} is missing while a supervisor runs; stop the plane and start it again"
                )
            if _is_configured(layout, ports):
                wait_until_well(layout, ports, deadline, patient=True)
                return ports
            kept = read_specs(layout.specs)[len(plane_specs(layout, ports)) :]
            _end_plane(layout, _STOP_S)
            ports = _write_configuration(layout, lambda ports: beside(ports) or kept)
        else:
            ports = _adoptable(layout)
        if ports is None:
            end_orphans(layout)
            ports = _write_configuration(layout, beside)
        _spawn_supervisor(layout)
        try:
            wait_until_well(layout, ports, deadline, patient=False)
        except NotReadyError:
            # The next start begins from scratch, with other ports if these were taken.
            _end_plane(layout, _STOP_S)
            raise
    return ports


def _adoptable(layout: Layout) -> Ports | None:
    """The ports of a plane that only lacks a supervisor; ``None`` if it must be restarted.

    It must if its gateway is gone, or if this version of the package would run or configure it differently.
    """
    if not (layout.ports_file.exists() and layout.specs.exists() and "envoy" in find_processes(layout)):
        return None
    try:
        ports, specs = read_ports(layout.ports_file, Ports), read_specs(layout.specs)
    except (TargetError, ValueError, TypeError, KeyError):
        return None  # damaged: what runs is ended, and all files are written again
    if ports is None:
        return None
    # Without the environment, which depends on the shell of whoever started the plane.
    wanted = [(spec.name, spec.command, spec.cwd, spec.health_url) for spec in plane_specs(layout, ports)]
    current = [(spec.name, spec.command, spec.cwd, spec.health_url) for spec in specs[: len(wanted)]]
    return ports if current == wanted and _is_configured(layout, ports) else None


def _is_configured(layout: Layout, ports: Ports) -> bool:
    """Whether the processes were started with what this version of the package would write for them."""
    files = static_files(layout, ports)
    return all(path.exists() and path.read_text() == content for path, content in files.items())


def stop(home: Path, *, timeout_s: float = _STOP_S) -> bool:
    """End every process of the plane; returns whether one ran.

    Raises
    ------
    NotReadyError
        Somebody else is starting or stopping it for longer than ``timeout_s``.
    """
    layout = Layout(home)
    if not layout.root.is_dir():
        return end_orphans(layout)
    with exclusive(layout.start_lock, timeout_s, error=NotReadyError, purpose="stopping the plane"):
        return _end_plane(layout, timeout_s)


def _end_plane(layout: Layout, timeout_s: float) -> bool:
    running = is_held(layout.supervisor_lock)
    if running:
        end_process(_find_supervisor(layout), timeout_s)
    # A supervisor that had to be killed, now or long ago, leaves its children.
    had_orphans = end_orphans(layout)
    layout.supervisor_state.unlink(missing_ok=True)
    return running or had_orphans


def _find_supervisor(layout: Layout) -> psutil.Process:
    """The process that holds the lock; it writes its id right after taking it."""
    for _ in range(100):
        state = SupervisorState.read(layout.supervisor_state)
        process = state.identity.find() if state else None
        process = process or find_processes(layout).get(SUPERVISOR)
        if process is not None:
            return process
        time.sleep(0.05)
    # The file may have been damaged or removed since; the command line of a process cannot be.
    command = [_SUPERVISOR, str(layout.home.absolute())]
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [])[-2:] == command:
            return process
    raise NotReadyError(
        f"{layout.supervisor_lock} is held by a process that {layout.supervisor_state} does not name; "
        f"`fuser {layout.supervisor_lock}` names the one to end"
    )


def is_running(home: Path) -> bool:
    """Whether a supervisor keeps the plane of ``home`` alive; it may serve without one (:func:`running_ports`)."""
    return is_held(Layout(home).supervisor_lock)


def running_ports(home: Path) -> Ports | None:
    """The ports of a plane that has a supervisor, or whose gateway answers without one; ``None`` otherwise.

    Raises
    ------
    TargetError
        Their file is damaged.
    """
    layout = Layout(home)
    if is_held(layout.supervisor_lock):
        return read_ports(layout.ports_file, Ports)
    if not layout.ports_file.exists() or "envoy" not in find_processes(layout):
        return None
    ports = read_ports(layout.ports_file, Ports)
    return ports if ports is not None and EnvoyPublisher(layout, ports).revision() is not None else None


def children(home: Path) -> tuple[ChildState, ...]:
    """The plane's processes, as the supervisor sees them or, if it is gone, as they are found."""
    layout = Layout(home)
    state = SupervisorState.read(layout.supervisor_state)
    recorded = state.children if state else ()
    if is_held(layout.supervisor_lock):
        return recorded
    running = find_processes(layout)
    every = {name: ChildState(name, None, "", 0, "") for name in running} | {child.name: child for child in recorded}
    return tuple(
        replace(child, identity=Identity.of(running[name].pid), state="running")
        if name in running
        else replace(child, identity=None, state="gone", last_exit="unknown, its supervisor is gone too")
        for name, child in every.items()
    )


def _write_configuration(layout: Layout, beside: Callable[[Ports], Sequence[ProcessSpec]]) -> Ports:
    for folder in (layout.logs, layout.models, layout.envoy, layout.mlserver):
        make_folder(folder)
    ports = pick_ports(layout.ports_file, Ports)
    for path, content in static_files(layout, ports).items():
        atomic_write_text(path, content)
    EnvoyPublisher(layout, ports).write(DesiredState.read(layout.desired).topology)
    write_specs(layout.specs, (*plane_specs(layout, ports), *beside(ports)))
    return ports


def _spawn_supervisor(layout: Layout) -> None:
    with (layout.logs / "supervisor.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-P", "-m", _SUPERVISOR, str(layout.home.absolute())],
            cwd=layout.root,
            env={**os.environ, "PYTHONPATH": package_path(), **mark(layout.root, SUPERVISOR)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
            timeout=30,
        )
