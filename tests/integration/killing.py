"""Runs as processes of their own that are killed with all their children.

``begin`` starts a command in a process group of its own, ``kill`` sends SIGKILL to the group, as a power cut would end
it. ``left_open`` is what must be empty after the next run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from mlflow.tracking import MlflowClient

ROOT = Path(__file__).parents[2]
_OPEN = [
    status
    for status in dg.DagsterRunStatus
    if status not in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
]


def job_command(job: str, *arguments: str) -> list[str]:
    """``dagster job execute``."""
    return [
        *(sys.executable, "-m", "dagster", "job", "execute"),
        *("-m", "financial_assets.definitions", "-j", job, *arguments),
    ]


def instance_of(folder: Path) -> dg.DagsterInstance:
    """The instance of the repository, but for where it keeps its files; ``folder`` is its DAGSTER_HOME."""
    text = (ROOT / "dagster.yaml").read_text().replace("base_dir: .dagster", f"base_dir: {folder}")
    (folder / "dagster.yaml").write_text(text)
    return dg.DagsterInstance.from_config(str(folder))


def begin(command: list[str], environment: Mapping[str, str], log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own; what it prints goes to ``log``, or nowhere."""
    output: Any = subprocess.DEVNULL if log is None else log.open("ab")
    return subprocess.Popen(
        command, env=dict(environment), cwd=ROOT, stdout=output, stderr=output, start_new_session=True
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the whole group, and wait until it is gone."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def reason(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the event log gives as the reason for which a run failed."""
    (event,) = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert event.dagster_event is not None
    return event.dagster_event.message or ""


def spans(instance: dg.DagsterInstance, run_id: str, members: tuple[str, ...]) -> list[tuple[float, float]]:
    """When the steps whose names begin so started and ended, in seconds, in order."""
    began, ended = (
        {entry.step_key or "": entry.timestamp for entry in instance.all_logs(run_id, of_type=kind)}
        for kind in (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS)
    )
    return sorted((start, ended[step]) for step, start in began.items() if step.startswith(members))


def left_open(instance: dg.DagsterInstance, client: MlflowClient) -> dict[str, list[str]]:
    """Runs of Dagster and of MLflow that have not ended, and runs that hold a pool slot: all must be empty."""
    records = instance.get_run_records(dg.RunsFilter(statuses=_OPEN))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {
        "dagster": [f"{record.dagster_run.job_name} {record.dagster_run.status.value}" for record in records],
        "mlflow": [run.info.run_id for run in client.search_runs(experiments, "status = 'RUNNING'")],
        "slots": sorted(instance.event_log_storage.get_concurrency_run_ids()),
    }
