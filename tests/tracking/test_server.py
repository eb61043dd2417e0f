"""Tracking and registry against a real MLflow server over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from financial_assets.errors import TrackingError
from financial_assets.tracking import MlflowTracker, ModelRegistry
from tests.tracking.mlflow_store import client_of
from tests.waiting import wait_on

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    store = f"sqlite:///{folder / 'mlflow.db'}"
    client_of(store)  # the server finds a store that is made, and migrates nothing
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(folder / "files")]
    quiet = dict.fromkeys(("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"), "true")
    # Jobs are for evaluations of language models; the processes that wait for them import all of MLflow again.
    quiet["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
            env=os.environ | quiet,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, folder / "log")
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    wait_on(process, f"MLflow answers at {url}", answers, log=log.read_text, poll_s=0.2)


def test_runs_artefacts_and_versions_over_http(server: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(b"onnx")
    tracker, registry = MlflowTracker(server, "experiment", tmp_path / "unused"), ModelRegistry(server)
    with tracker.run("train", tags={"variant": "baseline"}, params={"hidden": 24}) as run:
        run.log_metrics({"loss": 0.6})
        run.log_artifacts(tmp_path / "model", "model")
        assert run.url is not None
        assert run.url.startswith(f"{server}/#/experiments/")
        assert run.url.endswith(f"/runs/{run.id}")
    assert client_of(server).get_run(run.id).info.status == "FINISHED"
    with pytest.raises(KeyboardInterrupt), tracker.run("train") as interrupted:
        raise KeyboardInterrupt
    assert client_of(server).get_run(interrupted.id).info.status == "KILLED"
    made = registry.register(run.id, "model", {"fingerprint": "abc"}, "first")
    registry.set_alias("champion", made.version)
    assert registry.find("abc") == registry.by_alias("champion") == registry.get(1)
    assert (registry.download(1, tmp_path / "downloaded") / "model.onnx").read_bytes() == b"onnx"
    assert not (tmp_path / "unused").exists(), "the server keeps the artefacts"
    with pytest.raises(TrackingError, match=f"version 9 .*{server}"):
        registry.get(9)
