"""Finds the processes of a plane, whether or not its supervisor still runs."""

from __future__ import annotations

from pathlib import Path

import psutil

from financial_assets.serving.local.layout import Layout
from financial_assets.serving.local.processes.process import SupervisorState, end_process

SUPERVISOR = "supervisor"
_MARK = "FINANCIAL_ASSETS_PLANE_PROCESS"


def mark(root: Path, name: str) -> dict[str, str]:
    """The environment variable that identifies a process of the plane in ``root`` without any state file."""
    return {_MARK: f"{root.resolve()}|{name}"}


def find_processes(layout: Layout) -> dict[str, psutil.Process]:
    """Name -> process of all that run for this plane now, its supervisor included."""
    processes: dict[str, psutil.Process] = {}
    # Planes that were started by a version without this variable are known by their state file alone.
    state = SupervisorState.read(layout.supervisor_state)
    for child in state.children if state else ():
        process = child.identity.find() if child.identity else None
        if process is not None:
            processes[child.name] = process
    for process in psutil.process_iter():
        try:
            root, _, name = process.environ().get(_MARK, "").rpartition("|")
            if root == str(layout.root.resolve()) and process.status() != psutil.STATUS_ZOMBIE:
                processes[name] = process
        except (psutil.Error, OSError):  # it has ended, or belongs to somebody else
            continue
    return processes


def end_orphans(layout: Layout) -> bool:
    """End what a killed supervisor left behind, which holds the ports. Returns whether there was anything."""
    left = find_processes(layout)
    for process in left.values():
        end_process(process, 3)
    return bool(left)
