"""The whole road from the command line, as CI and users run it: prices to report, twice, killed, and with a bad row.

One home serves all tests, in the order of the story: a first run on several processes, killed while it replays; the
run that finishes it in one process; another that has nothing to add; a day of ``daily``, the plane stopped before it;
and another under the eyes of Prometheus, whose answers fill every panel of the dashboards.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import Result
from write_metrics import metrics_page

from financial_assets.api.local import beside_the_plane
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS
from financial_assets.market.clock import HistoricalClock
from financial_assets.market.panel import build_panel
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.market.store import PriceStore
from financial_assets.models.predictor import SERVED_LOOKBACK
from financial_assets.monitoring import local
from financial_assets.monitoring.boards import BOARDS, Query
from financial_assets.monitoring.boards.panel import now
from financial_assets.monitoring.prometheus import PrometheusClient
from financial_assets.serving.bar_rules import OUTPUTS
from financial_assets.serving.local import control
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.signal_schema import FURTHER_COLUMNS
from financial_assets.serving.signals import check_signals
from financial_assets.settings import load_settings
from financial_assets.tracking import ModelRegistry
from financial_assets.tracking.owners import OWNER_PID
from tests.in_process import execute_job, financial_assets
from tests.integration import killing, panels
from tests.kept_thresholds import share_thresholds
from tests.tracking.mlflow_store import client_of
from tests.waiting import finish, run, wait, wait_on

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
REPLAYED = 40
NOTHING: dict[str, list[str]] = {"dagster": [], "mlflow": [], "slots": []}
EXPERIMENT = "financial-ab-test-experiment"
# Each step has a process of its own, forked from one that has done nothing but import the graph and what steps import
# late: each of them would spend seconds on it.
LATE = ["matplotlib.pyplot", "mlflow.onnx", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "torch._dynamo"]
FORKED = {"forkserver": {"preload_modules": ["financial_assets.definitions", *LATE]}}
MULTIPROCESS = {"execution": {"config": {"multiprocess": {"max_concurrent": 2, "start_method": FORKED}}}}


@dataclass(frozen=True)
class World:
    """A home, and the environment of commands that use it."""

    home: Path
    environment: dict[str, str]

    instance: dg.DagsterInstance

    def execute(self, job: str) -> Result:
        return execute_job(job, self.environment)

    def ask(self, *arguments: str) -> Result:
        return financial_assets(*arguments, environment=self.environment)

    def left_open(self) -> dict[str, list[str]]:
        return killing.left_open(self.instance, client_of(f"sqlite:///{self.home / 'mlflow.db'}"))

    def counts(self) -> tuple[int, int]:
        with PredictionLog(f"sqlite:///{self.home / 'predictions.db'}") as log:
            return len(log.routed()), len(log.direct())

    def clock(self) -> pd.Timestamp:
        return HistoricalClock(self.home / "clock.json").now()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = share_thresholds(tmp_path_factory.mktemp("home"), tmp_path_factory)
    folder = tmp_path_factory.mktemp("instance")
    # A busy machine is no reason to roll back: without a challenger there would be no question to show.
    rules = yaml.safe_load((ROOT / "financial_assets" / "experiment" / "plan" / "policy.yaml").read_text())
    rules["guardrails"]["latency_objective_s"] = 5.0
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(yaml.safe_dump(rules))
    settings = {
        "FINANCIAL_ASSETS_HOME": str(home),
        "DAGSTER_HOME": str(folder),
        "PRICE_SOURCE": "simulated",
        "TICKERS": "AAA,BBB",
        "SIMULATED_SESSIONS": "1000",
        "REPLAY_SESSIONS": str(REPLAYED),
        "MAX_EPOCHS": "2",
        "ROLLOUT_POLICY": str(policy),
        "PROGRESS": "false",
        "OMP_NUM_THREADS": "1",
    }
    with killing.instance_of(folder) as instance:
        try:
            yield World(home, {**os.environ, **settings}, instance)
        finally:
            control.stop(home)


@pytest.fixture(scope="module")
def ran(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The first run, by Dagster on several processes, is killed while it replays; `run` goes on from there."""
    config = tmp_path_factory.mktemp("config") / "multiprocess.json"
    config.write_text(json.dumps(MULTIPROCESS))
    first = killing.begin(killing.job_command("full_pipeline", "-c", str(config)), world.environment)
    try:
        _wait_for_predictions(world, first)
    finally:
        killing.kill(first)
    result = world.ask("run")
    assert result.exit_code == 0, result.output[-4000:]
    return world


