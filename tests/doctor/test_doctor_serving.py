"""The doctor on a healthy installation and on what is served: a fault in each layer is named first, with its remedy."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from financial_assets.cli.main import main
from financial_assets.doctor import examine
from financial_assets.doctor.serving import check_attribution, check_gateway, check_routing, check_target
from financial_assets.doctor.stores import LogState
from financial_assets.doctor.walk import LayerError
from financial_assets.installation import ServingAccess
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import Layout
from financial_assets.serving.local.processes.process import SupervisorState
from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import EXPERIMENT_NAME, experiment_manifest, model_manifest
from financial_assets.serving.target import Endpoint, TargetStatus
from financial_assets.tracking import ModelVersion
from tests.doctor.doctor_home import (
    ARMS,
    BARS,
    BASELINE,
    ENHANCED,
    EPOCH,
    LAYERS,
    LIGHTWEIGHT,
    FakeClient,
    healthy_status,
    named_first,
    onnx_of,
    play,
    snapshot,
)


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
    findings = named_first("price store", detail="holds no prices", remedy="`financial-assets run`")
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
    rows = [row for row in cells if row[1]]  # what is detail may go on in further lines, also on a narrow terminal
    assert [row[1] for row in rows] == LAYERS
    assert {row[2] for row in rows} == {"ok"}
    assert "every layer works" in healthy.output
    onnx_of(home, ARMS[1]).unlink()
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


# --- serving, with doubles -------------------------------------------------------------------------------------------


def test_a_target_that_is_stopped_unwell_or_empty(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = "no plane runs"
    play(monkeypatch, TargetStatus("local", False, None, problems=(problem,)))
    findings = named_first("serving target", detail=problem, remedy="`financial-assets serve`")
    assert [finding.state for finding in findings[-4:-1]] == ["not reached"] * 3
    unwell = replace(healthy_status(), ready=False, problems=("mlserver is back-off; last exit: killed",))
    play(monkeypatch, unwell)
    named_first("serving target", detail="mlserver is back-off", remedy="`financial-assets stop`")
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
        monkeypatch.setattr(ServingAccess, "connect", lambda _: InferenceClient(nobody, timeout_s=2))
        findings = named_first("gateway", detail="HTTP at", remedy="`financial-assets stop`")
    assert [finding.state for finding in findings[-3:-1]] == ["not reached"] * 2


@pytest.mark.parametrize(
    ("client", "detail"),
    [
        (FakeClient(silent="gRPC"), "gRPC at 127.0.0.1:1"),
        (FakeClient(probability=float("nan")), "answers NaN or infinity in probability_up"),
        (FakeClient(score=float("inf")), "answers NaN or infinity in excess_return"),
    ],
)
def test_a_gateway_without_grpc_or_with_nan(client: FakeClient, detail: str) -> None:
    with pytest.raises(LayerError, match=detail):
        check_gateway(lambda: contextlib.nullcontext(client), healthy_status(), BARS)


def test_weights_that_are_not_those_of_the_rollout_state(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, healthy_status({BASELINE: 50, ENHANCED: 50}))
    findings = named_first("routing", detail=f"{ENHANCED} 50", remedy="--select experiment")
    assert findings[-2].state == "not reached"


@pytest.mark.parametrize(
    ("status", "client", "detail", "remedy"),
    [
        (replace(healthy_status(), models=healthy_status().models[:2]), FakeClient(), LIGHTWEIGHT, "predictors/light"),
        (replace(healthy_status(), experiments=()), FakeClient(), "has no experiment", "experiment"),
        (healthy_status(), FakeClient(LIGHTWEIGHT), f"{LIGHTWEIGHT} answered", "experiment"),
        (healthy_status(), FakeClient(silent="HTTP"), "connection refused", "experiment"),
    ],
    ids=["arm not deployed", "no experiment", "shadow answers", "no answer"],
)
def test_routing_that_is_not_the_experiments(
    status: TargetStatus, client: FakeClient, detail: str, remedy: str
) -> None:
    with pytest.raises(LayerError, match=detail) as caught:
        check_routing(lambda: contextlib.nullcontext(client), status, EPOCH, BARS)
    assert remedy in caught.value.remedy


def test_an_answer_without_a_route_or_from_an_unregistered_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, client=FakeClient(route=None))
    named_first("attribution", detail="x-seldon-route", remedy="`financial-assets stop`")
    with pytest.raises(LayerError, match="which the registry does not hold"):
        check_attribution(BASELINE, [ModelVersion("m", 9, "run", {"variant": "baseline"})], LogState(EPOCH, 0, 0))


# --- a real plane ----------------------------------------------------------------------------------------------------


@pytest.fixture
def plane(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalTarget]:
    """The home's tiny models, served by the local plane."""
    target = LocalTarget(home)
    monkeypatch.setattr(ServingAccess, "target", lambda _: target)
    monkeypatch.setattr(ServingAccess, "connect", lambda _: InferenceClient(target.endpoint(), timeout_s=10))
    models = [model_manifest(arm.model, onnx_of(home, arm).parent.as_uri()) for arm in ARMS]
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
    served = home / "serving" / "models" / f"{BASELINE}_1" / "model.onnx"
    sound = served.read_bytes()
    for harm in (lambda: served.write_bytes(sound[: len(sound) // 2]), lambda: served.write_bytes(b""), served.unlink):
        harm()
        named_first("served files", detail=BASELINE, remedy="`financial-assets serve` restores it")
        assert CliRunner().invoke(main, ["serve"]).exit_code == 0
        assert served.read_bytes() == sound
    assert {finding.state for finding in examine()} == {"ok"}
    plane.apply([experiment_manifest(default=BASELINE, weights={BASELINE: 1, ENHANCED: 99})])
    named_first("routing", detail=f"{ENHANCED} 99", remedy="--select experiment")
    assert plane.status().experiments[0].weights == {BASELINE: 1, ENHANCED: 99}  # reported, not mended
    supervised = SupervisorState.read(Layout(home).supervisor_state)
    assert supervised is not None
    (server,) = (child.identity for child in supervised.children if child.name == "mlserver")
    assert server is not None
    os.kill(supervised.identity.pid, signal.SIGSTOP)  # else the server is back before it is missed
    try:
        psutil.Process(server.pid).kill()
        named_first("serving target", detail=f"Model {BASELINE} does not answer", remedy="`financial-assets stop`")
    finally:
        os.kill(supervised.identity.pid, signal.SIGCONT)
    layout = Layout(home)
    for path in (layout.ports_file, layout.supervisor_state, layout.specs, layout.envoy / "clusters.json"):
        path.write_text(path.read_text()[:20])
    findings = named_first("served files", detail=str(layout.ports_file), remedy=f"`rm {layout.ports_file}")
    assert "`financial-assets stop`, then" in findings[LAYERS.index("served files")].remedy
    assert control.stop(home), "the supervisor is found although its file is damaged"
    layout.desired.write_text("{")
    named_first("served files", detail="desired.json is damaged", remedy=f"`rm -r {layout.desired}`")
    for path in (layout.ports_file, layout.desired):
        path.unlink()
    named_first("served files", detail="desired.json is missing", remedy="--select experiment`")
    shutil.rmtree(layout.models)
    named_first("serving target", detail="no plane runs", remedy="`financial-assets serve`")
