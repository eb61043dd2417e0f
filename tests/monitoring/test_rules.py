"""Alert rules: promtool's unit tests, each alert firing and silent, and no rule about a metric that nobody exposes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from financial_assets.api.metrics import Metrics
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.monitoring.exported.prices import price_metrics
from financial_assets.monitoring.exported.source import Source
from financial_assets.monitoring.metrics import ExperimentCollector
from tests.monitoring.exported_doubles import NOW, stored_prices
from tests.monitoring.monitoring_doubles import EXPERIMENT, arms, fill, panel

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"][0]["rules"]
CASE_FILES = ("rules_test.yml", "rules_days_test.yml")
CASES: list[dict[str, Any]] = [
    case for name in CASE_FILES for case in yaml.safe_load((FOLDER / name).read_text())["tests"]
]


def promtool(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the cases in ``folder``."""
    return subprocess.run(
        ["promtool", "test", "rules", *CASE_FILES], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.debian("prometheus")
def test_each_alert_fires_and_stays_silent_as_its_cases_say() -> None:
    done = promtool(FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.debian("prometheus")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ab_test_accuracy_advantage_upper < 0", "ab_test_model_accuracy < 75"),
        ('{status!="ok"}', "{}"),
        ("sum by (le, experiment, model_name)", "sum by (le, experiment)"),
        ("ab_test_srm_p_value <= on (experiment) ab_test_srm_alpha", "abs(ab_test_traffic_percentage - 70) > 15"),
        ("for: 17h", "for: 12h"),
        ("or ab_test_exporter_up == 0", ""),
    ],
)
def test_the_cases_notice_a_rule_that_is_wrong(tmp_path: Path, old: str, new: str) -> None:
    """The mistakes of the original's rules among them."""
    text = (FOLDER / "rules.yml").read_text()
    assert old in text
    (tmp_path / "rules.yml").write_text(text.replace(old, new))
    for name in CASE_FILES:
        shutil.copy(FOLDER / name, tmp_path)
    done = promtool(tmp_path)
    assert done.returncode == 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_has_a_firing_and_a_silent_case_and_a_remedy(rule: dict[str, Any]) -> None:
    checks = [check for case in CASES for check in case["alert_rule_test"] if check["alertname"] == rule["alert"]]
    assert any(check.get("exp_alerts") for check in checks)
    assert any(not check.get("exp_alerts") for check in checks)
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description", "remedy", "runbook"}


NAMES = re.compile(r"\b(?:ab_test|financial_assets)_\w+")
OF_PROMETHEUS = {"instance", "job"}
"""Labels that it gives to each series itself."""


def test_the_rules_use_only_what_exporter_and_interface_expose(tmp_path: Path) -> None:
    prices = panel(sessions=40, tickers=2)
    url = f"sqlite:///{tmp_path / 'predictions.db'}"
    with PredictionLog(url) as log:
        epoch = log.open_epoch(EXPERIMENT, arms(), "start", after=0)
        fill(log, epoch, prices, prices.sessions[20:39])
    further = (Source("prices", lambda: price_metrics(stored_prices(tmp_path), NOW)),)
    collector = ExperimentCollector(lambda: PredictionLog(url), lambda: prices, further=further, halted=lambda: False)
    families = [*collector.collect(), *Metrics().registry.collect()]
    exposed = {sample.name: {*sample.labels, *OF_PROMETHEUS} for family in families for sample in family.samples}
    used = {name for rule in RULES for name in NAMES.findall(rule["expr"])}
    assert used
    assert used <= set(exposed)
    for rule in RULES:
        grouped = {label.strip() for by in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in by.split(",")}
        names = NAMES.findall(rule["expr"])
        assert grouped <= set().union(*(exposed[name] for name in names)), rule["alert"]
