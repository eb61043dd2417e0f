"""Where the local plane keeps its state, and which ports it uses."""

from __future__ import annotations

import json
import socket
import zlib
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import TargetError

LOOPBACK = "127.0.0.1"
# Below the range from which the kernel takes ports for outgoing connections, which could otherwise occupy one of ours.
_FIRST_PORT, _LAST_PORT = 15000, 32000


@dataclass(frozen=True)
class Ports:
    """The plane's TCP ports on the loopback interface; all but ``gateway`` (REST and gRPC) are internal."""

    gateway: int
    mirror: int
    admin: int
    mlserver_http: int
    mlserver_grpc: int
    mlserver_metrics: int


@dataclass(frozen=True)
class MonitoringPorts:
    """TCP ports on the loopback interface of the monitoring beside the plane."""

    exporter: int
    prometheus: int
    alertmanager: int


@dataclass(frozen=True)
class ApiPort:
    """TCP port of the HTTP interface beside the plane (``financial-assets api``)."""

    api: int


_Ports = TypeVar("_Ports", bound="Ports | MonitoringPorts | ApiPort")


class Layout:
    """The files of one plane, all under ``home/serving``.

    Parameters
    ----------
    home
        State folder of the installation (``FINANCIAL_ASSETS_HOME``).

    Attributes
    ----------
    root
        ``home/serving``, absolute: Envoy and MLServer run with other working folders.
    logs
        One log file per process.
    models
        MLServer's model repository.
    envoy
        Envoy's bootstrap and dynamic configuration.
    mlserver
        MLServer's working folder and settings.
    desired
        The wanted manifests, their versions and digests.
    ports_file
        The ports in use, kept so that the endpoint survives a restart.
    monitoring
        Configuration and data of the monitoring beside the plane.
    monitoring_ports_file
        Its ports in use.
    api_port_file
        The port of the HTTP interface beside the plane.
    gateway_files
        What Envoy reads: its bootstrap, and the files that it watches.
    specs
        Process specs that the supervisor runs.
    supervisor_lock
        Held by the running supervisor; the kernel releases it when that dies.
    supervisor_state
        Who the supervisor and its children are.
    start_lock
        Serialises starting and stopping.
    apply_lock
        Serialises appliers.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = (home / "serving").absolute()
        self.logs = self.root / "logs"
        self.models = self.root / "models"
        self.envoy = self.root / "envoy"
        documents = ("bootstrap", "clusters", "listeners", "routes-mirror", "routes-public")
        self.gateway_files = tuple(self.envoy / f"{name}.json" for name in documents)
        self.mlserver = self.root / "mlserver"
        self.desired = self.root / "desired.json"
        self.ports_file = self.root / "ports.json"
        self.monitoring = self.root / "monitoring"
        self.monitoring_ports_file = self.monitoring / "ports.json"
        self.api_port_file = self.root / "api-port.json"
        self.specs = self.root / "processes.json"
        self.supervisor_lock = self.root / "supervisor.lock"
        self.supervisor_state = self.root / "supervisor.json"
        self.start_lock = self.root / "start.lock"
        self.apply_lock = self.root / "apply.lock"


def read_ports(path: Path, kind: type[_Ports]) -> _Ports | None:
    """The ports kept in a file, ``None`` before the first start.

    Raises
    ------
    TargetError
        The file is damaged.
    """
    try:
        values = json.loads(path.read_text())
        return kind(**{field.name: int(values[field.name]) for field in fields(kind)})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise TargetError(f"{path} is damaged ({error!r}); remove it and start again") from error


def pick_ports(path: Path, kind: type[_Ports], taken: Collection[int] = ()) -> _Ports:
    """Ports that are free now: those of the last run if all of them are, else others; kept in the file ``path``.

    Parameters
    ----------
    path
        Two homes start looking at different places, so that planes started at once seldom collide.
    kind
        Which ports are needed.
    taken
        Ports that somebody else is about to use.

    Raises
    ------
    TargetError
        Not enough free ports, or the file is damaged.
    """
    kept = read_ports(path, kind)
    if kept is not None and all(is_free(port) and port not in taken for port in asdict(kept).values()):
        return kept
    free = (port for port in free_ports(zlib.crc32(str(path.absolute()).encode())) if port not in taken)
    try:
        ports = kind(*(next(free) for _ in fields(kind)))
    except StopIteration:
        raise TargetError(
            f"no {len(fields(kind))} free ports on {LOOPBACK} from {_FIRST_PORT} to {_LAST_PORT}"
        ) from None
    atomic_write_text(path, json.dumps(asdict(ports), indent=1))
    return ports


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
