"""Tracking and registry against a real MLflow server over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from financial_assets.errors import TrackingError
from financial_assets.tracking import MlflowTracker, ModelRegistry
from tests.tracking.mlflow_store import client_of
from tests.waiting import wait_on

pytestmark = pytest.mark.integration


@dataclass
class Server:
    """An MLflow server that can be killed and started again where it was."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        store = f"sqlite:///{self.folder / 'mlflow.db'}"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", store]
        command += ["--artifacts-destination", str(self.folder / "files")]
        quiet = dict.fromkeys(("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"), "true")
        # Jobs are for evaluations of language models; the processes that wait for them import all of MLflow again.
        quiet["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        log = self.folder / "log"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
                env=os.environ | quiet,
            )
        wait_on(self.process, f"MLflow answers at {self.url}", self.answers, log=log.read_text, poll_s=0.2)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    client_of(f"sqlite:///{folder / 'mlflow.db'}")  # the server finds a store that is made, and migrates nothing
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = Server(folder, probe.getsockname()[1])
    try:
        found.start()
        yield found
    finally:
        found.kill()


@pytest.fixture
def server(running: Server) -> str:
    return running.url


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


def test_a_server_that_is_killed_under_a_run_loses_no_figure_and_the_run_goes_on(
    running: Server, tmp_path: Path
) -> None:
    """Who logs is told at once what is away; what was acknowledged is there, and nothing twice."""
    tracker, registry = MlflowTracker(running.url, "killed", tmp_path / "unused"), ModelRegistry(running.url)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(b"onnx")
    acknowledged, killer = list[str](), threading.Thread(target=running.kill)

    def train() -> None:
        with tracker.run("train") as run:
            for step in range(100_000):
                run.log_metrics({f"step {step}": float(step)})
                acknowledged.append(f"step {step}")
                if step == 5:
                    killer.start()

    with pytest.raises(TrackingError, match=running.url) as refused:
        train()
    killer.join()
    assert "could not be marked FAILED" in "".join(refused.value.__notes__)
    with pytest.raises(TrackingError, match=running.url):
        registry.find("abc")

    running.start()
    client = client_of(running.url)
    experiment = client.get_experiment_by_name("killed")
    assert experiment is not None
    (kept,) = client.search_runs([experiment.experiment_id])
    run_id = kept.info.run_id
    assert kept.info.status == "RUNNING"
    assert set(acknowledged) <= set(kept.data.metrics)
    assert len(kept.data.metrics) <= len(acknowledged) + 1, "the last one may have been written and not answered"
    # Its process lives here; where it had died, too, whoever opens a run next would end it so.
    assert tracker.end_stale(lambda tags: False) == 1
    assert client.get_run(run_id).info.status == "KILLED"
    with tracker.resume(run_id) as again:
        again.log_metrics({"loss": 0.5})
        again.log_artifacts(tmp_path / "model", "model")
    assert client.get_run(run_id).info.status == "FINISHED"
    made = registry.register(run_id, "model", {"fingerprint": "killed"}, "again")
    assert registry.find("killed") == made
    assert [found.info.run_id for found in client.search_runs([experiment.experiment_id])] == [run_id]
