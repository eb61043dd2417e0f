"""Values about processes: how to run one, what became of it, and whether a remembered one still lives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from financial_assets.atomic import atomic_write_text

__all__ = ["Identity", "ProcessSpec", "SupervisorState", "read_specs", "write_specs"]


def _no_environment() -> dict[str, str]:
    return {}


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
        A process whose health fails that often in a row, asked that often and waited for so long, is killed and started again.
    stop_grace_s
        Time between the polite signal and the kill.
    """

    name: str
    command: tuple[str, ...]
    cwd: str
    health_url: str
    environment: Mapping[str, str] = field(default_factory=_no_environment)
    start_grace_s: float = 60.0
    health_interval_s: float = 1.0
    health_timeout_s: float = 5.0
    health_failures: int = 3
    stop_grace_s: float = 8.0


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same id.

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
        """What the file says; ``None`` if it is absent or damaged, which says as much: nothing is known."""
        try:
            document = json.loads(path.read_text())
            children = tuple(
                ChildState(
                    name=str(child["name"]),
                    identity=Identity(**child["identity"]) if child["identity"] else None,
                    state=str(child["state"]),
                    restarts=int(child["restarts"]),
                    last_exit=str(child["last_exit"]),
                )
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
    return tuple(ProcessSpec(**{**document, "command": tuple(document["command"])}) for document in documents)
