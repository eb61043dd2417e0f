"""Under the multiprocess executor a Dagster run, and all that its steps track, end as what they were: real processes.

Six jobs of ``tracked_steps`` are executed at a time over one store: one ends well; in one a step fails, and in one the
process of a step is killed; one is interrupted, one gets Ctrl-C as from a terminal, and the process of one is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from financial_assets.resources.pipeline_run import DAGSTER_RUN, RUN_TAG
from financial_assets.tracking import KIND_TAG, MlflowTracker, owner_is_alive
from financial_assets.tracking.runs import FAILURE_TAG
from tests.tracking.mlflow_store import client_of
from tests.waiting import wait, wait_on

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]

STEPS = Path(__file__).with_name("tracked_steps.py")
EXECUTED = {
    "fine": "fine",
    "failing": "failing",
    "dying": "dying",
    "interrupted": "slow",
    "ctrl-c": "slow",
    "killed": "slow",
}
"""Name of an execution, and its job."""


@contextmanager
def executed(folder: Path, job: str) -> Iterator[subprocess.Popen[bytes]]:
    """``dagster job execute``, in a process group of its own; what is left of that is killed at the end."""
    (folder / "home").mkdir(parents=True)
    (folder / "home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    given = {"DAGSTER_HOME": str(folder / "home"), "TRACKED_STEPS": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "job", "execute", "-f", str(STEPS), "-j", job],
            env=os.environ | given,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def has_ended(pid_file: Path) -> bool:
    """Whether a step's process is gone.

    Dagster's executor hangs for ever when it is interrupted while one is going: it then takes a lock that may have died
    with that process.
    """
    return pid_file.exists() and not psutil.pid_exists(int(pid_file.read_text()))


def end_of_interrupted(process: subprocess.Popen[bytes]) -> None:
    """Wait; should it not end, interrupt its group as one does who presses Ctrl-C again; then show where it hangs."""
    for _ in range(3):
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
            return
        os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGUSR1)
    time.sleep(2)


@dataclass(frozen=True)
class Pipeline:
    """A finished ``dagster job execute``: its exit code, what it printed, its run in MLflow and those below it."""

    exit_code: int
    log: str
    run: Any
    below: dict[str, Any]

    def endings(self) -> dict[str, str]:
        """Status of each run below that of the pipeline."""
        return {name: run.info.status for name, run in self.below.items()}


def found(root: Path) -> dict[str, Any]:
    """All runs of the store by their id."""
    client = client_of(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("experiment")
    return {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}


def pipeline_id(folder: Path) -> tuple[str, str]:
    """Ids of the Dagster run and of its MLflow run."""
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        (record,) = instance.get_run_records()
    return record.dagster_run.run_id, record.dagster_run.tags[RUN_TAG]


def run_whoever_is_next(root: Path) -> None:
    with MlflowTracker(f"sqlite:///{root / 'mlflow.db'}", "experiment", root / "mlartifacts").run("whoever is next"):
        pass


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pipeline]:
    root = tmp_path_factory.mktemp("pipelines")
    with ExitStack() as stack:
        processes = {name: stack.enter_context(executed(root / name, job)) for name, job in EXECUTED.items()}
        for name in ("interrupted", "ctrl-c", "killed"):
            wait_on(
                processes[name],
                "only the slow step is left",
                lambda here=root / name: (here / "slow is running").exists() and has_ended(here / "one.pid"),
                log=(root / name / "log").read_text,
                poll_s=0.2,
            )
        processes["interrupted"].send_signal(signal.SIGINT)
        os.killpg(processes["ctrl-c"].pid, signal.SIGINT)
        processes["killed"].kill()
        for name in ("interrupted", "ctrl-c"):
            end_of_interrupted(processes[name])
        codes = {name: process.wait() for name, process in processes.items()}
        # The step of the killed run has not been killed: its process goes on until it has done its work.
        run_whoever_is_next(root)
        orphaned = [run for run in found(root).values() if run.info.status == "RUNNING"]
        assert [run.info.run_name for run in orphaned] == ["long"]
        assert orphaned[0].data.tags["mlflow.parentRunId"] == pipeline_id(root / "killed")[1]
    wait("the step of the killed run is gone, too", lambda: not owner_is_alive(orphaned[0].data.tags))
    run_whoever_is_next(root)
    runs = found(root)
    pipelines = [run for run in runs.values() if run.data.tags.get(KIND_TAG) == "pipeline"]
    assert len(pipelines) == len(EXECUTED), "one for each Dagster run"
    made = {}
    for name, code in codes.items():
        dagster_run, run_id = pipeline_id(root / name)
        assert runs[run_id].data.tags[DAGSTER_RUN] == dagster_run
        below = [run for run in runs.values() if run.data.tags.get("mlflow.parentRunId") == run_id]
        named = {run.info.run_name: run for run in below}
        assert len(named) == len(below)
        made[name] = Pipeline(code, (root / name / "log").read_text(), runs[run_id], named)
    return made


INTERRUPTED = {"training": "FINISHED", "below one": "FINISHED", "long": "KILLED"}


@pytest.mark.parametrize(
    ("name", "status", "reason", "metrics", "below"),
    [
        (
            "fine",
            "FINISHED",
            None,
            {"one": 1.0, "two": 2.0},
            {
                **dict.fromkeys(("training", "below one", "below two"), "FINISHED"),
                "baseline trial 0": "FINISHED",
                "baseline trial 1": "FAILED",
                "baselines fold-1 to 2020-01-03": "FINISHED",
                "baselines fold-2 to 2020-01-05": "FAILED",
            },
        ),
        (
            "failing",
            "FAILED",
            "bad: ValueError: no prices",
            {"one": 1.0, "two": 2.0, "bad": 3.0},
            {**dict.fromkeys(("training", "below one", "below two"), "FINISHED"), "bad": "FAILED"},
        ),
        ("dying", "FAILED", "dies: its process ended before the step did", {"one": 1.0}, INTERRUPTED),
        ("interrupted", "KILLED", "slow: ", {"one": 1.0}, INTERRUPTED),
        ("ctrl-c", "KILLED", "slow: ", {"one": 1.0}, INTERRUPTED),
        ("killed", "KILLED", "its process ", {"one": 1.0}, INTERRUPTED),
    ],
)
def test_a_pipeline_is_one_run_that_all_steps_write_into_and_that_ends_as_it_did(
    pipelines: dict[str, Pipeline],
    name: str,
    status: str,
    reason: str | None,
    metrics: dict[str, float],
    below: dict[str, str],
) -> None:
    pipeline = pipelines[name]
    assert (pipeline.exit_code == 0) is (name == "fine"), pipeline.log
    assert pipeline.run.info.status == status, pipeline.log
    assert pipeline.run.data.metrics == metrics
    given = pipeline.run.data.tags.get(FAILURE_TAG)
    assert given is None if reason is None else given.startswith(reason)
    assert pipeline.endings() == below, pipeline.log


def test_what_a_step_tracks_says_why_it_ended(pipelines: dict[str, Pipeline]) -> None:
    reasons = {
        (name, run.info.run_name): run.data.tags[FAILURE_TAG]
        for name, pipeline in pipelines.items()
        for run in pipeline.below.values()
        if FAILURE_TAG in run.data.tags
    }
    assert reasons.pop(("failing", "bad")) == "ValueError: no prices"
    assert reasons.pop(("fine", "baseline trial 1")) == "after 1 epochs the loss was no longer finite"
    assert reasons.pop(("fine", "baselines fold-2 to 2020-01-05")) == "ValueError: too few sessions"
    for name in ("interrupted", "ctrl-c"):
        assert reasons.pop((name, "long")).startswith("DagsterExecutionInterruptedError")
    for name in ("dying", "killed"):
        assert reasons.pop((name, "long")).endswith("died without ending it")
    died = pipelines["dying"]
    assert died.below["long"].info.end_time <= died.run.info.end_time, "the pipeline leaves nothing open"
    assert reasons == {}
    for name, own in (("one", 1.0), ("two", 2.0)):
        assert pipelines["fine"].below[f"below {name}"].data.metrics == {"own": own}, "steps at the same time"