def _wait_for_predictions(world: World, process: subprocess.Popen[bytes]) -> None:
    wait_on(process, "four predictions", lambda: (world.home / "predictions.db").exists() and world.counts()[0] >= 4)


def test_a_killed_run_is_finished_by_the_next_without_loss_or_double(ran: World) -> None:
    with PredictionLog(f"sqlite:///{ran.home / 'predictions.db'}") as log:
        routed, direct = log.routed(), log.direct()
    assert len(routed) == REPLAYED * 2
    assert len(direct) == REPLAYED * 2 * 3
    assert not routed.duplicated(["experiment", "epoch", "session", "ticker"]).any()
    assert not direct.duplicated(["session", "ticker", "model"]).any()
    assert set(routed["status"]) == {"ok"}
    assert set(direct["status"]) == {"ok"}
    assert set(routed["model"]) <= {"baseline-predictor-v1", "enhanced-predictor-v2"}


def test_a_killed_run_is_failed_by_the_next_and_holds_nothing(ran: World) -> None:
    finished, killed = [record.dagster_run for record in ran.instance.get_run_records()][-2:]
    assert finished.status is dg.DagsterRunStatus.SUCCESS
    assert finished.tags[OWNER_PID] == str(os.getpid()), "`run` names its process, or nobody could tell that it died"
    assert killed.status is dg.DagsterRunStatus.FAILURE
    said = killing.reason(ran.instance, killed.run_id)
    assert f"process {killed.tags[OWNER_PID]} on host" in said
    assert "no longer exists (killed, out of memory, or power cut)" in said
    assert ran.left_open() == NOTHING


def test_steps_of_a_pool_run_one_at_a_time_in_processes_of_their_own(ran: World) -> None:
    killed = [record.dagster_run for record in ran.instance.get_run_records()][-1]
    for members, count in ((("models__", "onnx__"), 6), (("predictors__", "experiment"), 4)):
        spans = killing.spans(ran.instance, killed.run_id, members)
        assert len(spans) == count
        assert all(ended <= began for (_, ended), (began, _) in pairwise(spans)), spans


def test_nothing_was_predicted_from_before_the_cutoff_or_after_the_clock(ran: World) -> None:
    cutoff = pd.Timestamp(json.loads((ran.home / "training.json").read_text())["data_cutoff"])
    with PredictionLog(f"sqlite:///{ran.home / 'predictions.db'}") as log:
        routed = log.routed()
    assert routed["session"].min() > cutoff
    assert routed["session"].max() == ran.clock()
    versions = ModelRegistry(f"sqlite:///{ran.home / 'mlflow.db'}").versions()
    assert [version.tags["data_cutoff"] for version in versions] == [f"{cutoff:%Y-%m-%d}"] * 3


def test_versions_carry_lineage_aliases_and_fingerprints(ran: World) -> None:
    registry = ModelRegistry(f"sqlite:///{ran.home / 'mlflow.db'}")
    versions = {version.tags["variant"]: version for version in registry.versions()}
    assert versions["baseline"].aliases == ("champion",)
    assert versions["enhanced"].aliases == ("challenger",)
    for version in versions.values():
        assert {"dagster.run_id", "fingerprint", "onnx_sha256", "data_cutoff"} <= set(version.tags)


