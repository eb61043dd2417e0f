"""Values about processes: how to run one, what became of it, and whether a recorded one still runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

import financial_assets
from financial_assets.atomic import atomic_write_text

# Loopback only, so without any proxy from the environment; urllib, because a supervisor should not import httpx.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class ProcessSpec:
    """A process that the supervisor keeps alive.

    Attributes
    ----------
    name
        Unique; names the log file.
    command
        Program and arguments.
    cwd
        Its working folder.
    health_url
        Answers 200 while the process is well.
    environment
        Variables added to the inherited ones; an empty text removes a variable.
    start_grace_s
        Time it may take until it is well for the first time.
    health_interval_s, health_timeout_s, health_failures
        Seconds between two health checks, longest wait for one, and the number of failures in a row after which the
        process is killed and started again.
    busy_grace_s
        Time for which a process that uses the processor while it does not answer counts as busy, not as hung.
    stop_grace_s
        Time between SIGTERM and SIGKILL.
    """

    name: str
    command: tuple[str, ...]
    cwd: str
    health_url: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    start_grace_s: float = 60.0
    health_interval_s: float = 1.0
    health_timeout_s: float = 5.0
    health_failures: int = 3
    busy_grace_s: float = 60.0
    stop_grace_s: float = 8.0


@dataclass(frozen=True)
class Identity:
    """A process, distinguished from a later one with the same id.

    Attributes
    ----------
    pid
        Process id.
    created
        Start time of the process in seconds since the epoch, as the kernel tells it.
    """

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process that has ``pid`` now, ``None`` if there is none."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def find(self) -> psutil.Process | None:
        """The process, if it still runs (a zombie does not)."""
        try:
            process = psutil.Process(self.pid)
            # The kernel's clock ticks are coarse and the boot time is derived, so equal times may differ a little.
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True)
class ChildState:
    """One child as its supervisor sees it; the fields of :class:`~financial_assets.serving.target.ProcessStatus`."""

    name: str
    identity: Identity | None
    state: str
    restarts: int
    last_exit: str


@dataclass(frozen=True)
class SupervisorState:
    """Who the supervisor is and what its children do; kept in a file for everybody else to read."""

    identity: Identity
    children: tuple[ChildState, ...] = ()

    def write(self, path: Path) -> None:
        """Replace the file."""
        atomic_write_text(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> SupervisorState | None:
        """The state in the file; ``None`` if it is absent or damaged: nothing is known then."""
        try:
            document = json.loads(path.read_text())
            children = tuple(
                replace(ChildState(**child), identity=Identity(**child["identity"]) if child["identity"] else None)
                for child in document["children"]
            )
            return cls(Identity(**document["identity"]), children)
        except (OSError, ValueError, KeyError, TypeError):
            return None


def write_specs(path: Path, specs: Sequence[ProcessSpec]) -> None:
    """Keep the specs for the supervisor."""
    atomic_write_text(path, json.dumps([asdict(spec) for spec in specs], indent=1))


def read_specs(path: Path) -> tuple[ProcessSpec, ...]:
    """The specs in ``path``."""
    documents: list[dict[str, Any]] = json.loads(path.read_text())
    return tuple(replace(ProcessSpec(**document), command=tuple(document["command"])) for document in documents)


def package_path() -> str:
    """``PYTHONPATH`` with which a child process imports this very package, wherever it runs."""
    package_root = str(Path(financial_assets.__file__).parents[1])
    return os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))


def answers(url: str, timeout_s: float) -> bool:
    """Whether ``url`` answers 200 within ``timeout_s``."""
    try:
        with _opener.open(url, timeout=timeout_s) as response:
            return response.status == 200
    except (OSError, urllib.error.URLError, ValueError):
        return False


def end_process(process: psutil.Process | subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask a process to end, and kill it when it has not after ``grace_s``."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        process.terminate()
        if not has_ended(process, grace_s):
            process.kill()
            has_ended(process, 10)


def has_ended(process: psutil.Process | subprocess.Popen[bytes], timeout_s: float = 0.0) -> bool:
    """Whether a process ends within ``timeout_s``."""
    if isinstance(process, subprocess.Popen):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
        return process.returncode is not None
    # It is not our child, and its parent may take its time to collect it, so a zombie counts as ended.
    deadline = time.monotonic() + timeout_s
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    return True


def busy_seconds(pid: int) -> float:
    """Processor time that a process has used so far; 0 when it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
