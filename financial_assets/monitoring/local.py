"""Exporter, Prometheus and Alertmanager on this machine, kept alive by the supervisor of the serving plane."""

from __future__ import annotations

import json
import shutil
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import jinja2

import financial_assets
from financial_assets.atomic import atomic_write_text
from financial_assets.errors import TargetError
from financial_assets.folders import make_folder
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import LOOPBACK, Layout, Ports, free_ports, is_free
from financial_assets.serving.local.processes.process import ProcessSpec, package_path

__all__ = ["MonitoringPorts", "configuration_folder", "running_urls", "start"]

_PROGRAMS = ("prometheus", "prometheus-alertmanager")  # of the Debian packages of the same names
_NAMES = ("exporter", "prometheus", "alertmanager")


@dataclass(frozen=True)
class MonitoringPorts:
    """TCP ports on the loopback interface."""

    exporter: int
    prometheus: int
    alertmanager: int


def configuration_folder() -> Path:
    """``deploy/prometheus`` of the repository.

    Raises
    ------
    TargetError
        This package was installed without its repository.
    """
    folder = Path(financial_assets.__file__).parents[1] / "deploy" / "prometheus"
    if not (folder / "rules.yml").is_file():
        raise TargetError(f"no alert rules in {folder}; --with-monitoring needs a checkout of the repository")
    return folder


def start(
    home: Path, configuration: Path, *, environment: Mapping[str, str], interval: str = "15s", timeout_s: float = 90.0
) -> Mapping[str, str]:
    """Start the plane of ``home`` with its monitoring; does nothing if both run.

    Parameters
    ----------
    home
        State folder.
    configuration
        Folder of ``prometheus.yml.j2``, ``rules.yml`` and ``alertmanager.yml``.
    environment
        Settings that the exporter shall see besides the inherited ones.
    interval
        Between scrapes and between evaluations of the rules, as Prometheus writes it.
    timeout_s
        Longest wait until all of it answers.

    Returns
    -------
    Mapping
        Process -> URL.

    Raises
    ------
    TargetError
        A program is missing, or the plane runs without monitoring.
    NotReadyError
        Something did not answer in time; quotes its log.
    """
    programs: dict[str, str] = {}
    for program in _PROGRAMS:
        path = shutil.which(program)
        if path is None:
            raise TargetError(f"no program {program}: install the Debian package of that name (apt install {program})")
        programs[program] = path
    layout = Layout(home)
    control.start(
        home,
        timeout_s=timeout_s,
        beside=lambda ports: _prepare(layout, configuration, programs, ports, environment, interval),
    )
    urls = running_urls(home)
    if not urls:
        raise TargetError(
            "the plane already runs without monitoring: `financial-assets stop`, then `financial-assets serve "
            "--with-monitoring` (models and weights are kept)"
        )
    return urls


def running_urls(home: Path) -> Mapping[str, str]:
    """Process -> URL of the monitoring that runs with the plane of ``home``; empty if none does."""
    layout = Layout(home)
    running = control.children(home) if control.running_ports(home) is not None else ()
    if not {child.name for child in running if child.state != "gone"} >= set(_NAMES):
        return {}
    ports = _read_ports(_folder(layout))
    return {name: f"http://{LOOPBACK}:{port}" for name, port in asdict(ports).items()} if ports else {}


def _folder(layout: Layout) -> Path:
    return layout.root / "monitoring"


def _prepare(
    layout: Layout,
    configuration: Path,
    programs: Mapping[str, str],
    plane: Ports,
    environment: Mapping[str, str],
    interval: str,
) -> Sequence[ProcessSpec]:
    """Pick ports, write the configuration and return what to run."""
    folder = _folder(layout)
    make_folder(folder)
    ports = _pick_ports(folder, set(asdict(plane).values()))
    atomic_write_text(folder / "ports.json", json.dumps(asdict(ports)))
    template = jinja2.Template((configuration / "prometheus.yml.j2").read_text(), undefined=jinja2.StrictUndefined)
    rendered = template.render(
        interval=interval,
        rules=str((configuration / "rules.yml").absolute()),
        exporter=f"{LOOPBACK}:{ports.exporter}",
        alertmanager=f"{LOOPBACK}:{ports.alertmanager}",
    )
    atomic_write_text(folder / "prometheus.yml", rendered)
    return _specs(folder, configuration.absolute(), programs, ports, environment)


def _specs(
    folder: Path, configuration: Path, programs: Mapping[str, str], ports: MonitoringPorts, settings: Mapping[str, str]
) -> tuple[ProcessSpec, ...]:
    command = "from financial_assets.cli.main import main; main()"
    prometheus, alertmanager = f"{LOOPBACK}:{ports.prometheus}", f"{LOOPBACK}:{ports.alertmanager}"
    return (
        ProcessSpec(
            name="exporter",
            command=(sys.executable, "-P", "-c", command, "exporter", "--port", str(ports.exporter)),
            cwd=str(Path.cwd()),  # settings may hold relative paths
            health_url=f"http://{LOOPBACK}:{ports.exporter}/favicon.ico",  # every other path reads the log
            environment={**settings, "PYTHONPATH": package_path(), "PYTHONUNBUFFERED": "1"},
        ),
        ProcessSpec(
            name="prometheus",
            command=(
                programs["prometheus"],
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                "--storage.tsdb.retention.time=90d",
                f"--web.listen-address={prometheus}",
                "--log.level=warn",
            ),
            cwd=str(folder),
            health_url=f"http://{prometheus}/-/ready",
        ),
        ProcessSpec(
            name="alertmanager",
            command=(
                programs["prometheus-alertmanager"],
                f"--config.file={configuration / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",  # alone: no port for others
                "--log.level=warn",
            ),
            cwd=str(folder),
            health_url=f"http://{alertmanager}/-/ready",
        ),
    )


def _pick_ports(folder: Path, taken: set[int]) -> MonitoringPorts:
    kept = _read_ports(folder)
    if kept is not None and all(is_free(port) and port not in taken for port in asdict(kept).values()):
        return kept
    free = (port for port in free_ports(zlib.crc32(str(folder).encode())) if port not in taken)
    try:
        return MonitoringPorts(*(next(free) for _ in fields(MonitoringPorts)))
    except StopIteration:
        raise TargetError(f"no {len(fields(MonitoringPorts))} free ports on {LOOPBACK} for the monitoring") from None


def _read_ports(folder: Path) -> MonitoringPorts | None:
    path = folder / "ports.json"
    try:
        values = json.loads(path.read_text())
        return MonitoringPorts(**{field.name: int(values[field.name]) for field in fields(MonitoringPorts)})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise TargetError(f"{path} is damaged ({error!r}); remove it and start again") from error
