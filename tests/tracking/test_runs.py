"""Runs in MLflow on a sqlite store: each ends as what it was."""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from financial_assets.errors import TrackingError
from financial_assets.tracking import MlflowTracker, owner_is_alive, owners
from financial_assets.tracking.owners import (
    OWNER_BOOT,
    OWNER_HOST,
    OWNER_MACHINE,
    OWNER_NAMESPACE,
    OWNER_PID,
    OWNER_STARTED,
    owner_state,
    owner_tags,
)
from financial_assets.tracking.runs import FAILURE_TAG, page_of
from tests.tracking.mlflow_store import client_of, experiment_of

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the schema and nothing in it; making one takes seconds, copying one does not."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    client_of(f"sqlite:///{database}")
    return database


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def tracker(uri: str, tmp_path: Path) -> MlflowTracker:
    return MlflowTracker(uri, "experiment", tmp_path / "artifacts")


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return client_of(uri)


class Interrupted(BaseException):
    """As an orchestrator raises it: not an ``Exception``."""


def test_a_run_that_ends_well_is_finished_and_keeps_what_was_logged(
    tracker: MlflowTracker, client: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"weights")
    (tmp_path / "note.txt").write_text("note")
    with tracker.run("train", tags={"variant": "baseline"}, params={"hidden": 24, "lr": 3e-3}) as run:
        run.log_metrics({"loss": 0.7}, step=1)
        run.log_metrics({"loss": 0.6, "undefined": math.nan}, step=2)
        run.log_artifacts(tmp_path / "model", "model")
        run.log_artifact(tmp_path / "note.txt", "notes")
        run.set_tags({"later": "yes"})
        assert run.url is None
        assert client.get_run(run.id).info.status == "RUNNING"
    found = client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.info.end_time is not None
    assert found.info.run_name == "train"
    assert found.data.params == {"hidden": "24", "lr": "0.003"}
    assert found.data.metrics["loss"] == 0.6
    assert math.isnan(found.data.metrics["undefined"])
    history = client.get_metric_history(run.id, "loss")
    assert [(one.step, one.value) for one in history] == [(1, 0.7), (2, 0.6)]
    assert found.data.tags.items() >= {"variant": "baseline", "later": "yes"}.items()
    artifacts = tmp_path / "artifacts" / run.id / "artifacts"
    assert (artifacts / "model" / "weights.bin").read_bytes() == b"weights"
    assert (artifacts / "notes" / "note.txt").read_text() == "note"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("bad"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(3), "KILLED"),
        (Interrupted("stop"), "KILLED"),
    ],
)
def test_an_error_fails_a_run_and_an_interrupt_kills_it_with_the_reason(
    tracker: MlflowTracker, client: MlflowClient, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)) as raised, tracker.run("train") as run:
        raise error
    assert raised.value is error
    found = client.get_run(run.id)
    assert found.info.status == status
    assert found.data.tags[FAILURE_TAG] == f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("already_set", [False, True])
def test_a_second_interrupt_while_a_run_ends_costs_neither_status_nor_reason(
    tracker: MlflowTracker, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, already_set: bool
) -> None:
    """As Ctrl-C of a terminal reaches a step: by itself, and from the process of the run."""
    set_terminated = MlflowClient.set_terminated
    asked: list[str] = []

    def interrupted(self: MlflowClient, run_id: str, **options: Any) -> None:
        asked.append(run_id)
        if len(asked) > 1 or already_set:
            set_terminated(self, run_id, **options)
        if len(asked) == 1:
            raise Interrupted("second")

    monkeypatch.setattr(MlflowClient, "set_terminated", interrupted)
    with pytest.raises(Interrupted, match="second"), tracker.run("train") as run:
        raise Interrupted("first")
    found = client.get_run(run.id)
    assert (found.info.status, found.data.tags[FAILURE_TAG]) == ("KILLED", "Interrupted: first")


def test_a_failure_to_log_the_parameters_fails_the_run(tracker: MlflowTracker, client: MlflowClient) -> None:
    with (
        pytest.raises(TrackingError, match=r"'features'.*artefact"),
        tracker.run("train", params={"features": "x" * 9999}),
    ):
        pytest.fail("the block must not be entered")
    (run,) = client.search_runs([experiment_of(client)])
    assert run.info.status == "FAILED"


