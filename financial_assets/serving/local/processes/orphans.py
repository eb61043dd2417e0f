"""The processes of a plane, found whether or not its supervisor lives to tell of them."""

from __future__ import annotations

from pathlib import Path

import psutil

from financial_assets.serving.local.layout import Layout
from financial_assets.serving.local.processes.process import SupervisorState, end_process

__all__ = ["SUPERVISOR", "end_orphans", "find_processes", "mark"]

SUPERVISOR = "supervisor"
_MARK = "FINANCIAL_ASSETS_PLANE_PROCESS"


def mark(root: Path, name: str) -> dict[str, str]:
    """The variable by which a process of the plane in ``root`` is known: no state file is needed to find it again."""
    return {_MARK: f"{root.resolve()}|{name}"}


def find_processes(layout: Layout) -> dict[str, psutil.Process]:
    """Name -> process of all that run for this plane now, its supervisor included."""
    found: dict[str, psutil.Process] = {}
    # Planes that were started before there were marks are known by their state file alone.
    state = SupervisorState.read(layout.supervisor_state)
    for child in state.children if state else ():
        process = child.identity.find() if child.identity else None
        if process is not None:
            found[child.name] = process
    for process in psutil.process_iter():
        try:
            root, _, name = process.environ().get(_MARK, "").rpartition("|")
            if root == str(layout.root.resolve()) and process.status() != psutil.STATUS_ZOMBIE:
                found[name] = process
        except (psutil.Error, OSError):  # it has ended, or belongs to somebody else
            continue
    return found


def end_orphans(layout: Layout) -> bool:
    """End what a killed supervisor left behind; it holds the ports. Returns whether there was anything."""
    left = find_processes(layout)
    for process in left.values():
        end_process(process, 3)
    return bool(left)
