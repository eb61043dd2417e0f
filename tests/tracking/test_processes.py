"""Tracking across real processes: signals, sudden death, and processes that start or register at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from financial_assets.tracking import MlflowTracker, ModelRegistry, owner_is_alive
from financial_assets.tracking import connection as connections
from financial_assets.tracking.runs import FAILURE_TAG
from tests.tracking.mlflow_store import client_of, experiment_of

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]

# Processes of their own, forked from one that has imported MLflow: the import alone takes seconds.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["mlflow.tracking", "financial_assets.tracking", __name__])


def train(line: Connection, uri: str, artifacts: Path) -> None:
    with MlflowTracker(uri, "experiment", artifacts).run("train") as run:
        line.send(run.id)
        time.sleep(60)


def die_in_the_migration(line: Connection, uri: str, artifacts: Path) -> None:
    def die(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "DROP TABLE" in statement:  # in the middle of a migration that copies a table
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", die)
    train(line, uri, artifacts)


def start_when_told(line: Connection, uri: str, artifacts: Path, fingerprint: str) -> None:
    line.send("ready")
    line.recv()
    with MlflowTracker(uri, "experiment", artifacts).run("train") as run:
        built = artifacts.parent / run.id
        built.mkdir()
        (built / "model.onnx").write_text(run.id)
        run.log_artifacts(built, "model")
    line.send(ModelRegistry(uri).register(run.id, "model", {"fingerprint": fingerprint}).version)


@contextmanager
def started(work: Any, *arguments: object) -> Iterator[tuple[Any, Connection]]:
    """The process, and the line to it."""
    line, its_end = FORKED.Pipe()
    process = FORKED.Process(target=work, args=(its_end, *arguments))
    process.start()
    its_end.close()
    try:
        yield process, line
    finally:
        process.kill()
        process.join()
        line.close()


def exit_code(process: Any) -> int:
    process.join()
    return process.exitcode


def test_a_signal_kills_the_run_and_sudden_death_leaves_it_to_be_ended(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = MlflowTracker(uri, "experiment", tmp_path / "artifacts")
    client = client_of(uri)
    with ExitStack() as stack:
        processes = {
            sent: stack.enter_context(started(train, uri, tmp_path / "artifacts"))
            for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
        }
        runs = {sent: line.recv() for sent, (_, line) in processes.items()}
        for sent, (process, _) in processes.items():
            os.kill(process.pid, sent)
        codes = {sent: exit_code(process) for sent, (process, _) in processes.items()}
    assert codes[signal.SIGTERM] == 143
    ended = {sent: client.get_run(run_id) for sent, run_id in runs.items()}
    assert ended[signal.SIGINT].info.status == "KILLED"
    assert ended[signal.SIGINT].data.tags[FAILURE_TAG].startswith("KeyboardInterrupt")
    assert ended[signal.SIGTERM].info.status == "KILLED"
    assert ended[signal.SIGTERM].data.tags[FAILURE_TAG] == "SystemExit: 143"
    assert ended[signal.SIGKILL].info.status == "RUNNING", "nobody could end it"
    assert tracker.end_stale(owner_is_alive) == 1
    assert client.get_run(runs[signal.SIGKILL]).info.status == "KILLED"


def test_a_process_that_dies_while_it_makes_the_store_leaves_no_half_of_one(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with started(die_in_the_migration, uri, tmp_path / "artifacts") as (process, _):
        assert exit_code(process) == -signal.SIGKILL
    tracker = MlflowTracker(uri, "experiment", tmp_path / "artifacts")
    with tracker.run("train") as run:
        pass
    assert client_of(uri).get_run(run.id).info.status == "FINISHED"
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock", "artifacts"}


def test_processes_that_start_together_share_one_fresh_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'fresh' / 'mlflow.db'}"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(start_when_told, uri, tmp_path / "artifacts", fingerprint))
            for fingerprint in ("own", "shared", "shared", "shared")
        ]
        assert [line.recv() for _, line in processes] == ["ready"] * len(processes)
        for _, line in processes:
            line.send("go")
        own, *shared = (line.recv() for _, line in processes)
        assert [exit_code(process) for process, _ in processes] == [0] * len(processes)
    assert len(set(shared)) == 1, "one fingerprint, one version"
    assert {own, shared[0]} == {1, 2}
    registry = ModelRegistry(uri)
    assert [version.version for version in registry.versions()] == [1, 2]
    client = client_of(uri)
    runs = client.search_runs([experiment_of(client)])
    assert [run.info.status for run in runs] == ["FINISHED"] * len(processes)
    for version in registry.versions():
        folder = registry.download(version.version, tmp_path / "downloaded")
        assert (folder / "model.onnx").read_text() == version.run_id, "a version's artefacts are its own run's"


def test_a_store_that_others_write_for_longer_than_sqlite_waits_is_opened_all_the_same(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    connections.Connection(f"sqlite:///{database}").client.search_experiments(max_results=1)
    connections._clients.pop(f"sqlite:///{database}")
    writer = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN EXCLUSIVE")
    later = threading.Timer(6.0, writer.rollback)  # SQLite waits for five seconds
    later.start()
    try:
        assert connections.Connection(f"sqlite:///{database}").client.search_experiments(max_results=1)
    finally:
        later.join()
        writer.close()