def test_runs_nest_and_end_each_as_it_was(tracker: MlflowTracker, client: MlflowClient) -> None:
    with tracker.run("outer") as outer:
        with pytest.raises(ValueError, match="inner"), tracker.run("inner") as inner:
            raise ValueError("inner")
        outer.log_metrics({"still": 1})
    assert client.get_run(outer.id).info.status == "FINISHED"
    assert client.get_run(inner.id).info.status == "FAILED"


def test_a_run_nested_below_another_names_it(tracker: MlflowTracker, client: MlflowClient) -> None:
    with tracker.run("pipeline") as pipeline:
        pass
    with tracker.run("training", parent=pipeline.id) as nested:
        pass
    assert client.get_run(nested.id).data.tags["mlflow.parentRunId"] == pipeline.id
    assert "mlflow.parentRunId" not in client.get_run(pipeline.id).data.tags
    assert client.get_run(nested.id).data.tags["mlflow.user"], "who made it"


@pytest.mark.parametrize("error", [None, ValueError("said otherwise"), KeyboardInterrupt()])
def test_a_verdict_from_elsewhere_counts_more_than_the_block(
    tracker: MlflowTracker, client: MlflowClient, error: BaseException | None
) -> None:
    with suppress(ValueError, KeyboardInterrupt), tracker.run("pipeline") as run:
        run.conclude("FAILED", "a step failed")
        if error is not None:
            raise error
    found = client.get_run(run.id)
    assert (found.info.status, found.data.tags[FAILURE_TAG]) == ("FAILED", "a step failed")


def test_dead_runs_among_decisions_are_ended_too(tracker: MlflowTracker, client: MlflowClient) -> None:
    place = client.create_experiment("experiment-decisions")
    dead = client.create_run(place, tags={**owner_tags(), OWNER_PID: str(_pid_that_ended())}).info.run_id
    with tracker.run("training"):
        assert client.get_run(dead).info.status == "KILLED"


def test_a_history_longer_than_one_request_is_recorded_whole(tracker: MlflowTracker, client: MlflowClient) -> None:
    with tracker.run("long") as run:
        run.log_history((epoch, {"fit_loss": 1.0 / epoch, "stop_loss": 2.0}) for epoch in range(1, 702))
    history = client.get_metric_history(run.id, "fit_loss")
    assert [(point.step, point.value) for point in history] == [(epoch, 1.0 / epoch) for epoch in range(1, 702)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_history_with_a_hole_is_refused_by_name(tracker: MlflowTracker, value: float) -> None:
    with pytest.raises(TrackingError, match=r"'stop_loss'.*at step 2"), tracker.run("train") as run:
        run.log_history([(1, {"stop_loss": 0.5}), (2, {"stop_loss": value})])


def test_a_model_that_cannot_be_uploaded_is_marked_as_failed(
    tracker: MlflowTracker, client: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()  # without MLmodel
    with pytest.raises(TrackingError, match="log model 'tiny'"), tracker.run("train") as run:
        run.log_model(tmp_path / "model", "tiny", parts={}, tags={}, params={}, metrics={})
    (model,) = client.search_logged_models([experiment_of(client)])
    assert (model.name, str(model.status), model.source_run_id) == ("tiny", "FAILED", run.id)
    assert client.get_run(run.id).info.status == "FAILED"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://mlflow:5000/", "http://mlflow:5000/#/experiments/3/runs/abc"),
        ("https://someone:letmein@host/mlflow", "https://host/mlflow/#/experiments/3/runs/abc"),
    ],
)
def test_the_page_of_a_run_is_an_address_without_a_password(given: str, shown: str) -> None:
    assert page_of(given, "3", "abc") == shown


def test_a_run_has_a_page_where_somebody_says_where_pages_are(tmp_path: Path, tracker: MlflowTracker) -> None:
    with tracker.run("train") as run:
        assert tracker.page(run.id) is None
        elsewhere = MlflowTracker(tracker.connection.uri, "experiment", tmp_path, "http://127.0.0.1:5001")
        assert elsewhere.page(run.id) == page_of("http://127.0.0.1:5001", run.experiment_id, run.id)


def test_a_failed_run_can_be_resumed_and_finished(tracker: MlflowTracker, client: MlflowClient) -> None:
    with pytest.raises(ValueError, match="first"), tracker.run("train", params={"hidden": 24}) as run:
        raise ValueError("first")
    with tracker.resume(run.id) as again:
        assert again.id == run.id
        assert client.get_run(run.id).info.status == "RUNNING"
        again.log_metrics({"parity": 0.0})
    found = client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert FAILURE_TAG not in found.data.tags
    assert found.data.metrics == {"parity": 0.0}
    with pytest.raises(ValueError, match="second"), tracker.resume(run.id):
        raise ValueError("second")
    assert client.get_run(run.id).info.status == "FAILED"


