"""The doctor: a fault planted in each layer is named first, with its remedy; nothing in the home changes."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner

from financial_assets.cli import main
from financial_assets.doctor import Finding, examine, first_broken
from financial_assets.doctor.serving import check_attribution, check_gateway, check_routing, check_target
from financial_assets.doctor.stores import LogState, check_artefacts, check_log, check_registry, check_state_folder
from financial_assets.doctor.walk import LayerError
from financial_assets.errors import GatewayUnavailableError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.records import Forecast, Result
from financial_assets.models.export import file_sha256
from financial_assets.resources import Serving, make_resources
from financial_assets.serving.answers import Answer
from financial_assets.serving.client import InferenceClient
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import Layout
from financial_assets.serving.local.processes import SupervisorState
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import EXPERIMENT_NAME, experiment_manifest, model_manifest, model_name
from financial_assets.serving.target import Endpoint, ExperimentStatus, ModelStatus, ProcessStatus, TargetStatus
from financial_assets.settings import load_settings
from financial_assets.tracking import MlflowTracker, ModelRegistry, ModelVersion

LAYERS = [
    "settings",
    "state folder",
    "price store",
    "MLflow",
    "prediction log",
    "artefacts",
    "serving target",
    "gateway",
    "routing",
    "attribution",
]
MARKET = {"PRICE_SOURCE": "simulated", "TICKERS": "AAA,BBB", "SIMULATED_SESSIONS": "400"}
CUTOFF = pd.Timestamp("2020-01-02")
BARS = np.full((2, 256, 7), 100.0, dtype=np.float32)


def _arm(variant: str, version: int, role: Any, weight: int) -> Arm:
    return Arm(model_name(variant, version), variant, version, role, weight, CUTOFF)


ARMS = (
    _arm("baseline", 1, "champion", 70),
    _arm("enhanced", 2, "challenger", 30),
    _arm("lightweight", 3, "shadow", 0),
)
BASELINE, ENHANCED, LIGHTWEIGHT = (arm.model for arm in ARMS)
EPOCH = WeightEpoch(EXPERIMENT_NAME, 1, pd.Timestamp("2024-01-02", tz="UTC"), ARMS, "start")


def _write_model(folder: Path, logit: float) -> Path:
    """The tiny ONNX graph of the serving tests."""
    spec = importlib.util.spec_from_file_location("tiny_models", Path(__file__).parent / "serving" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tiny_models", module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    return module.write_model(folder, logit)


def _onnx(home: Path, arm: Arm) -> Path:
    return home / "models" / arm.variant / f"print{arm.version}" / "artifact" / "model.onnx"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as a run leaves it, with tiny models and without a plane."""
    home = tmp_path_factory.mktemp("made") / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**MARKET, "FINANCIAL_ASSETS_HOME": str(home)}.items():
            patch.setenv(name, value)
        resources = make_resources(load_settings())
    market = resources["market"]
    market.ingest()
    market.begin(market.whole_panel().sessions)
    registry, tracker = resources["workshop"].registry(), resources["workshop"].tracker()
    for arm in ARMS:
        path = _write_model(_onnx(home, arm).parent, float(arm.version)) / "model.onnx"
        with tracker.run(arm.variant, tags={}, params={}) as run:
            run.log_artifacts(path.parent, "model")
        tags = {"variant": arm.variant, "fingerprint": f"print{arm.version}", "onnx_sha256": file_sha256(path)}
        assert registry.register(run.id, "model", tags).version == arm.version
    registry.set_alias("champion", 1)
    registry.set_alias("challenger", 2)
    with resources["ab_test"].log() as log:
        epoch = log.open_epoch(EXPERIMENT_NAME, ARMS, "start", after=0)
        days = market.whole_panel().sessions[-2:]
        intents = log.begin_routed(epoch, days[0], days[1], ["AAA", "BBB"])
        forecast = Forecast(0.5, (-0.02, -0.01, 0.0, 0.01, 0.02))
        log.complete_routed([Result(intent.id, forecast, route=BASELINE, latency_s=0.01) for intent in intents])
    return home


@dataclass(frozen=True)
class FakeClient:
    """Answers as the arm ``route``, or not at all over a ``silent`` protocol."""

    route: str | None = BASELINE
    silent: str = ""
    probability: float = 0.5

    def infer(self, target: str, bars: np.ndarray, protocol: str = "HTTP") -> Answer:
        if protocol == self.silent:
            raise GatewayUnavailableError(f"{protocol}: connection refused")
        shape = (len(bars), 5)
        return Answer(np.full(len(bars), self.probability), np.zeros(shape), self.route, 1, target, 0.01, "id")

    def infer_batch(self, target: str, bars: np.ndarray) -> Answer:
        return self.infer(target, bars, "gRPC")


