"""Runs tracked from Dagster steps under the multiprocess executor, and the runs of whole pipelines, by real processes.

Each ends as what it was: FINISHED, FAILED, or KILLED by Ctrl-C or by the death of its process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from financial_assets.resources.pipeline_run import RUN_TAG
from financial_assets.tracking import KIND_TAG, MlflowTracker
from financial_assets.tracking.runs import FAILURE_TAG
from tests.mlflow_store import client_of
from tests.waiting import wait_on

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]

_DEFINITIONS = """
import faulthandler
import os
import signal
import time
from pathlib import Path
import dagster as dg
from financial_assets.tracking import MlflowTracker

HERE = Path(__file__).parent
faulthandler.register(signal.SIGUSR1, all_threads=True)  # in the job's process and in each step's
tracker = MlflowTracker(f"sqlite:///{HERE / 'mlflow.db'}", "experiment", HERE / "artifacts")

@dg.asset
def good(context):
    (HERE / "good.pid").write_text(str(os.getpid()))
    with tracker.run("good", tags={"dagster.run_id": context.run_id}):
        pass

@dg.asset
def bad(context):
    (HERE / "bad.pid").write_text(str(os.getpid()))
    with tracker.run("bad", tags={"dagster.run_id": context.run_id}):
        raise ValueError("no prices")

@dg.asset
def slow(context):
    with tracker.run("slow", tags={"dagster.run_id": context.run_id}):
        (HERE / "slow is running").touch()
        for _ in range(3000):  # training runs Python all the time, it does not sleep in one system call
            time.sleep(0.1)

# Each step has a process of its own, forked from one that has imported all this and done nothing else.
forked = {"forkserver": {"preload_modules": ["financial_assets.tracking", "mlflow.store.tracking.sqlalchemy_store"]}}
processes = dg.multiprocess_executor.configured({"max_concurrent": 3, "start_method": forked})
defs = dg.Definitions(assets=[good, bad, slow], jobs=[dg.define_asset_job("steps", executor_def=processes)])
"""

_PIPELINES = """
import faulthandler
import os
import signal
import time
from pathlib import Path
import dagster as dg
from financial_assets.automation.executor import make_owning_executor
from financial_assets.resources import PipelineTracking
from financial_assets.resources.pipeline_run import pipeline_run_of
from financial_assets.tracking import MlflowTracker

HERE = Path(__file__).parent
faulthandler.register(signal.SIGUSR1, all_threads=True)
tracker = MlflowTracker(f"sqlite:///{HERE.parent / 'mlflow.db'}", "experiment", HERE.parent / "artifacts")

@dg.asset(required_resource_keys={"mlflow"})
def one(context):
    (HERE / "one.pid").write_text(str(os.getpid()))
    context.resources.mlflow.log_metrics({"one": 1.0})
    with tracker.run("training", parent=pipeline_run_of(context.instance, context.run_id)):
        pass

@dg.asset
def two(mlflow: dg.ResourceParam[object]):
    mlflow.log_metrics({"two": 2.0})
    mlflow.end_run("FAILED")  # what dagster-mlflow's hook does; the run is not this step's to end

@dg.asset
def bad(mlflow: dg.ResourceParam[object]):
    mlflow.log_metrics({"bad": 3.0})
    raise ValueError("no prices")

@dg.asset
def slow(mlflow: dg.ResourceParam[object]):
    (HERE / "slow is running").touch()
    for _ in range(3000):
        time.sleep(0.1)

forked = {"forkserver": {"preload_modules": ["financial_assets.resources.mlflow_interface"]}}
processes = {"multiprocess": {"max_concurrent": 3, "start_method": forked}}
defs = dg.Definitions(
    assets=[one, two, bad, slow],
    jobs=[
        dg.define_asset_job(name, selection=steps, config={"execution": {"config": processes}})
        for name, steps in {"fine": ["one", "two"], "failing": ["one", "bad", "two"], "slow": ["one", "slow"]}.items()
    ],
    resources={
        "mlflow": PipelineTracking(
            home=str(HERE.parent), tracking_uri=tracker.connection.uri, mlflow_experiment_name="experiment"
        )
    },
    executor=make_owning_executor(lambda: tracker),
)
"""


@contextmanager
def job(folder: Path, name: str = "steps", definitions: str = _DEFINITIONS) -> Iterator[subprocess.Popen[bytes]]:
    """``dagster job execute`` of definitions, in a process group of its own."""
    (folder / "definitions.py").write_text(definitions)
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "job", "execute", "-f", str(folder / "definitions.py"), "-j", name],
            env={**os.environ, "DAGSTER_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def has_ended(pid_file: Path) -> bool:
    """Whether a step's process is gone.

    Dagster's executor hangs for ever when it is interrupted while one is going: it then takes a lock that may have died
    with that process.
    """
    return pid_file.exists() and not psutil.pid_exists(int(pid_file.read_text()))


def interrupt(process: subprocess.Popen[bytes]) -> int:
    """SIGINT to the job alone; should it not end, to its whole group as a terminal's Ctrl-C; then where it hangs."""
    process.send_signal(signal.SIGINT)
    for _ in range(3):
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGUSR1)
    time.sleep(2)
    return 0


