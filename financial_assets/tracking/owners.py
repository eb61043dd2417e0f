"""Who executes a run: tags that name the owning process, and the check whether it still lives.

Runs of MLflow and of Dagster carry the same tags. A process id means nothing by itself: it counts on one machine, in
one container, since one start of that machine, and it is used again. The tags hold all of these.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import psutil

OWNER_HOST = "financial_assets.owner.host"
OWNER_MACHINE = "financial_assets.owner.machine"
OWNER_BOOT = "financial_assets.owner.boot"
OWNER_NAMESPACE = "financial_assets.owner.pid_namespace"
OWNER_PID = "financial_assets.owner.pid"
OWNER_STARTED = "financial_assets.owner.started"
OWNER_LOST = "financial_assets.owner.lost"
"""Set on a run that was ended because its owner no longer existed."""

OwnerState = Literal["alive", "gone", "unknown"]

# The kernel's boot time, from which start times are computed, moves a little when the clock is set.
_START_TOLERANCE_S = 2.0
_HOST_NAMESPACE = "pid:[4026531836]"  # the kernel's fixed number of the namespace that is not a container's


def owner_tags() -> dict[str, str]:
    """Host, machine, boot, process namespace, process id and start time of this process; unreadable parts are empty."""
    process = psutil.Process()
    return {
        OWNER_HOST: socket.gethostname(),
        OWNER_PID: str(process.pid),
        OWNER_STARTED: f"{process.create_time():.2f}",
        **_surroundings(),
    }


def owner_state(tags: Mapping[str, str]) -> OwnerState:
    """Whether the process that owns a run still lives.

    Parameters
    ----------
    tags
        The run's tags. Those of earlier releases name host, process id and start time only, and are still read.

    Returns
    -------
    OwnerState
        ``unknown``: the run carries no readable owner, or one of another host or container, whose processes cannot be
        seen from here.
    """
    here = _surroundings()
    if tags.get(OWNER_HOST) != socket.gethostname() or _differs(OWNER_MACHINE, tags, here):
        return "unknown"
    try:
        pid, started = int(tags[OWNER_PID]), float(tags[OWNER_STARTED])
    except (KeyError, ValueError):
        return "unknown"
    if _differs(OWNER_BOOT, tags, here):
        # Containers on two machines may share a host name. Only a machine's own id proves that it is this one.
        both_named = bool(tags.get(OWNER_MACHINE) and here[OWNER_MACHINE])
        no_container = tags.get(OWNER_NAMESPACE) == here[OWNER_NAMESPACE] == _HOST_NAMESPACE
        return "gone" if both_named or no_container else "unknown"
    if _differs(OWNER_NAMESPACE, tags, here):
        return "unknown"
    return "alive" if _lives(pid, started) else "gone"


def owner_is_alive(tags: Mapping[str, str]) -> bool:
    """Whether the owner lives or may live; ``False`` only when it is certainly gone."""
    return owner_state(tags) != "gone"


def describe_owner(tags: Mapping[str, str]) -> str:
    """The owner in words: "process 4711 on host X"; "no known process" when the tags name none."""
    if OWNER_HOST not in tags or OWNER_PID not in tags:
        return "no known process"
    return f"process {tags[OWNER_PID]} on host {tags[OWNER_HOST]}"


def _lives(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return alive and abs(process.create_time() - started) <= _START_TOLERANCE_S
    except psutil.NoSuchProcess:
        return False


def _differs(tag: str, tags: Mapping[str, str], here: Mapping[str, str]) -> bool:
    """Whether both name the part, and name different ones."""
    return bool(tags.get(tag)) and bool(here[tag]) and tags[tag] != here[tag]


@cache
def _surroundings() -> dict[str, str]:
    return {
        OWNER_MACHINE: _first_line("/etc/machine-id"),
        OWNER_BOOT: _first_line("/proc/sys/kernel/random/boot_id"),
        OWNER_NAMESPACE: _namespace(),
    }


def _first_line(path: str) -> str:
    """Empty where the system has no such file: macOS, and images without a machine id."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