def test_the_report_says_what_can_be_concluded(ran: World) -> None:
    page = (ran.home / "reports" / "ab-evaluation.html").read_text()
    evaluation = json.loads((ran.home / "reports" / "ab-evaluation.json").read_text())
    assert evaluation["conclusion"]["sentence"] in page.replace("&#39;", "'").replace("&#34;", '"')
    assert {skill["name"] for skill in evaluation["skills"]} >= {"majority", "logistic", "baseline-predictor-v1"}
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_the_gateway_answers_a_plain_http_client(ran: World) -> None:
    endpoint = LocalTarget(ran.home).endpoint()
    panel = build_panel(PriceStore(ran.home / "prices").read())
    _, bars = panel.windows(panel.sessions[-1], SERVED_LOOKBACK)
    body = {
        "inputs": [
            {"name": "bars", "datatype": "FP32", "shape": [1, SERVED_LOOKBACK, 7], "data": bars[0].ravel().tolist()}
        ]
    }
    answer = httpx.post(
        f"{endpoint.http_url}/v2/models/{EXPERIMENT}/infer",
        json=body,
        headers={"seldon-model": f"{EXPERIMENT}.experiment"},
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-seldon-route"].strip(":").rsplit("_", 1)[0] in {
        "baseline-predictor-v1",
        "enhanced-predictor-v2",
    }
    outputs = {output["name"]: np.asarray(output["data"]) for output in answer.json()["outputs"]}
    assert 0 < outputs["probability_up"].item() < 1
    assert list(outputs) == list(OUTPUTS)
    for name in ("return_quantiles", "return_quantiles_5d"):
        assert (np.diff(outputs[name]) >= 0).all()
    assert np.isfinite(outputs["excess_return"]).all()


def test_the_champion_left_a_sound_signal_of_every_ticker_at_the_clock(ran: World) -> None:
    path = ran.home / "signals" / f"{ran.clock():%Y-%m-%d}.parquet"
    signals = pd.read_parquet(path)
    assert check_signals(signals, ["AAA", "BBB"]).empty
    assert set(signals["as_of"]) == {ran.clock()}
    assert set(signals["model"]) == {"baseline-predictor-v1"}
    assert sorted(signals["rank"]) == [1, 2]
    assert signals[[*FURTHER_COLUMNS]].notna().all(axis=None)
    assert pd.read_csv(path.with_suffix(".csv"))["ticker"].tolist() == ["AAA", "BBB"]
    asked = ran.ask("signal", "AAA", "--json")
    assert asked.exit_code == 0, asked.output
    found = json.loads(asked.stdout)
    assert found["probability_up"] == pytest.approx(signals["probability_up"].iloc[0], abs=1e-6)
    assert found["score"] == pytest.approx(signals["score"].iloc[0], abs=1e-5)
    assert found["rank"] == signals["rank"].iloc[0]


def test_the_log_holds_every_head_of_every_arm(ran: World) -> None:
    with PredictionLog(f"sqlite:///{ran.home / 'predictions.db'}") as log:
        for rows in (log.routed(), log.direct()):
            heads = rows.loc[rows["status"] == "ok", [*QUANTILE_5D_COLUMNS, "excess_return"]]
            assert len(heads)
            assert heads.notna().all(axis=None)
            assert (heads[[*QUANTILE_5D_COLUMNS]].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)


def test_another_run_adds_nothing(ran: World) -> None:
    before = ran.counts(), PriceStore(ran.home / "prices").content_hash(), ran.clock()
    result = ran.execute("full_pipeline")
    assert result.exit_code == 0, result.output[-4000:]
    assert ran.left_open() == NOTHING
    assert (ran.counts(), PriceStore(ran.home / "prices").content_hash(), ran.clock()) == before
    assert len(ModelRegistry(f"sqlite:///{ran.home / 'mlflow.db'}").versions()) == 3


def test_daily_moves_one_session_forward_and_starts_a_plane_that_was_stopped(ran: World) -> None:
    before, clock = ran.counts(), ran.clock()
    assert control.stop(ran.home)
    result = ran.execute("daily")
    assert result.exit_code == 0, result.output[-4000:]
    assert ran.clock() > clock
    assert ran.counts() == (before[0] + 2, before[1] + 6)
    assert LocalTarget(ran.home).status().ready
    signals = pd.read_parquet(ran.home / "signals" / f"{ran.clock():%Y-%m-%d}.parquet")
    assert check_signals(signals, ["AAA", "BBB"]).empty


