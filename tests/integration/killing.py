"""Runs as processes of their own that are killed with all their children in the middle of a step.

``begin`` starts a command in a process group of its own, ``kill_in`` waits until the event log shows that the step has
started and sends SIGKILL to the group, as a power cut would end it. ``left_open`` is what must be empty after the next
run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from financial_assets.tracking import MlflowTracker
from financial_assets.tracking.owners import OWNER_PID
from tests.waiting import wait_on

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


def cli_command(*arguments: str) -> list[str]:
    """``financial-assets`` with these arguments."""
    return [sys.executable, "-c", "from financial_assets.cli.main import main; main()", *arguments]


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


def kill_in(
    step: str, process: subprocess.Popen[bytes], instance: dg.DagsterInstance, when: Callable[[], object] = lambda: True
) -> str:
    """Kill when the step (``raw_prices``, ``models__baseline``) has started and ``when`` holds; the killed run's id."""
    killed: list[str] = []

    def is_in_the_step() -> bool:
        for run_id in _runs_of(process, instance):
            started = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START)
            if step in {event.step_key for event in started} and when():
                killed.append(run_id)
        return bool(killed)

    try:
        wait_on(process, f"{step} started", is_in_the_step)
    finally:
        if process.poll() is None:
            kill(process)
    return killed[0]


def _runs_of(process: subprocess.Popen[bytes], instance: dg.DagsterInstance) -> list[str]:
    records = instance.get_run_records(dg.RunsFilter(tags={OWNER_PID: str(process.pid)}), limit=1)
    return [record.dagster_run.run_id for record in records]


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


def left_open(instance: dg.DagsterInstance, tracker: MlflowTracker) -> dict[str, list[str]]:
    """Runs of Dagster and of MLflow that have not ended, and runs that hold a pool slot: all must be empty."""
    records = instance.get_run_records(dg.RunsFilter(statuses=_OPEN))
    return {
        "dagster": [f"{record.dagster_run.job_name} {record.dagster_run.status.value}" for record in records],
        "mlflow": [run.info.run_id for run in tracker._running()],
        "slots": sorted(instance.event_log_storage.get_concurrency_run_ids()),
    }
