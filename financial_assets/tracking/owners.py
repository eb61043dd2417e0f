"""Who writes a run: tags that name the owning process, and the check whether it still lives."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import psutil

__all__ = ["OWNER_HOST", "OWNER_PID", "OWNER_STARTED", "owner_is_alive", "owner_tags"]

OWNER_HOST = "financial_assets.owner.host"
OWNER_PID = "financial_assets.owner.pid"
OWNER_STARTED = "financial_assets.owner.started"

# The kernel's boot time, from which start times are computed, moves a little when the clock is set.
_START_TOLERANCE_S = 2.0


def owner_tags() -> dict[str, str]:
    """Host, process id and start time of this process; process ids are used again, together with a start time never."""
    process = psutil.Process()
    return {
        OWNER_HOST: socket.gethostname(),
        OWNER_PID: str(process.pid),
        OWNER_STARTED: f"{process.create_time():.2f}",
    }


def owner_is_alive(tags: Mapping[str, str]) -> bool:
    """Whether the process that owns a run still lives.

    Parameters
    ----------
    tags
        The run's tags.

    Returns
    -------
    bool
        ``True`` also when it cannot be known: the run belongs to another host or carries no readable owner.
    """
    if tags.get(OWNER_HOST) != socket.gethostname():
        return True
    try:
        pid, started = int(tags[OWNER_PID]), float(tags[OWNER_STARTED])
    except (KeyError, ValueError):
        return True
    try:
        process = psutil.Process(pid)
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return alive and abs(process.create_time() - started) <= _START_TOLERANCE_S
    except psutil.NoSuchProcess:
        return False