@dataclass(frozen=True)
class FakeTarget:
    """A target with this status."""

    found: TargetStatus

    def status(self) -> TargetStatus:
        return self.found


def healthy_status(weights: Mapping[str, int] | None = None) -> TargetStatus:
    return TargetStatus(
        "local",
        True,
        Endpoint("http://127.0.0.1:1", "127.0.0.1:1"),
        tuple(ModelStatus(arm.model, f"{arm.model}_1", True, "file:///x") for arm in ARMS),
        (ExperimentStatus(EXPERIMENT_NAME, BASELINE, weights or EPOCH.weights, None, True),),
        (ProcessStatus("envoy", 1, "running", 0, ""), ProcessStatus("mlserver", 2, "running", 0, "")),
    )


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the home that the environment names; serving is played by doubles."""
    copy = tmp_path / "home"
    shutil.copytree(made, copy)
    for name, value in {**MARKET, "FINANCIAL_ASSETS_HOME": str(copy)}.items():
        monkeypatch.setenv(name, value)
    # One client a database: opening MLflow takes most of the time.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{made / 'mlflow.db'}")
    play(monkeypatch)
    return copy


def play(patch: pytest.MonkeyPatch, status: TargetStatus | None = None, client: FakeClient | None = None) -> None:
    patch.setattr(Serving, "target", lambda _: FakeTarget(status or healthy_status()))
    patch.setattr(Serving, "connect", lambda _: contextlib.nullcontext(client or FakeClient()))


def named_first(layer: str, *, said: str, remedy: str) -> tuple[Finding, ...]:
    """Examine; the first broken layer is this one, with these words; all layers before it work."""
    findings = examine()
    assert [finding.layer for finding in findings] == LAYERS
    first = first_broken(findings)
    assert first is not None
    assert (first.layer, said in first.said, remedy in first.remedy) == (layer, True, True), first
    assert {finding.state for finding in findings[: LAYERS.index(layer)]} <= {"ok", "warn"}
    return findings


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder",
        )
        for path in [folder, *folder.rglob("*")]
    }


# --- a healthy installation -----------------------------------------------------------------------------------------


def test_a_healthy_home_is_ok_in_every_layer_and_nothing_in_it_changes(
    made: Path, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    findings = examine()
    assert [(finding.layer, finding.state, finding.remedy) for finding in findings] == [(n, "ok", "") for n in LAYERS]
    assert snapshot(tmp_path) == before
    assert len(before) > 20


def test_an_empty_home_stays_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(tmp_path))
    findings = named_first("price store", said="holds no prices", remedy="`financial-assets run`")
    assert {f.layer for f in findings if f.state == "broken"} == {
        "price store",
        "MLflow",
        "prediction log",
        "serving target",
    }
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_a_line_a_layer_and_json_and_exits_by_health(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = CliRunner().invoke(main, ["doctor"])
    assert healthy.exit_code == 0
    cells = [[cell.strip() for cell in line.split("│")] for line in healthy.output.splitlines() if line.startswith("│")]
    rows = [row for row in cells if row[1]]  # what is said may go on in further lines, also on a narrow terminal
    assert [row[1] for row in rows] == LAYERS
    assert {row[2] for row in rows} == {"ok"}
    assert "every layer works" in healthy.output
    _onnx(home, ARMS[1]).unlink()
    broken = CliRunner().invoke(main, ["doctor"])
    assert broken.exit_code == 1
    assert "first broken: artefacts: enhanced-predictor-v2" in broken.output
    assert "onnx/enhanced" in broken.output
    told = CliRunner().invoke(main, ["doctor", "--json"])
    assert told.exit_code == 1
    document = json.loads(told.output)
    assert (document["healthy"], document["first_broken"]) == (False, "artefacts")
    assert [layer["layer"] for layer in document["layers"]] == LAYERS
    monkeypatch.setenv("TICKERS", "[red],A")
    assert "first broken: settings" in CliRunner().invoke(main, ["doctor"]).output


# --- settings, state folder, prices ----------------------------------------------------------------------------------


def test_a_bad_setting_leaves_all_else_not_reached(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_LENGTH", "ten")
    findings = named_first("settings", said="SEQUENCE_LENGTH: got 'ten'", remedy="set or unset the variable")
    assert {finding.state for finding in findings[1:]} == {"not reached"}


def test_a_malformed_policy_is_a_setting(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "policy.yaml").write_text("experiment: [")
    monkeypatch.setenv("ROLLOUT_POLICY", str(home / "policy.yaml"))
    named_first("settings", said="is not YAML", remedy="variable")


def test_a_home_that_is_not_there_or_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(home / "absent"))
    named_first("state folder", said="does not exist", remedy="FINANCIAL_ASSETS_HOME")
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(home / "clock.json"))
    named_first("state folder", said="is no folder", remedy="FINANCIAL_ASSETS_HOME")


def test_a_full_disk_and_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_state_folder(tmp_path, free_bytes=2 << 30).remedy == ""
    assert "make room" in check_state_folder(tmp_path, free_bytes=1 << 29).remedy
    with pytest.raises(LayerError, match=r"0\.0 GB free"):
        check_state_folder(tmp_path, free_bytes=1 << 20)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(LayerError, match="cannot be written to"):
        check_state_folder(tmp_path)


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_store_file(home: Path) -> None:
    _damage(home / "prices" / "prices.parquet")
    findings = named_first("price store", said="is damaged", remedy="remove")
    assert {f.layer: f.state for f in findings}["artefacts"] == "not reached"


def test_an_impossible_stored_price(home: Path) -> None:
    path = home / "prices" / "prices.parquet"
    prices = pd.read_parquet(path)
    prices.loc[10, "high"] = prices.loc[10, "low"] / 2
    prices.to_parquet(path, index=False)
    named_first("price store", said="ohlc_order: ", remedy="materialize")


def test_a_ticker_without_prices_another_source_and_a_lost_clock(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKERS", "AAA,ZZZ")
    named_first("price store", said="no prices of ZZZ", remedy="TICKERS")
    monkeypatch.setenv("TICKERS", "AAA,BBB")
    monkeypatch.setenv("SIMULATED_SIGNAL", "0.9")
    named_first("price store", said="holds the state of", remedy="FINANCIAL_ASSETS_HOME")
    monkeypatch.delenv("SIMULATED_SIGNAL")
    (home / "clock.json").unlink()
    named_first("price store", said="never started", remedy="`financial-assets run`")


def test_prices_that_end_before_the_clock_are_a_warning(home: Path) -> None:
    path = home / "prices" / "prices.parquet"
    prices = pd.read_parquet(path)
    now = pd.Timestamp(json.loads((home / "clock.json").read_text())["as_of"])
    prices[(prices["ticker"] == "AAA") | (prices["date"] < now)].to_parquet(path, index=False)
    found = {finding.layer: finding for finding in examine()}["price store"]
    assert (found.state, "BBB" in found.said, "-j daily" in found.remedy) == ("warn", True, True)


# --- MLflow and the prediction log -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(b"no database" * 500), "file is not a database"),
        (lambda path: path.write_bytes(b""), "lacks the tables experiments, model_versions"),
    ],
    ids=["missing", "damaged", "empty"],
)
def test_mlflows_database(
    home: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[Path], object], said: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    plant(home / "mlflow.db")
    before = snapshot(home)
    findings = named_first("MLflow", said=said, remedy="mlflow.db" if said == "file is not a database" else "MLFLOW_")
    assert {f.layer: f.state for f in findings}["artefacts"] == "not reached"
    assert snapshot(home) == before


def test_an_unreachable_server_and_a_registry_without_versions_or_aliases(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(Exception, match="is the server running there"):
            check_registry(f"http://127.0.0.1:{closed.getsockname()[1]}")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker, registry = MlflowTracker(uri, "x", tmp_path / "artifacts"), ModelRegistry(uri)
    with tracker.run("x", tags={}, params={}) as run:
        run.log_artifact(made / "clock.json", "model")
    with pytest.raises(LayerError, match="holds no model version"):
        check_registry(uri)
    registry.register(run.id, "model", {"variant": "baseline"})
    assert "--select experiment" in check_registry(uri).remedy


def test_a_log_that_is_absent_damaged_or_holds_no_epoch(home: Path) -> None:
    path = home / "predictions.db"
    path.unlink()
    named_first("prediction log", said="does not exist", remedy="PREDICTION_LOG_URL")
    assert not path.exists()
    path.write_bytes(b"no database" * 500)
    named_first("prediction log", said="file is not a database", remedy=f"put {path} back")
    path.unlink()
    PredictionLog(f"sqlite:///{path}").close()
    findings = named_first("prediction log", said="no weight epoch", remedy="--select experiment")
    states = {finding.layer: finding.state for finding in findings}
    assert (states["gateway"], states["routing"], states["artefacts"]) == ("ok", "not reached", "not reached")


def test_a_locked_log(home: Path) -> None:
    path = home / "predictions.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        holder.execute("UPDATE weight_epochs SET reason = 'x'")
        named_first("prediction log", said="locked", remedy=f"`fuser {path}`")


def test_open_intents_and_requests_without_an_arm_are_warnings(home: Path) -> None:
    with PredictionLog(f"sqlite:///{home / 'predictions.db'}") as log:
        epoch = log.current_epoch(EXPERIMENT_NAME)
        assert epoch is not None
        days = pd.bdate_range("2024-01-02", periods=2)
        first, _ = log.begin_routed(epoch, days[0], days[1], ["AAA", "BBB"])
        log.complete_routed([Result(first.id, None, "failed", error="503")])
        before = (home / "predictions.db").read_bytes()
        found = {finding.layer: finding for finding in examine()}  # while a writer has the log open
        assert (home / "predictions.db").read_bytes() == before
    assert (found["prediction log"].state, "1 open" in found["prediction log"].said) == ("warn", True)
    assert (found["attribution"].state, "1 of 3" in found["attribution"].said) == ("warn", True)


def test_a_log_of_another_release(home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / "predictions.db")) as connection, connection:
        connection.execute("UPDATE prediction_log_version SET version = 99")
    with pytest.raises(LayerError, match="version 99"):
        check_log(f"sqlite:///{home / 'predictions.db'}", EXPERIMENT_NAME)


# --- artefacts -------------------------------------------------------------------------------------------------------


def test_a_damaged_or_missing_onnx_file(home: Path) -> None:
    path = _onnx(home, ARMS[2])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    named_first("artefacts", said="lightweight-predictor-v3: SHA-256", remedy="--select onnx/lightweight")
    path.unlink()
    findings = named_first("artefacts", said="does not exist", remedy="--select onnx/lightweight")
    assert {f.layer: f.state for f in findings}["attribution"] == "ok"  # serving has a copy of its own


def _registered(path: Path, version: int = 1) -> ModelVersion:
    tags = {"variant": "baseline", "fingerprint": path.parents[1].name, "onnx_sha256": file_sha256(path)}
    return ModelVersion("m", version, "run", tags)


def test_a_registered_file_that_cannot_run_or_answers_nan(tmp_path: Path) -> None:
    path = tmp_path / "baseline" / "print1" / "artifact" / "model.onnx"
    _write_model(path.parent, float("nan"))
    with pytest.raises(LayerError, match="answers NaN"):
        check_artefacts(tmp_path, ARMS[:1], [_registered(path)], BARS)
    path.write_bytes(b"no model")
    with pytest.raises(LayerError, match="onnxruntime cannot run"):
        check_artefacts(tmp_path, ARMS[:1], [_registered(path)], BARS)
    with pytest.raises(LayerError, match="the registry has no version 1"):
        check_artefacts(tmp_path, ARMS[:1], [_registered(path, version=2)], BARS)


# --- serving, with doubles -------------------------------------------------------------------------------------------


def test_a_target_that_is_stopped_unwell_or_empty(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = "no plane runs"
    play(monkeypatch, TargetStatus("local", False, None, problems=(problem,)))
    findings = named_first("serving target", said=problem, remedy="`financial-assets serve`")
    assert [finding.state for finding in findings[-3:]] == ["not reached"] * 3
    unwell = replace(healthy_status(), ready=False, problems=("mlserver is back-off; last exit: killed",))
    play(monkeypatch, unwell)
    named_first("serving target", said="mlserver is back-off", remedy="`financial-assets stop`")
    with pytest.raises(LayerError, match="back-off") as caught:
        check_target(replace(unwell, target="kubernetes"))
    assert "kubectl" in caught.value.remedy
    with pytest.raises(LayerError, match="no model is deployed"):
        check_target(replace(healthy_status(), models=()))


def test_a_gateway_that_nobody_answers_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        nobody = Endpoint(f"http://127.0.0.1:{port}", f"127.0.0.1:{port}")
        monkeypatch.setattr(Serving, "connect", lambda _: InferenceClient(nobody, timeout_s=2))
        findings = named_first("gateway", said="HTTP at", remedy="`financial-assets stop`")
    assert [finding.state for finding in findings[-2:]] == ["not reached"] * 2


@pytest.mark.parametrize(
    ("client", "said"),
    [(FakeClient(silent="gRPC"), "gRPC at 127.0.0.1:1"), (FakeClient(probability=float("nan")), "answers NaN")],
)
def test_a_gateway_without_grpc_or_with_nan(client: FakeClient, said: str) -> None:
    with pytest.raises(LayerError, match=said):
        check_gateway(lambda: contextlib.nullcontext(client), healthy_status(), BARS)


def test_weights_that_are_not_those_of_the_rollout_state(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, healthy_status({BASELINE: 50, ENHANCED: 50}))
    findings = named_first("routing", said=f"{ENHANCED} 50", remedy="--select experiment")
    assert findings[-1].state == "not reached"


@pytest.mark.parametrize(
    ("status", "client", "said", "remedy"),
    [
        (replace(healthy_status(), models=healthy_status().models[:2]), FakeClient(), LIGHTWEIGHT, "predictors/light"),
        (replace(healthy_status(), experiments=()), FakeClient(), "has no experiment", "experiment"),
        (healthy_status(), FakeClient(LIGHTWEIGHT), f"{LIGHTWEIGHT} answered", "experiment"),
        (healthy_status(), FakeClient(silent="HTTP"), "connection refused", "experiment"),
    ],
    ids=["arm not deployed", "no experiment", "shadow answers", "no answer"],
)
def test_routing_that_is_not_the_experiments(status: TargetStatus, client: FakeClient, said: str, remedy: str) -> None:
    with pytest.raises(LayerError, match=said) as caught:
        check_routing(lambda: contextlib.nullcontext(client), status, EPOCH, BARS)
    assert remedy in caught.value.remedy


def test_an_answer_without_a_route_or_from_an_unregistered_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, client=FakeClient(route=None))
    named_first("attribution", said="x-seldon-route", remedy="`financial-assets stop`")
    with pytest.raises(LayerError, match="which the registry does not hold"):
        check_attribution(BASELINE, [ModelVersion("m", 9, "run", {"variant": "baseline"})], LogState(EPOCH, 0, 0))


# --- a real plane ----------------------------------------------------------------------------------------------------


@pytest.fixture
def plane(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalTarget]:
    """The home's tiny models, served by the local plane."""
    target = LocalTarget(home)
    monkeypatch.setattr(Serving, "target", lambda _: target)
    monkeypatch.setattr(Serving, "connect", lambda _: InferenceClient(target.endpoint(), timeout_s=10))
    models = [model_manifest(arm.model, _onnx(home, arm).parent.as_uri()) for arm in ARMS]
    try:
        target.apply([*models, experiment_manifest(EXPERIMENT_NAME, default=BASELINE, weights=EPOCH.weights)])
        yield target
    finally:
        control.stop(home)