def test_resuming_an_unknown_run_names_it(tracker: MlflowTracker) -> None:
    with pytest.raises(TrackingError, match=r"resume run 0{32} \(MLFLOW_TRACKING_URI=sqlite"), tracker.resume("0" * 32):
        pytest.fail("the block must not be entered")


def test_a_parameter_cannot_change_its_value(tracker: MlflowTracker) -> None:
    with pytest.raises(TrackingError, match="log parameters"), tracker.run("train", params={"hidden": 24}) as run:
        run.log_params({"hidden": 25})


@pytest.mark.parametrize(
    ("log", "named"),
    [
        (lambda run, folder: run.log_metrics({"ratio": math.inf}), "'ratio'.*infinite"),
        (lambda run, folder: run.log_artifact(folder / "absent"), "no file"),
        (lambda run, folder: run.log_artifacts(folder / "absent"), "no directory"),
        (lambda run, folder: run.log_metrics({"a name with ; in it": 1.0}), "log metrics"),
    ],
)
def test_what_cannot_be_recorded_is_refused_by_name(
    tracker: MlflowTracker, client: MlflowClient, tmp_path: Path, log: Callable, named: str
) -> None:
    with pytest.raises(TrackingError, match=named), tracker.run("train") as run:
        log(run, tmp_path)
    assert client.get_run(run.id).info.status == "FAILED"


def test_more_metrics_and_parameters_than_one_request_takes(tracker: MlflowTracker, client: MlflowClient) -> None:
    params, metrics = {f"p{i}": i for i in range(150)}, {f"m{i}": float(i) for i in range(1200)}
    with tracker.run("wide", params=params) as run:
        run.log_metrics(metrics)
        run.set_tags({f"t{i}": str(i) for i in range(150)})
    found = client.get_run(run.id)
    assert len(found.data.params) == 150
    assert found.data.metrics == metrics
    assert found.data.tags["t149"] == "149"


def test_who_opens_a_run_first_ends_running_runs_with_a_dead_owner_and_no_others(
    tracker: MlflowTracker, client: MlflowClient
) -> None:
    with tracker.run("finished") as finished:
        pass
    experiment_id = experiment_of(client)
    foreign = client.create_run(experiment_id, run_name="not ours").info.run_id
    dead_owner = {**owner_tags(), OWNER_PID: str(_pid_that_ended())}
    dead = client.create_run(experiment_id, tags=dead_owner).info.run_id
    with tracker.run("alive") as alive:
        assert client.get_run(dead).info.status == "KILLED"
        assert tracker.end_stale(owner_is_alive) == 0
        assert client.get_run(alive.id).info.status == "RUNNING"
        died_while_resumed = client.create_run(experiment_id, tags=dead_owner).info.run_id
        with tracker.resume(finished.id):
            assert client.get_run(died_while_resumed).info.status == "KILLED"
    assert f"its process {dead_owner[OWNER_PID]} on host" in client.get_run(dead).data.tags[FAILURE_TAG]
    assert client.get_run(foreign).info.status == "RUNNING"
    assert client.get_run(finished.id).info.status == "FINISHED"
    assert tracker.end_stale(lambda tags: False) == 0, "a run that this package did not start is left alone"
    assert client.get_run(foreign).info.status == "RUNNING"


def test_a_run_that_ended_after_it_was_looked_for_keeps_its_end(tracker: MlflowTracker, client: MlflowClient) -> None:
    run_id = client.create_run(experiment_of(client), tags=owner_tags()).info.run_id

    def finishes_meanwhile(tags: object) -> bool:
        client.set_terminated(run_id, "FINISHED")
        return False

    assert tracker.end_stale(finishes_meanwhile) == 0
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_run_that_was_resumed_after_it_was_looked_for_goes_on(tracker: MlflowTracker, client: MlflowClient) -> None:
    run_id = client.create_run(experiment_of(client), tags=owner_tags()).info.run_id
    answers = iter([False, True])  # dead when it was found, alive when it was looked at again
    assert tracker.end_stale(lambda tags: next(answers)) == 0
    assert client.get_run(run_id).info.status == "RUNNING"


