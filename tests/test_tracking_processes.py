"""Tracking across real processes: signals, sudden death, and processes that start or register at the same time."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from financial_assets.tracking import MlflowTracker, ModelRegistry, owner_is_alive
from financial_assets.tracking.runs import FAILURE_TAG

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]

_TRAIN = """
import sys, time
from pathlib import Path
from financial_assets.tracking import MlflowTracker
tracker = MlflowTracker(sys.argv[1], "experiment", Path(sys.argv[2]))
with tracker.run("train") as run:
    print(run.id, flush=True)
    time.sleep(60)
"""

# The statement is in the middle of a migration that copies a table.
_DIE_IN_MIGRATION = """
import os, signal
from sqlalchemy import event
from sqlalchemy.engine import Engine

@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, *rest):
    if "DROP TABLE" in statement:
        os.kill(os.getpid(), signal.SIGKILL)
"""

# Waits for a line on its input, so that all such processes set off together.
_START_TOGETHER = """
import sys
from pathlib import Path
import mlflow.tracking
from financial_assets.tracking import MlflowTracker, ModelRegistry
print("ready", flush=True)
sys.stdin.readline()
uri, artifacts, fingerprint = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
with MlflowTracker(uri, "experiment", artifacts).run("train") as run:
    built = artifacts.parent / run.id
    built.mkdir()
    (built / "model.onnx").write_text(run.id)
    run.log_artifacts(built, "model")
print(ModelRegistry(uri).register(run.id, "model", {"fingerprint": fingerprint}).version)
"""


@contextmanager
def started(code: str, arguments: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        assert process.stderr is not None
        pytest.fail(f"the process ended with {process.wait()}: {process.stderr.read()}")
    return line


def test_a_signal_fails_the_run_and_sudden_death_leaves_it_to_be_ended(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = MlflowTracker(uri, "experiment", tmp_path / "artifacts")
    client = tracker._connection.client
    with ExitStack() as stack:
        processes = {
            sent: stack.enter_context(started(_TRAIN, [uri, tmp_path / "artifacts"]))
            for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
        }
        runs = {sent: first_line(process) for sent, process in processes.items()}
        for sent, process in processes.items():
            process.send_signal(sent)
        codes = {sent: process.wait() for sent, process in processes.items()}
    assert codes[signal.SIGTERM] == 143
    ended = {sent: client.get_run(run_id) for sent, run_id in runs.items()}
    assert ended[signal.SIGINT].info.status == "FAILED"
    assert ended[signal.SIGINT].data.tags[FAILURE_TAG].startswith("KeyboardInterrupt")
    assert ended[signal.SIGTERM].info.status == "FAILED"
    assert ended[signal.SIGTERM].data.tags[FAILURE_TAG] == "SystemExit: 143"
    assert ended[signal.SIGKILL].info.status == "RUNNING", "nobody could end it"
    assert tracker.end_stale(owner_is_alive) == 1
    assert client.get_run(runs[signal.SIGKILL]).info.status == "FAILED"


def test_a_process_that_dies_while_it_makes_the_store_leaves_no_half_of_one(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with started(_DIE_IN_MIGRATION + _TRAIN, [uri, tmp_path / "artifacts"]) as process:
        assert process.wait() == -signal.SIGKILL
    tracker = MlflowTracker(uri, "experiment", tmp_path / "artifacts")
    with tracker.run("train") as run:
        pass
    assert tracker._connection.client.get_run(run.id).info.status == "FINISHED"
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock", "artifacts"}


def test_processes_that_start_together_share_one_fresh_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'fresh' / 'mlflow.db'}"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(_START_TOGETHER, [uri, tmp_path / "artifacts", fingerprint]))
            for fingerprint in ("own", "shared", "shared", "shared")
        ]
        assert [first_line(process) for process in processes] == ["ready"] * len(processes)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes), outputs
    own, *shared = (int(out) for out, _ in outputs)
    assert len(set(shared)) == 1, "one fingerprint, one version"
    assert {own, shared[0]} == {1, 2}
    registry = ModelRegistry(uri)
    assert [version.version for version in registry.versions()] == [1, 2]
    tracker = MlflowTracker(uri, "experiment", tmp_path / "artifacts")
    runs = tracker._connection.client.search_runs([tracker._experiment()])
    assert [run.info.status for run in runs] == ["FINISHED"] * len(processes)
    for version in registry.versions():
        folder = registry.download(version.version, tmp_path / "downloaded")
        assert (folder / "model.onnx").read_text() == version.run_id, "a version's artefacts are its own run's"