def test_envoy_and_mlserver_killed_under_a_replay_come_back_and_each_request_is_logged_once(ran: World) -> None:
    before = ran.counts()
    with subprocess.Popen(
        [sys.executable, "-c", "from financial_assets.cli.main import main; main()", "replay", "--sessions", "160"],
        env=ran.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as replay:
        for name in ("envoy", "mlserver"):
            reached = ran.counts()[0] + 10
            wait_on(replay, f"{name} could be killed", lambda wanted=reached: ran.counts()[0] >= wanted, poll_s=0.02)
            (child,) = (process for process in LocalTarget(ran.home).status().processes if process.name == name)
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
        said, _ = finish(replay)
    assert replay.returncode == 0, said
    assert {process.restarts for process in LocalTarget(ran.home).status().processes} == {1}
    with PredictionLog(f"sqlite:///{ran.home / 'predictions.db'}") as log:
        routed, direct = log.routed(), log.direct()
    sessions = 160 - REPLAYED - 1  # one more was predicted by `daily`
    assert (len(routed), len(direct)) == (before[0] + 2 * sessions, before[1] + 6 * sessions)
    assert not routed.duplicated(["session", "ticker"]).any()
    assert set(direct["status"]) == {"ok"}
    # Each request has one row and one end; those that met a dead process were sent again, or are failures on record.
    assert set(routed["status"]) <= {"ok", "failed", "unattributed", "timeout"}
    assert reached < len(routed), "the replay had no request left when the last process was killed"


def test_the_doctor_finds_the_run_healthy_and_names_what_was_stopped(ran: World) -> None:
    def doctor() -> tuple[int, dict[str, Any]]:
        told = ran.ask("doctor", "--json")
        return told.exit_code, json.loads(told.stdout)

    code, healthy = doctor()
    assert (code, healthy["first_broken"]) == (0, None), healthy
    assert control.stop(ran.home)
    code, broken = doctor()
    assert (code, broken["first_broken"]) == (1, "serving target")
    states = {layer["layer"]: layer["state"] for layer in broken["layers"]}
    assert (states["artefacts"], states["gateway"]) == ("ok", "not reached")


@pytest.fixture(scope="module")
def monitored(ran: World) -> Iterator[PrometheusClient]:
    """All that can be monitored runs, and has done a day's work under the eyes of the real Prometheus."""
    control.stop(ran.home)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**ran.environment, "API_PORT": "0"}.items():
            patch.setenv(name, value)
        urls = local.start(
            ran.home,
            local.configuration_folder(),
            environment={"FINANCIAL_ASSETS_HOME": str(ran.home)},
            interval="5s",
            further=beside_the_plane(load_settings()),
        )
    result = ran.execute("daily")
    assert result.exit_code == 0, result.output[-4000:]
    yield PrometheusClient(urls["prometheus"])
    control.stop(ran.home)


@pytest.mark.debian("prometheus")
@pytest.mark.debian("prometheus-alertmanager")
def test_every_panel_has_data_of_the_running_system(ran: World, monitored: PrometheusClient) -> None:
    empty: list[tuple[str, str, str]] = []

    def is_filled() -> bool:
        empty[:] = panels.without_data(panels.ask_all(BOARDS, monitored))
        return not empty

    try:
        wait("every panel has data", is_filled, poll_s=2)
    finally:
        assert empty == []  # names them
    # Which panel would be empty is seen: a misspelt metric is, and is the only one.
    misspelt = Query("ab_test_question_anwser", "{{question}}")
    first, *rows = BOARDS[0].rows
    wrong = replace(BOARDS[0], rows=(replace(first, panels=(*first.panels, now("Typo", "A typo.", misspelt))), *rows))
    assert panels.without_data(panels.ask_all([wrong], monitored)) == [("ab-test", "Typo", misspelt.promql)]