def test_looking_for_dead_runs_makes_neither_store_nor_experiment(tmp_path: Path) -> None:
    absent = MlflowTracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "experiment", tmp_path)
    assert absent.end_stale(owner_is_alive) == 0
    assert list(tmp_path.iterdir()) == []


def _pid_that_ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


HOSTS_OWN = "pid:[4026531836]"  # the process namespace outside all containers


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "alive"),
        ({OWNER_PID: "ended"}, "gone"),
        ({OWNER_STARTED: "1000.0"}, "gone"),  # a pid used again
        ({OWNER_HOST: "another", OWNER_PID: "ended"}, "unknown"),
        ({OWNER_PID: "not a number"}, "unknown"),
        ({OWNER_BOOT: "earlier"}, "gone"),  # the same pid and start time after a restart with a wrong clock
        ({OWNER_BOOT: "earlier", OWNER_MACHINE: "", OWNER_NAMESPACE: "pid:[1]"}, "unknown"),  # container, same name
        ({OWNER_BOOT: "earlier", OWNER_MACHINE: "another"}, "unknown"),  # two machines of the same name
        ({OWNER_NAMESPACE: "pid:[1]", OWNER_PID: "ended"}, "unknown"),  # containers that share name and machine
        ({OWNER_BOOT: "", OWNER_MACHINE: "", OWNER_NAMESPACE: ""}, "alive"),  # tags of an earlier release
        ({OWNER_BOOT: "", OWNER_MACHINE: "", OWNER_NAMESPACE: "", OWNER_PID: "ended"}, "gone"),
    ],
)
def test_an_owner_is_judged_where_its_process_can_be_seen(
    changes: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {OWNER_MACHINE: "machine", OWNER_BOOT: "boot", OWNER_NAMESPACE: HOSTS_OWN}
    monkeypatch.setattr(owners, "_surroundings", lambda: here)
    if changes.get(OWNER_PID) == "ended":
        changes = {**changes, OWNER_PID: str(_pid_that_ended())}
    # A tag of an earlier release is absent, not empty: both mean the same.
    tags = {name: value for name, value in {**owner_tags(), **changes}.items() if value}
    assert owner_state(tags) == expected
    assert owner_is_alive(tags) == (expected != "gone")


def test_the_tags_name_all_that_this_system_tells() -> None:
    assert owner_state(owner_tags()) == "alive"
    assert owner_state({}) == "unknown"
    if sys.platform == "linux":
        assert all(owner_tags()[name] for name in (OWNER_BOOT, OWNER_NAMESPACE))


@pytest.fixture
def nobody_handles_sigterm() -> Iterator[None]:
    """A run of Dagster in this process, in another test, leaves a handler."""
    previous = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, previous)


@pytest.mark.usefixtures("nobody_handles_sigterm")
def test_sigterm_in_a_run_is_an_exit_and_the_handler_is_put_back(tracker: MlflowTracker, client: MlflowClient) -> None:
    with pytest.raises(SystemExit) as raised, tracker.run("train") as run:
        _terminate_this_process()
    assert raised.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert client.get_run(run.id).info.status == "KILLED"


def _terminate_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)  # the handler runs at the next instruction at the latest


def test_a_sigterm_handler_of_somebody_else_is_left_alone(tracker: MlflowTracker) -> None:
    received: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda signum, frame: received.append(signum))
    try:
        with tracker.run("train"):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert received == [signal.SIGTERM]