def statuses(folder: Path) -> dict[str, tuple[str, str | None]]:
    if not (folder / "mlflow.db").exists():
        return {}
    client = client_of(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("experiment")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return {run.info.run_name: (run.info.status, run.data.tags.get(FAILURE_TAG)) for run in runs}


def test_each_step_ends_as_it_was(tmp_path: Path) -> None:
    with job(tmp_path) as process:
        wait_on(
            process,
            "one step is left",
            lambda: (
                (tmp_path / "slow is running").exists()
                and {name: status for name, (status, _) in statuses(tmp_path).items()}
                == {"good": "FINISHED", "bad": "FAILED", "slow": "RUNNING"}
                and all(has_ended(tmp_path / f"{step}.pid") for step in ("good", "bad"))
            ),
            log=(tmp_path / "log").read_text,
            poll_s=0.2,
        )
        assert interrupt(process) != 0, (tmp_path / "log").read_text()
    ended = statuses(tmp_path)
    assert ended["good"] == ("FINISHED", None)
    assert ended["bad"] == ("FAILED", "ValueError: no prices")
    status, reason = ended["slow"]
    assert status == "KILLED", (tmp_path / "log").read_text()
    assert reason is not None
    assert reason.startswith("DagsterExecutionInterruptedError")


@dataclass(frozen=True)
class Pipeline:
    """A finished ``dagster job execute``: its exit code, what it printed, and its run in MLflow."""

    exit_code: int
    log: str
    run: Any
    nested: list[Any]


PIPELINES = {"fine": "fine", "failing": "failing", "interrupted": "slow", "killed": "slow"}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pipeline]:
    """Four pipelines at a time in one store, each with parallel steps: one ends well, one fails, two are ended."""
    root = tmp_path_factory.mktemp("pipelines")
    client = client_of(f"sqlite:///{root / 'mlflow.db'}")
    with ExitStack() as stack:
        processes: dict[str, subprocess.Popen[bytes]] = {}
        for name, executed in PIPELINES.items():
            (root / name).mkdir()
            processes[name] = stack.enter_context(job(root / name, executed, _PIPELINES))
        for name in ("interrupted", "killed"):
            wait_on(
                processes[name],
                "only the slow step is left",
                lambda here=root / name: (here / "slow is running").exists() and has_ended(here / "one.pid"),
                log=(root / name / "log").read_text,
                poll_s=0.2,
            )
        interrupt(processes["interrupted"])
        os.killpg(processes["killed"].pid, signal.SIGKILL)
        codes = {name: process.wait() for name, process in processes.items()}
    place = [client.get_experiment_by_name("experiment").experiment_id]
    runs = client.search_runs(place)
    assert sum(run.data.tags.get(KIND_TAG) == "pipeline" for run in runs) == len(PIPELINES), "one for each Dagster run"
    with MlflowTracker(f"sqlite:///{root / 'mlflow.db'}", "experiment", root / "artifacts").run("whoever is next"):
        pass
    found = {}
    for name, code in codes.items():
        with dg.DagsterInstance.from_config(str(root / name / "home")) as instance:
            (dagster_run,) = [record.dagster_run for record in instance.get_run_records()]
        run = client.get_run(dagster_run.tags[RUN_TAG])
        assert run.data.tags["dagster.run_id"] == dagster_run.run_id
        nested = [one for one in runs if one.data.tags.get("mlflow.parentRunId") == run.info.run_id]
        found[name] = Pipeline(code, (root / name / "log").read_text(), run, nested)
    return found


@pytest.mark.parametrize(
    ("name", "status", "reason", "metrics"),
    [
        ("fine", "FINISHED", None, {"one": 1.0, "two": 2.0}),
        ("failing", "FAILED", "bad: ValueError: no prices", {"one": 1.0, "two": 2.0, "bad": 3.0}),
        ("interrupted", "KILLED", "slow: ", {"one": 1.0}),
        ("killed", "KILLED", "its process ", {"one": 1.0}),
    ],
)
def test_a_pipeline_is_one_run_that_all_steps_write_into_and_that_ends_as_it_did(
    pipelines: dict[str, Pipeline], name: str, status: str, reason: str | None, metrics: dict[str, float]
) -> None:
    pipeline = pipelines[name]
    assert (pipeline.exit_code == 0) is (name == "fine"), pipeline.log
    assert pipeline.run.info.status == status, pipeline.log
    assert pipeline.run.data.metrics == metrics
    given = pipeline.run.data.tags.get(FAILURE_TAG)
    assert given is None if reason is None else given.startswith(reason)
    assert pipeline.run.data.tags[KIND_TAG] == "pipeline"
    assert [run.info.run_name for run in pipeline.nested] == ["training"]
    assert [run.info.status for run in pipeline.nested] == ["FINISHED"]
