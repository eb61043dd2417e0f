"""The exporter as a process: its URL, its totals over a restart, its end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from financial_assets.cli.main import main
from financial_assets.experiment.prediction_log.log import PredictionLog
from tests.monitoring.monitoring_doubles import EXPERIMENT, arms, fill, panel

PRICES = panel(sessions=30, tickers=2)
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts exporters and gives their URLs; ends what a test leaves."""
    running: list[subprocess.Popen[str]] = []
    without_instance = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}

    def begin(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", "from financial_assets.cli.main import main; main()", "exporter", *arguments],
            # A folder without dagster.yaml, so that there are no runs to tell of.
            env={**without_instance, "FINANCIAL_ASSETS_HOME": str(tmp_path)},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def without_ages(samples: Samples) -> Samples:
    ages = {f"ab_test_{unit}_since_last_prediction" for unit in ("seconds", "sessions")}
    return {key: value for key, value in samples.items() if key[0] not in ages}


def scrape(url: str) -> Samples:
    with urllib.request.urlopen(url, timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_listens_where_it_is_told_totals_survive_a_kill_and_ctrl_c_ends_it_cleanly(
    start: Start, tmp_path: Path
) -> None:
    with PredictionLog(f"sqlite:///{tmp_path / 'predictions.db'}") as log:
        epoch = log.open_epoch(EXPERIMENT, arms(), "start", after=0)
        fill(log, epoch, PRICES, PRICES.sessions[10:20])
    first, url = start("--port", "0", "--host", "0.0.0.0")
    assert re.fullmatch(r"http://0\.0\.0\.0:\d+/metrics", url)
    # Another address of the loopback network stands for the one by which a pod is reached.
    seen = scrape(url.replace("0.0.0.0", "127.0.0.2"))
    assert seen["ab_test_exporter_up", (("source", "log"),)] == 1
    assert seen["ab_test_exporter_up", (("source", "prices"),)] == 0  # this home has no prices, and says so
    first.kill()
    first.wait(10)
    again, url = start()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url)
    assert without_ages(scrape(url)) == without_ages(seen)
    again.send_signal(signal.SIGINT)
    output, errors = again.communicate()
    assert again.returncode == 0
    assert output == ""
    assert "Traceback" not in errors


def test_without_a_log_it_answers_that_there_is_none_and_makes_none(start: Start, tmp_path: Path) -> None:
    process, url = start()
    assert scrape(url) == {
        ("ab_test_exporter_up", (("source", "log"),)): 0,
        ("financial_assets_trading_halted", ()): 0,
    }
    with pytest.raises(urllib.error.URLError, match="refused"):
        scrape(url.replace("127.0.0.1", "127.0.0.2"))  # another address of this machine
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 0
    assert "there is no prediction log" in errors
    assert not (tmp_path / "predictions.db").exists()


def test_a_taken_port_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(tmp_path))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        ended = CliRunner().invoke(main, ["exporter", "--port", port])
    assert ended.exit_code == 1
    assert isinstance(ended.exception, SystemExit), "an error of ours, told without a traceback"
    assert f"--port {port}" in ended.output