def test_threads_track_their_own_runs(tracker: MlflowTracker, client: MlflowClient) -> None:
    ended: dict[str, str] = {}

    def work(number: int) -> None:
        with tracker.run(f"thread {number}") as run:
            run.log_metrics({"number": number})
        ended[run.id] = str(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 4
    assert {client.get_run(run_id).data.metrics["number"] for run_id in ended} == {0, 1, 2, 3}
    assert {client.get_run(run_id).info.status for run_id in ended} == {"FINISHED"}


def test_a_second_tracker_finds_the_same_experiment(
    tracker: MlflowTracker, client: MlflowClient, uri: str, tmp_path: Path
) -> None:
    with tracker.run("one"):
        pass
    again = MlflowTracker(uri, "experiment", tmp_path / "artifacts")
    with again.run("two"):
        pass
    assert len(client.search_runs([experiment_of(client)])) == 2


def test_artefacts_that_were_moved_away_are_noticed(tracker: MlflowTracker, uri: str, tmp_path: Path) -> None:
    with tracker.run("one"):
        pass
    (tmp_path / "artifacts").rename(tmp_path / "elsewhere")
    again = MlflowTracker(uri, "experiment", tmp_path / "elsewhere")
    with pytest.raises(TrackingError, match=r"MLFLOW_EXPERIMENT_NAME=experiment .*gone"), again.run("two"):
        pytest.fail("the block must not be entered")


def test_a_deleted_experiment_is_named(tracker: MlflowTracker, client: MlflowClient, uri: str, tmp_path: Path) -> None:
    client.delete_experiment(experiment_of(client))
    again = MlflowTracker(uri, "experiment", tmp_path / "artifacts")
    with pytest.raises(TrackingError, match=r"MLFLOW_EXPERIMENT_NAME=experiment.*deleted"), again.run("two"):
        pytest.fail("the block must not be entered")


def test_an_artefact_folder_with_awkward_characters(uri: str, tmp_path: Path) -> None:
    tracker = MlflowTracker(uri, "awkward", tmp_path / "a folder, 100 % ü")
    (tmp_path / "note.txt").write_text("note")
    with tracker.run("one") as run:
        run.log_artifact(tmp_path / "note.txt")
    assert (tmp_path / "a folder, 100 % ü" / run.id / "artifacts" / "note.txt").read_text() == "note"
    again = MlflowTracker(uri, "awkward", tmp_path / "a folder, 100 % ü")
    with again.run("two"):
        pass


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("", "MLFLOW_TRACKING_URI is empty"),
        ("sqlite://", "in-memory"),
        ("sqlite:///:memory:", "in-memory"),
        ("nonsense://host", "MLFLOW_TRACKING_URI=nonsense://host"),
        ("file:///nowhere/mlruns", "MLFLOW_TRACKING_URI=file:///nowhere/mlruns"),
    ],
)
def test_a_uri_that_cannot_be_used_is_named(tmp_path: Path, bad: str, named: str) -> None:
    with pytest.raises(TrackingError, match=named), MlflowTracker(bad, "experiment", tmp_path).run("train"):
        pytest.fail("the block must not be entered")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is not a database, but long enough to look at" * 50)
    tracker = MlflowTracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "experiment", tmp_path)
    with pytest.raises(TrackingError, match=r"cannot open the store .*mlflow\.db"), tracker.run("train"):
        pytest.fail("the block must not be entered")


@pytest.mark.parametrize("made_again", [False, True])
def test_a_store_deleted_while_in_use_is_noticed(tracker: MlflowTracker, tmp_path: Path, made_again: bool) -> None:
    with tracker.run("one"):
        pass
    (tmp_path / "mlflow.db").rename(tmp_path / "gone")
    if made_again:
        shutil.copy(tmp_path / "gone", tmp_path / "mlflow.db")
    with pytest.raises(TrackingError, match=r"mlflow\.db .*deleted or replaced: restart"), tracker.run("two"):
        pytest.fail("the block must not be entered")


def test_a_store_locked_for_too_long_is_named(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("financial_assets.tracking.connection._LOCK_TIMEOUT_S", 0.1)
    with (tmp_path / "mlflow.db.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TrackingError, match=r"mlflow\.db\.lock.*end who has it"):
            MlflowTracker(uri, "experiment", tmp_path / "artifacts").run("train").__enter__()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    tracker = MlflowTracker(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}", "experiment", tmp_path)
    with pytest.raises(TrackingError, match=r"cannot open the store .*file/mlflow\.db"), tracker.run("train"):
        pytest.fail("the block must not be entered")


def test_an_unreachable_server_is_named_soon_and_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        server = f"http://user:secret@127.0.0.1:{reserved.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(TrackingError, match=r"MLFLOW_TRACKING_URI=http://\*\*\*@") as raised:
            MlflowTracker(server, "experiment", tmp_path).run("train").__enter__()
    assert time.monotonic() - began < 15
    assert "secret" not in str(raised.value)


def test_a_store_lost_during_a_run_does_not_hide_why_the_run_failed(
    tracker: MlflowTracker, client: MlflowClient, tmp_path: Path
) -> None:
    def work() -> None:
        client._tracking_client.store.engine.dispose()
        (tmp_path / "mlflow.db").write_text("overwritten by somebody, and no database any more" * 50)
        raise ValueError("the real reason")

    with pytest.raises(ValueError, match="the real reason") as raised, tracker.run("train"):
        work()
    assert any("could not be marked FAILED" in note for note in raised.value.__notes__)


def test_importing_the_package_does_not_import_mlflow() -> None:
    code = "import sys, financial_assets.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
