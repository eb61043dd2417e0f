"""The MLServer image without a container engine: its files, variables and command, on a folder as the agent lays it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from financial_assets.serving.artifact_store import ArtifactStore
from financial_assets.serving.bar_rules import OUTPUTS
from tests.k8s.container_files import ROOT, read
from tests.waiting import wait_on

pytestmark = pytest.mark.integration

FILE = read(ROOT / "deploy" / "mlserver" / "Dockerfile")
ROUTE = "baseline-predictor-v1_3"
# The only keys of model-settings.json that Seldon's agent keeps.
KEPT = {"name", "inputs", "outputs", "platform", "versions", "parallel_workers", "implementation", "parameters"}


def write_model(folder: Path) -> Path:
    """A graph of the served signature: the sigmoid of the bars' mean, that mean five times, twice, and once more."""
    tensor = helper.make_tensor_value_info
    nodes = [
        helper.make_node("ReduceMean", ["bars", "axes"], ["flat"], keepdims=0),
        helper.make_node("Unsqueeze", ["flat", "last"], ["mean"]),
        helper.make_node("Sigmoid", ["mean"], ["probability_up"]),
        helper.make_node("Concat", ["mean"] * 5, ["return_quantiles"], axis=1),
        helper.make_node("Identity", ["return_quantiles"], ["return_quantiles_5d"]),
        helper.make_node("Identity", ["mean"], ["excess_return"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [tensor("bars", TensorProto.FLOAT, ["batch", 256, 7])],
        [
            tensor("probability_up", TensorProto.FLOAT, ["batch", 1]),
            tensor("return_quantiles", TensorProto.FLOAT, ["batch", 5]),
            tensor("return_quantiles_5d", TensorProto.FLOAT, ["batch", 5]),
            tensor("excess_return", TensorProto.FLOAT, ["batch", 1]),
        ],
        [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("axes", [1, 2]), ("last", [1]))],
    )
    folder.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "model.onnx"
    )
    return folder


def lay_out(root: Path) -> None:
    """Copy what the container file copies, to the same places below ``root``."""
    for sources, destination in FILE.copies():
        folder = root / destination.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copy(ROOT / source, folder)


def as_the_agent(address: str, models: Path) -> Path:
    """Fetch an artefact and rewrite its settings: name and version are the agent's, unknown keys are lost."""
    folder = models / ROUTE / "3"
    shutil.copytree(address, folder)
    path = folder / "model-settings.json"
    settings = {key: value for key, value in json.loads(path.read_text()).items() if key in KEPT}
    settings["name"] = ROUTE
    settings["parameters"] |= {"version": "3", "extra": {"max_batch": "8"}}
    path.write_text(json.dumps(settings))
    return folder


@contextmanager
def running(root: Path, models: Path) -> Iterator[str]:
    """The image's command with its variables, and with those that Seldon's ServerConfig and our Server set."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    http, grpc, metrics = (str(sock.getsockname()[1]) for sock in held)
    for sock in held:
        sock.close()
    own = {name: value.replace("/opt/runtime", str(root / "opt/runtime")) for name, value in FILE.environment.items()}
    writable = root / "tmp"
    writable.mkdir()
    environment = own | {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(writable),
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": http,
        "MLSERVER_GRPC_PORT": grpc,
        "MLSERVER_METRICS_PORT": metrics,
        "MLSERVER_METRICS_DIR": str(writable / "metrics"),
        "MLSERVER_MODELS_DIR": str(models),
        "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
        "MLSERVER_PARALLEL_WORKERS": "0",
    }
    log = root / "log"
    with log.open("w") as output:
        process = subprocess.Popen(FILE.command, cwd=writable, env=environment, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{http}"
        _wait(process, f"{url}/v2/health/ready", log)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _bars(rows: int) -> np.ndarray:
    """Bars whose mean is a half, days included."""
    bars = np.full((rows, 256, 7), 0.5)
    bars[..., 6] = np.arange(256) - 127
    return bars


def _wait(process: subprocess.Popen[Any], url: str, log: Path) -> None:
    def is_ready() -> bool:
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    wait_on(process, "it is ready", is_ready, log=log.read_text)


def test_a_published_artefact_is_loaded_and_answers(tmp_path: Path) -> None:
    lay_out(tmp_path / "image")
    runtime = tmp_path / "image" / "opt" / "runtime" / "financial_assets" / "serving" / "runtime.py"
    runtime.write_text(runtime.read_text() + "\nprint(__file__, flush=True)\n")
    models = tmp_path / "models"
    models.mkdir()
    with running(tmp_path / "image", models) as url:
        address = ArtifactStore((tmp_path / "store").as_uri()).publish(
            write_model(tmp_path / "artefact"), "baseline-predictor-v1"
        )
        folder = as_the_agent(address, models)
        loaded = httpx.post(f"{url}/v2/repository/models/{ROUTE}/load", timeout=60)
        assert loaded.status_code == 200, loaded.text
        bars = _bars(2)
        tensor = {"name": "bars", "datatype": "FP32", "shape": list(bars.shape), "data": bars.ravel().tolist()}
        answer = httpx.post(f"{url}/v2/models/{ROUTE}/infer", json={"inputs": [tensor]}, timeout=30).json()
        assert (answer["model_name"], answer["model_version"]) == (ROUTE, "3")
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        np.testing.assert_allclose(outputs["probability_up"], [1 / (1 + np.exp(-0.5))] * 2, rtol=1e-6)
        assert list(outputs) == list(OUTPUTS)
        np.testing.assert_allclose(outputs["return_quantiles_5d"], [0.5] * 10, rtol=1e-6)
        np.testing.assert_allclose(outputs["excess_return"], [0.5] * 2, rtol=1e-6)
        # The Model's parameter arrived.
        many = _bars(9)
        tensor |= {"shape": list(many.shape), "data": many.ravel().tolist()}
        refused = httpx.post(f"{url}/v2/models/{ROUTE}/infer", json={"inputs": [tensor]}, timeout=30)
        assert refused.status_code == 400
        # Without its settings the same folder is nothing to MLServer: they are part of the artefact.
        shutil.rmtree(folder.parent)
        bare = models / "bare_1" / "1"
        bare.mkdir(parents=True)
        shutil.copy(Path(address) / "model.onnx", bare)
        assert httpx.post(f"{url}/v2/repository/models/bare_1/load", timeout=60).status_code >= 400
    assert str(runtime) in (tmp_path / "image" / "log").read_text(), "the class came from another installation"
