"""Files of the local plane: it serves what was applied, and its configuration can be read."""

from __future__ import annotations

import shlex
from pathlib import Path

from financial_assets.doctor.damage import Readings, read_json
from financial_assets.doctor.walk import Checked, LayerError, materialize
from financial_assets.errors import TargetError
from financial_assets.locking import is_held
from financial_assets.serving.local.desired import DesiredState
from financial_assets.serving.local.layout import ApiPort, Layout, MonitoringPorts, Ports, read_ports
from financial_assets.serving.local.processes.process import SupervisorState
from financial_assets.serving.local.repository import is_sound

_SERVE = "`financial-assets serve`"


def check_served_files(home: Path, target: str) -> Checked[None]:
    """Every served file has the digest under which it was applied; ports and configuration are whole."""
    layout = Layout(home)
    if target != "local" or not layout.root.is_dir():
        return Checked(None, "none on this machine" if target != "local" else "no plane was started yet")
    wanted = _wanted(layout)
    unsound = [name for name, model in wanted.models.items() if not is_sound(layout.models, model)]
    steering = _steering(layout)
    if steering.damages:
        detail = "; ".join(damage.problem for damage in steering.damages)
        obstacles = " ".join(shlex.quote(str(path)) for damage in steering.damages for path in damage.remove)
        removal = f"`rm {obstacles}`, then " if obstacles else ""
        raise LayerError(detail, f"`financial-assets stop`, then {removal}{_SERVE}")
    if unsound:
        detail = f"{', '.join(unsound)}: the served file in {layout.models} is not the one that was applied"
        raise LayerError(detail, f"{_SERVE} restores it, also while the plane runs")
    return Checked(None, f"{len(wanted.models)} served files as applied")


def _wanted(layout: Layout) -> DesiredState:
    try:
        wanted = DesiredState.read(layout.desired)
    except (TargetError, OSError) as error:
        remedy = f"`financial-assets stop`, then `rm -r {shlex.quote(str(layout.desired))}`, then "
        remedy += f"{materialize('experiment')}, which deploys the arms of the current weight epoch"
        raise LayerError(str(error), remedy) from error
    if not layout.desired.exists() and layout.models.is_dir() and any(layout.models.iterdir()):
        raise LayerError(f"{layout.desired} is missing: the wanted Models are unknown", materialize("experiment"))
    return wanted


def _steering(layout: Layout) -> Readings:
    """Files that every start writes; those of a plane that does not run matter only if they keep it from starting."""
    readings, running = Readings(), is_held(layout.supervisor_lock)
    for path, kind, needed in (
        (layout.ports_file, Ports, running),
        (layout.monitoring_ports_file, MonitoringPorts, False),
        (layout.api_port_file, ApiPort, False),
    ):
        readings.read(path, lambda path, kind=kind: read_ports(path, kind), remove=[path], needed=needed)
    if running:
        readings.read(layout.supervisor_state, _read_state)
        for path in (layout.specs, layout.mlserver / "settings.json", *layout.gateway_files):
            readings.read(path, read_json)
    return readings


def _read_state(path: Path) -> None:
    if SupervisorState.read(path) is None:
        raise ValueError("it does not name the supervisor and its processes")
