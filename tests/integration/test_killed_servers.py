"""Prometheus and Alertmanager killed while they work: alerts, silences and what people were told survive.

Their own supervisor starts them again, from the configuration of ``financial-assets serve --with-monitoring``. The
exporter is a stand-in, so that nothing else has to run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from financial_assets.errors import AlertsError
from financial_assets.monitoring import local
from financial_assets.monitoring.alerts import Alert, AlertmanagerClient
from financial_assets.monitoring.receivers import Receivers
from financial_assets.serving.local.layout import Layout, MonitoringPorts, Ports, read_ports
from financial_assets.serving.local.processes.watchdog import ProcessWatchdog
from tests.monitoring.listeners import Chat, listening
from tests.monitoring.monitoring_doubles import hasty_configuration
from tests.waiting import wait

pytestmark = [
    pytest.mark.integration,
    pytest.mark.debian("prometheus"),
    pytest.mark.debian("prometheus-alertmanager"),
]
DEGRADED = "ModelAccuracyDegraded"
MODEL = "baseline-predictor-v1"


class Exporter(ThreadingHTTPServer):
    """Says that a model is worse than the majority class."""

    daemon_threads = True
    scrapes = 0


class Answer(BaseHTTPRequestHandler):
    server: Exporter

    def do_GET(self) -> None:
        self.server.scrapes += 1
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(f'ab_test_accuracy_advantage_upper{{experiment="e",model_name="{MODEL}"}} -1\n'.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@dataclass
class Monitoring:
    """Prometheus and Alertmanager under their supervisor, and somebody who asks for alerts all the time."""

    ports: MonitoringPorts
    folder: Path
    dogs: dict[str, ProcessWatchdog]
    exporter: Exporter
    people: Chat
    answers: list[tuple[Alert, ...]] = field(default_factory=list)
    refusals: list[AlertsError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ending = threading.Event()
        self._asking = threading.Thread(target=self._ask)
        self._asking.start()

    @property
    def alertmanager(self) -> str:
        return f"http://127.0.0.1:{self.ports.alertmanager}"

    def active(self) -> list[Alert]:
        """The alert, by what Alertmanager answered last."""
        return [alert for alert in self.answers[-1] if alert.name == DEGRADED] if self.answers else []

    def pending_since(self) -> list[str]:
        """The second in which the alert became pending, by Prometheus; nothing unless it fires."""
        alerts = call(f"http://127.0.0.1:{self.ports.prometheus}/api/v1/alerts")["data"]["alerts"]
        named = [alert for alert in alerts if alert["labels"]["alertname"] == DEGRADED]
        return [alert["activeAt"][:19] for alert in named if alert["state"] == "firing"]

    def told(self, alert: str, status: str = "firing") -> int:
        """How often people were told of an alert."""
        messages = [body for _, body in self.people.received if body["status"] == status]
        return sum(body["groupLabels"]["alertname"] == alert for body in messages)

    def kill(self, name: str) -> None:
        """Kill a process, and wait until it is back."""
        dog = self.dogs[name]
        wait(f"{name} runs", lambda: dog.state.state == "running", poll_s=0.02)
        before = dog.state.identity
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        wait(f"{name} is back", lambda: dog.state.state == "running" and dog.state.identity != before, poll_s=0.02)
        assert dog.state.last_exit == "killed by SIGKILL"

    def close(self) -> None:
        self._ending.set()
        self._asking.join()
        for dog in self.dogs.values():
            dog.end()
        for dog in self.dogs.values():
            dog.join()

    def _ask(self) -> None:
        client = AlertmanagerClient(self.alertmanager, timeout_s=5)
        while not self._ending.wait(0.05):
            try:
                self.answers.append(client.active())
            except AlertsError as error:
                self.refusals.append(error)


def call(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        content = answer.read()
    return json.loads(content) if content else None


@pytest.fixture
def monitoring(tmp_path: Path) -> Iterator[Monitoring]:
    layout, programs = Layout(tmp_path / "home"), ("prometheus", "prometheus-alertmanager")
    layout.logs.mkdir(parents=True)
    paths = {program: shutil.which(program) or program for program in programs}
    with listening(Chat()) as people:
        _, *specs = local._prepare(
            layout,
            hasty_configuration(tmp_path / "configuration"),
            paths,
            Ports(*range(1, 7)),
            {},
            Receivers(webhook=people.url),
            "1s",
        )
        ports = read_ports(layout.monitoring_ports_file, MonitoringPorts)
        assert ports is not None
        exporter = Exporter(("127.0.0.1", ports.exporter), Answer)
        serving = threading.Thread(target=exporter.serve_forever, args=(0.02,))
        serving.start()
        # What Alertmanager keeps on disk is written every minute; nobody waits for that here.
        hasty = [replace(spec, command=tuple(part.replace("=1m", "=1s") for part in spec.command)) for spec in specs]
        dogs = {spec.name: ProcessWatchdog(spec, layout.logs, lambda: None) for spec in hasty}
        for dog in dogs.values():
            dog.start()
        running = Monitoring(ports, layout.monitoring, dogs, exporter, people)
        try:
            yield running
        finally:
            running.close()
            exporter.shutdown()
            serving.join()
            exporter.server_close()


def kept_on_disk(monitoring: Monitoring) -> None:
    """Wait until Alertmanager has written down what it knows now."""
    files = [monitoring.folder / "alertmanager" / name for name in ("nflog", "silences")]
    now = datetime.now(UTC).timestamp()
    wait("a snapshot", lambda: all(file.exists() and file.stat().st_mtime > now for file in files), poll_s=0.05)


def test_an_alert_outlives_alertmanager_and_prometheus_and_is_told_once(monitoring: Monitoring) -> None:
    wait("people are told", lambda: monitoring.active() and monitoring.told(DEGRADED) == 1)
    [alert], since = monitoring.active(), monitoring.pending_since()
    silence = {
        "matchers": [{"name": "alertname", "value": "Unrelated", "isRegex": False, "isEqual": True}],
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "createdBy": "desk",
        "comment": "maintenance",
    }
    silenced = call(f"{monitoring.alertmanager}/api/v2/silences", silence)["silenceID"]
    kept_on_disk(monitoring)

    monitoring.answers.clear()
    scrapes = monitoring.exporter.scrapes
    monitoring.kill("alertmanager")
    assert all(monitoring.alertmanager in str(refusal) for refusal in monitoring.refusals)
    wait("the alert is back", lambda: monitoring.active() == [alert])  # with its start: no new incident
    # Counted in scrapes, one a second, as a slow machine makes fewer. By itself Prometheus would take a minute.
    assert monitoring.exporter.scrapes - scrapes < 20
    found = call(f"{monitoring.alertmanager}/api/v2/silences")
    assert [(one["id"], one["status"]["state"]) for one in found] == [(silenced, "active")]

    refusals, scrapes = len(monitoring.refusals), monitoring.exporter.scrapes
    monitoring.kill("prometheus")
    wait("Prometheus fires again", lambda: monitoring.pending_since())
    assert monitoring.pending_since() == since, "it has not begun to wait anew"
    wait("Prometheus scrapes again", lambda: monitoring.exporter.scrapes > scrapes)
    wait("the alert is passed on", lambda: [one.fingerprint for one in monitoring.active()] == [alert.fingerprint])
    assert len(monitoring.refusals) == refusals, "Alertmanager has answered all the time"

    # A message about another alert comes after the first one's turn, in which nothing new is to be said of it.
    call(f"{monitoring.alertmanager}/api/v2/alerts", [{"labels": {"alertname": "Marker"}}])
    wait("people are told of the other alert", lambda: monitoring.told("Marker"))
    assert monitoring.told(DEGRADED) == 1