@pytest.mark.integration
def test_a_real_plane_healthy_then_tampered_with_then_killed_then_stopped(home: Path, plane: LocalTarget) -> None:
    state = {path: at for path, at in snapshot(home).items() if not path.startswith("serving")}
    assert [(finding.layer, finding.state) for finding in examine()] == [(name, "ok") for name in LAYERS]
    assert {path: at for path, at in snapshot(home).items() if not path.startswith("serving")} == state
    plane.set_weights(EXPERIMENT_NAME, {BASELINE: 1, ENHANCED: 99})
    named_first("routing", said=f"{ENHANCED} 99", remedy="--select experiment")
    assert plane.weights(EXPERIMENT_NAME) == {BASELINE: 1, ENHANCED: 99}  # reported, not mended
    supervised = SupervisorState.read(Layout(home).supervisor_state)
    assert supervised is not None
    (server,) = (child.identity for child in supervised.children if child.name == "mlserver")
    assert server is not None
    os.kill(supervised.identity.pid, signal.SIGSTOP)  # else the server is back before it is missed
    try:
        psutil.Process(server.pid).kill()
        named_first("serving target", said=f"Model {BASELINE} does not answer", remedy="`financial-assets stop`")
    finally:
        os.kill(supervised.identity.pid, signal.SIGCONT)
    assert control.stop(home)
    named_first("serving target", said="no plane runs", remedy="`financial-assets serve`")
