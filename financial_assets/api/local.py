"""The interface as one more process of the local plane: kept alive by its supervisor, beside Envoy and MLServer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import SettingsError
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import LOOPBACK, ApiPort, Layout, Ports, is_free, pick_ports, read_ports
from financial_assets.serving.local.processes.process import ProcessSpec, package_path
from financial_assets.settings import Settings

NAME = "api"
_COMMAND = "from financial_assets.cli.main import main; main()"
_LONGEST_DRAIN_S = 25.0
"""Less than the plane waits for its supervisor to end."""


def beside_the_plane(settings: Settings) -> Callable[[Ports], Sequence[ProcessSpec]]:
    """Gives the process to start, from the plane's ports; see ``serving.local.control.start``.

    ``API_PORT=0`` takes a free port and keeps it for the next start.
    """
    return lambda ports: (_spec(settings, ports),)


def running_url(home: Path) -> str | None:
    """Where the interface beside the plane of ``home`` answers; ``None`` if there is none."""
    running = control.children(home) if control.running_ports(home) is not None else ()
    if not any(child.name == NAME and child.state != "gone" for child in running):
        return None
    port = read_ports(Layout(home).api_port_file, ApiPort)
    return None if port is None else f"http://{LOOPBACK}:{port.api}"


def _spec(settings: Settings, plane: Ports) -> ProcessSpec:
    file = Layout(settings.home).api_port_file
    if settings.api_port:
        # A process that cannot listen would be started again and again; this is said once.
        if not is_free(settings.api_port) or settings.api_port in asdict(plane).values():
            raise SettingsError(f"API_PORT={settings.api_port} is taken; 0 takes a free one")
        port = ApiPort(settings.api_port)
        atomic_write_text(file, f'{{"api": {port.api}}}')
    else:
        port = pick_ports(file, ApiPort, asdict(plane).values())
    return ProcessSpec(
        name=NAME,
        command=(sys.executable, "-P", "-c", _COMMAND, NAME, "--port", str(port.api)),
        cwd=str(Path.cwd()),  # settings may hold relative paths
        # Whatever API_HOST is, a server that listens everywhere answers here as well.
        health_url=f"http://{LOOPBACK}:{port.api}/healthz",
        environment={
            "FINANCIAL_ASSETS_HOME": str(settings.home),
            "PYTHONPATH": package_path(),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        },
        stop_grace_s=min(settings.api_drain_seconds + 2, _LONGEST_DRAIN_S),
    )
