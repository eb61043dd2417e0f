"""Exporter, Prometheus and Alertmanager on this machine, kept alive by the supervisor of the serving plane."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import jinja2

import financial_assets
from financial_assets.atomic import atomic_write_text
from financial_assets.errors import TargetError
from financial_assets.folders import make_folder
from financial_assets.monitoring.receivers import Receivers
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import (
    LOOPBACK,
    ApiPort,
    Layout,
    MonitoringPorts,
    Ports,
    pick_ports,
    read_ports,
)
from financial_assets.serving.local.processes.process import ProcessSpec, package_path

_PROGRAMS = ("prometheus", "prometheus-alertmanager")  # of the Debian packages of the same names
_NAMES = ("exporter", "prometheus", "alertmanager")
_SNAPSHOT = "1m"
"""How often Alertmanager writes down what it has sent and what is silenced: a killed one forgets what came after."""


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
    home: Path,
    configuration: Path,
    *,
    environment: Mapping[str, str],
    receivers: Receivers | None = None,
    interval: str = "15s",
    timeout_s: float = 90.0,
    further: Callable[[Ports], Sequence[ProcessSpec]] = lambda _: (),
) -> Mapping[str, str]:
    """Start the plane of ``home`` with its monitoring; does nothing if both run.

    Parameters
    ----------
    home
        State folder.
    configuration
        Folder of ``prometheus.yml.j2``, ``rules.yml`` and ``alertmanager.yml.j2``.
    environment
        Settings that the exporter shall see besides the inherited ones.
    receivers
        Where alerts are sent; default: nowhere.
    interval
        Between scrapes and between evaluations of the rules, as Prometheus writes it.
    timeout_s
        Longest wait until all of it answers.
    further
        Gives processes to keep alive beside these, from the plane's ports; the one called ``api`` is scraped, too.

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

    def beside(ports: Ports) -> tuple[ProcessSpec, ...]:
        others = tuple(further(ports))  # before the configuration, which names the ports that they have picked
        has_api = any(process.name == "api" for process in others)
        ours = _prepare(
            layout, configuration, programs, ports, environment, receivers or Receivers(), interval, has_api=has_api
        )
        return (*ours, *others)

    control.start(home, timeout_s=timeout_s, beside=beside)
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
    ports = read_ports(layout.monitoring_ports_file, MonitoringPorts)
    return {name: f"http://{LOOPBACK}:{port}" for name, port in asdict(ports).items()} if ports else {}


def _prepare(
    layout: Layout,
    configuration: Path,
    programs: Mapping[str, str],
    plane: Ports,
    environment: Mapping[str, str],
    receivers: Receivers,
    interval: str,
    *,
    has_api: bool = False,
) -> Sequence[ProcessSpec]:
    """Pick ports, write the configuration and return what to run."""
    folder = layout.monitoring
    make_folder(folder)
    api = read_ports(layout.api_port_file, ApiPort) if has_api else None
    taken = (*asdict(plane).values(), *(asdict(api).values() if api else ()))
    ports = pick_ports(layout.monitoring_ports_file, MonitoringPorts, taken)
    template = jinja2.Template((configuration / "prometheus.yml.j2").read_text(), undefined=jinja2.StrictUndefined)
    rendered = template.render(
        interval=interval,
        rules=str((configuration / "rules.yml").absolute()),
        exporter=f"{LOOPBACK}:{ports.exporter}",
        alertmanager=f"{LOOPBACK}:{ports.alertmanager}",
        envoy=f"{LOOPBACK}:{plane.admin}",
        mlserver=f"{LOOPBACK}:{plane.mlserver_metrics}",
        api=f"{LOOPBACK}:{api.api}" if api else None,
    )
    atomic_write_text(folder / "prometheus.yml", rendered)
    # Holds passwords: the folder is its owner's alone.
    atomic_write_text(
        folder / "alertmanager.yml", receivers.render((configuration / "alertmanager.yml.j2").read_text())
    )
    return _specs(folder, programs, ports, environment, interval)


def _twice(duration: str) -> str:
    """Two of a duration as Prometheus writes it, such as ``15s`` or ``1m30s``."""
    return re.sub(r"\d+", lambda number: str(2 * int(number[0])), duration)


def _specs(
    folder: Path, programs: Mapping[str, str], ports: MonitoringPorts, settings: Mapping[str, str], interval: str
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
                # Alertmanager keeps alerts in memory alone: a restarted one has them again after so long. It takes four
                # times as long for their end if it hears nothing, so that a restart of Prometheus must fit into that.
                f"--rules.alert.resend-delay={_twice(interval)}",
                # A restarted Prometheus remembers which alerts fired only where the rule waits longer than this. All
                # others would wait anew, and be told as resolved and as a new incident though nothing has changed.
                f"--rules.alert.for-grace-period={interval}",
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
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--data.maintenance-interval={_SNAPSHOT}",
                f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",  # alone: no port for others
                "--log.level=warn",
            ),
            cwd=str(folder),
            health_url=f"http://{alertmanager}/-/ready",
        ),
    )