@pytest.mark.debian("prometheus")
@pytest.mark.debian("prometheus-alertmanager")
def test_panels_show_what_the_state_holds(ran: World, monitored: PrometheusClient) -> None:
    def value(promql: str) -> float:
        (series,) = monitored.now(promql)
        return series.values[0]

    # The clock is what a day moves last: whoever has seen it move has scraped all of the day.
    clock = "financial_assets_market_clock_timestamp_seconds"
    wait("the day is scraped", lambda: value(clock) == ran.clock().timestamp(), poll_s=1)
    evaluation = json.loads((ran.home / "reports" / "ab-evaluation.json").read_text())
    tail = next(one for one in evaluation["coverage"] if one["role"] == "champion" and one["horizon"] == 5)
    labels = f'horizon_sessions="5", model_name="{tail["model"]}", side="{tail["side"]}", level="{tail["level"]:g}"'
    assert value(f"financial_assets_var_breaches{{{labels}}}") == tail["beyond"]
    assert value(f"financial_assets_var_breach_ratio{{{labels}}}") == pytest.approx(tail["share"]["estimate"])
    assert value("sum(ab_test_requests_total)") == ran.counts()[0]
    failed = sum(record.dagster_run.is_failure for record in ran.instance.get_run_records())
    assert value('sum(financial_assets_runs{status="failed"})') == failed >= 1  # the one that was killed at first
    with PredictionLog(f"sqlite:///{ran.home / 'predictions.db'}") as log:
        assert value("sum(ab_test_decisions_total)") == len(log.decisions(EXPERIMENT))
    # Every metric that a rule or a panel reads is one that somebody exposes, with a help text.
    told = set(httpx.get(f"{monitored.url}/api/v1/metadata").json()["data"])
    rules = (local.configuration_folder() / "rules.yml").read_text()
    read = {*re.findall(r"\b(?:ab_test|financial_assets)_\w+", rules)}
    read |= {name for board in BOARDS for panel in board.panels for query in panel.queries for name in query.metrics}
    unknown = {name for name in read if not {name, re.sub(r"_(bucket|sum|count|total)$", "", name)} & told}
    assert unknown <= {"up"}, "made by Prometheus itself"


@pytest.mark.debian("prometheus")
@pytest.mark.debian("prometheus-alertmanager")
def test_the_manual_lists_every_metric_of_the_exporter(ran: World, monitored: PrometheusClient) -> None:
    exposed = httpx.get(f"{local.running_urls(ran.home)['exporter']}/metrics", timeout=60).text
    written = (ROOT / "docs" / "metrics.md").read_text()
    assert written == metrics_page(exposed), "docs/write_metrics.py writes it anew"


@pytest.mark.debian("prometheus")
@pytest.mark.debian("prometheus-alertmanager")
def test_the_terminal_shows_the_same_live_until_ctrl_c(ran: World, monitored: PrometheusClient) -> None:
    printed = ran.ask("dashboard", "--once", "--board", "ab-test")
    assert printed.exit_code == 0, printed.output
    assert "direction:" in printed.output
    assert "no data" not in printed.output
    ours, theirs = pty.openpty()
    command = "from financial_assets.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", command, "dashboard", "--refresh", "1"],
        env={**ran.environment, "TERM": "xterm", "COLUMNS": "160", "LINES": "60"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as live:
        os.close(theirs)
        shown = b""

        def is_drawn_twice() -> bool:
            nonlocal shown
            while select.select([ours], [], [], 0)[0]:
                shown += os.read(ours, 65536)
            return shown.count(b"again in 1 s") >= 2

        # A second picture follows the first by itself.
        wait_on(live, "two pictures", is_drawn_twice, log=lambda: shown.decode(errors="replace"))
        live.send_signal(signal.SIGINT)
        with suppress(OSError):  # EIO: the other end is closed
            while os.read(ours, 65536):
                pass
        assert live.wait() == 0
        assert live.stderr is not None
        assert live.stderr.read() == b""
    os.close(ours)
    assert "Verdict" in shown.decode(errors="replace")


def test_a_corrupted_row_stops_the_run_and_is_named(world: World, tmp_path: Path) -> None:
    broken = SimulatedPrices(SimulatedMarket(sessions=400)).fetch(["AAA", "BBB"]).prices
    broken.loc[100, "high"] = broken.loc[100, "low"] / 2
    path = tmp_path / "prices.csv"
    broken.to_csv(path, index=False)
    home = tmp_path / "home"
    files = {"PRICE_SOURCE": "files", "PRICE_FILES": str(path), "FINANCIAL_ASSETS_HOME": str(home)}
    files["QUALITY_POLICY"] = "strict"  # otherwise the row is left out, and the run goes on
    # A process of its own: what counts is what it prints.
    result = run(killing.job_command("full_pipeline"), env=world.environment | files, cwd=ROOT)
    assert result.returncode != 0
    printed = " ".join((result.stderr + result.stdout).split())
    assert broken.loc[100, "ticker"] in printed
    assert f"{broken.loc[100, 'date']:%Y-%m-%d}" in printed
    assert PriceStore(home / "prices").read().empty
    assert not (home / "panel").exists()
