"""The real Prometheus and Alertmanager beside the plane: they scrape the exporter, judge it, and pass alerts on."""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from click.testing import CliRunner

from financial_assets.cli.main import main
from financial_assets.errors import TargetError
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.monitoring import local
from financial_assets.monitoring.receivers import Receivers
from financial_assets.resources import make_resources
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import Layout, MonitoringPorts, Ports
from financial_assets.serving.local.processes.process import SupervisorState
from financial_assets.settings import load_settings
from tests import waiting
from tests.monitoring.monitoring_doubles import BASELINE, ENHANCED, EXPERIMENT, arms, fill, hasty_configuration

SETTINGS = {"PRICE_SOURCE": "sample", "TICKERS": "AAPL,MSFT", "PROGRESS": "false"}
NAMES = {"exporter", "prometheus", "alertmanager"}


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def wait(condition: Callable[[], object]) -> None:
    waiting.wait("the condition holds", condition, poll_s=0.2)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with real prices and a champion that has been wrong every day; the challenger was right."""
    folder = tmp_path / "home"
    for name, value in {**SETTINGS, "FINANCIAL_ASSETS_HOME": str(folder)}.items():
        monkeypatch.setenv(name, value)
    folder.mkdir()
    market = make_resources(load_settings())["market"]
    market.ingest()
    panel = market.whole_panel()
    market.begin(panel.sessions)
    market.clock().advance_to(panel.sessions[-1])
    with PredictionLog(load_settings().log_url) as log:
        epoch = log.open_epoch(EXPERIMENT, arms(), "start", after=0)
        fill(log, epoch, panel, panel.sessions[-41:-1], right=lambda model: model != BASELINE)
    yield folder
    control.stop(folder)


def states(prometheus: str, name: str) -> Mapping[str, str]:
    """Model -> state of an alert."""
    alerts = ask(f"{prometheus}/api/v1/alerts")["data"]["alerts"]
    return {a["labels"].get("model_name", ""): a["state"] for a in alerts if a["labels"]["alertname"] == name}


def health(prometheus: str) -> Mapping[str, str]:
    """Job -> whether its target was reached."""
    targets = ask(f"{prometheus}/api/v1/targets")["data"]["activeTargets"]
    return {target["labels"]["job"]: target["health"] for target in targets}


@pytest.mark.integration
@pytest.mark.debian("prometheus")
@pytest.mark.debian("prometheus-alertmanager")
def test_predictions_that_are_wrong_reach_alertmanager_and_nobody_set_a_gauge(home: Path, tmp_path: Path) -> None:
    configuration = hasty_configuration(tmp_path / "configuration")
    urls = local.start(home, configuration, environment={"FINANCIAL_ASSETS_HOME": str(home)}, interval="1s")
    assert set(urls) == NAMES
    prometheus, alertmanager = urls["prometheus"], urls["alertmanager"]

    wait(lambda: health(prometheus) == dict.fromkeys(("financial-assets", "envoy", "mlserver"), "up"))
    wait(lambda: states(prometheus, "ModelAccuracyDegraded") == {BASELINE: "firing"})
    found = ask(f"{prometheus}/api/v1/query?query=ab_test_model_accuracy")["data"]["result"]
    accuracy = {row["metric"]["model_name"]: float(row["value"][1]) for row in found}
    assert (accuracy[BASELINE], accuracy[ENHANCED]) == (0, 100)
    rules = ask(f"{prometheus}/api/v1/rules")["data"]["groups"][0]["rules"]
    assert {rule["name"]: rule["state"] for rule in rules}["ExporterDown"] == "inactive"
    wait(lambda: ask(f"{alertmanager}/api/v2/alerts"))
    passed_on = {alert["labels"]["alertname"] for alert in ask(f"{alertmanager}/api/v2/alerts")}
    assert "ModelAccuracyDegraded" in passed_on

    shown = CliRunner().invoke(main, ["status"])
    for name in NAMES:
        assert re.search(rf"{name} .*running", shown.output)
        assert f"{name}: {urls[name]}" in shown.output
    assert local.start(home, configuration, environment={}) == urls  # once is enough

    state = SupervisorState.read(Layout(home).supervisor_state)
    assert state is not None
    processes = [child.identity.find() for child in state.children if child.identity]
    assert len(processes) == 5
    assert control.stop(home)
    assert not [p for p in processes if p is not None and p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert local.running_urls(home) == {}


@pytest.mark.integration
@pytest.mark.debian("prometheus")
@pytest.mark.debian("prometheus-alertmanager")
def test_a_plane_without_monitoring_is_left_alone(home: Path) -> None:
    control.start(home)
    before = SupervisorState.read(Layout(home).supervisor_state)
    with pytest.raises(TargetError, match="financial-assets stop"):
        local.start(home, local.configuration_folder(), environment={})
    assert SupervisorState.read(Layout(home).supervisor_state) == before
    assert local.running_urls(home) == {}


def test_an_absent_program_is_named_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="apt install prometheus"):
        local.start(tmp_path / "home", local.configuration_folder(), environment={})
    assert not (tmp_path / "home").exists()


def test_ports_are_kept_differ_from_the_planes_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    programs = {"prometheus": "p", "prometheus-alertmanager": "a"}

    def prepare(plane: Ports, *, has_api: bool = False) -> MonitoringPorts:
        local._prepare(layout, local.configuration_folder(), programs, plane, {}, Receivers(), "15s", has_api=has_api)
        return MonitoringPorts(**json.loads((layout.root / "monitoring" / "ports.json").read_text()))

    plane = Ports(*range(1, 7))
    first = prepare(plane)
    assert prepare(plane) == first
    other = prepare(dataclasses.replace(plane, gateway=first.prometheus))
    assert first.prometheus not in dataclasses.astuple(other)
    scraped = layout.root / "monitoring" / "prometheus.yml"
    assert "desk-api" not in scraped.read_text()
    # The port of the interface is not taken, and is scraped.
    layout.api_port_file.write_text(json.dumps({"api": first.alertmanager}))
    assert first.alertmanager not in dataclasses.astuple(prepare(plane, has_api=True))
    (*_, last) = yaml.safe_load(scraped.read_text())["scrape_configs"]
    assert last == {"job_name": "desk-api", "static_configs": [{"targets": [f"127.0.0.1:{first.alertmanager}"]}]}
    (layout.root / "monitoring" / "ports.json").write_text("{")
    with pytest.raises(TargetError, match=r"ports\.json is damaged"):
        prepare(plane)
