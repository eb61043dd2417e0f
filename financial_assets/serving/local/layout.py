"""Where the local plane keeps its state, and which ports it uses."""

from __future__ import annotations

import json
import socket
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import TargetError

__all__ = ["LOOPBACK", "Layout", "Ports", "free_ports", "is_free", "pick_ports"]

LOOPBACK = "127.0.0.1"
# Below the range from which the kernel takes ports for outgoing connections, which could otherwise occupy one of ours.
_FIRST_PORT, _LAST_PORT = 15000, 32000


@dataclass(frozen=True)
class Ports:
    """TCP ports on the loopback interface; ``gateway`` is the public one (REST and gRPC), the others are internal."""

    gateway: int
    agent: int
    mirror: int
    admin: int
    mlserver_http: int
    mlserver_grpc: int
    mlserver_metrics: int


@dataclass(frozen=True)
class Layout:
    """The files of one plane, all under ``home/serving``.

    Attributes
    ----------
    home
        State folder of the installation (``FINANCIAL_ASSETS_HOME``).
    """

    home: Path

    @property
    def root(self) -> Path:
        """``home/serving``, absolute: Envoy and MLServer run with other working folders."""
        return (self.home / "serving").absolute()

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.root / "logs"

    @property
    def models(self) -> Path:
        """MLServer's model repository."""
        return self.root / "models"

    @property
    def envoy(self) -> Path:
        """Envoy's bootstrap and dynamic configuration."""
        return self.root / "envoy"

    @property
    def mlserver(self) -> Path:
        """MLServer's working folder and settings."""
        return self.root / "mlserver"

    @property
    def desired(self) -> Path:
        """The wanted manifests, their versions and digests."""
        return self.root / "desired.json"

    @property
    def ports_file(self) -> Path:
        """The ports in use, kept so that the endpoint survives a restart."""
        return self.root / "ports.json"

    @property
    def specs(self) -> Path:
        """Process specs that the supervisor runs."""
        return self.root / "processes.json"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the running supervisor; the kernel releases it when that dies."""
        return self.root / "supervisor.lock"

    @property
    def supervisor_state(self) -> Path:
        """Who the supervisor and its children are."""
        return self.root / "supervisor.json"

    @property
    def start_lock(self) -> Path:
        """Serialises starting and stopping."""
        return self.root / "start.lock"

    @property
    def apply_lock(self) -> Path:
        """Serialises appliers."""
        return self.root / "apply.lock"

    def read_ports(self) -> Ports | None:
        """The kept ports, ``None`` before the first start.

        Raises
        ------
        TargetError
            The file is damaged.
        """
        try:
            values = json.loads(self.ports_file.read_text())
            return Ports(**{field.name: int(values[field.name]) for field in fields(Ports)})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise TargetError(f"{self.ports_file} is damaged ({error!r}); remove it and start again") from error

    def write_ports(self, ports: Ports) -> None:
        """Keep ``ports``."""
        atomic_write_text(self.ports_file, json.dumps(asdict(ports), indent=1))


def pick_ports(home: Path, kept: Ports | None) -> Ports:
    """Ports that are free now.

    Parameters
    ----------
    home
        Two homes start looking at different places, so that planes started at once seldom collide.
    kept
        Ports of the last run; returned as they are when all are still free.

    Raises
    ------
    TargetError
        Not enough free ports.
    """
    if kept is not None and all(is_free(port) for port in asdict(kept).values()):
        return kept
    free = free_ports(zlib.crc32(str(home.absolute()).encode()))
    try:
        return Ports(*(next(free) for _ in fields(Ports)))
    except StopIteration:
        raise TargetError(
            f"no {len(fields(Ports))} free ports on {LOOPBACK} from {_FIRST_PORT} to {_LAST_PORT}"
        ) from None


def free_ports(seed: int) -> Iterator[int]:
    """Ports on the loopback interface that are free when they are asked for; ``seed`` says where to begin looking."""
    count = _LAST_PORT - _FIRST_PORT
    for offset in range(count):
        port = _FIRST_PORT + (seed + offset) % count
        if is_free(port):
            yield port


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do it: connections that linger from an earlier run do not matter, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
