"""Runs tracked from Dagster steps under the multiprocess executor: failed and interrupted steps end as FAILED."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from financial_assets.tracking import MlflowTracker
from financial_assets.tracking.runs import FAILURE_TAG
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

defs = dg.Definitions(
    assets=[good, bad, slow],
    jobs=[dg.define_asset_job("steps", executor_def=dg.multiprocess_executor.configured({"max_concurrent": 3}))],
)
"""


@contextmanager
def job(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``dagster job execute`` of the definitions above, in a process group of its own."""
    (folder / "definitions.py").write_text(_DEFINITIONS)
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "job", "execute", "-f", str(folder / "definitions.py"), "-j", "steps"],
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
    tracker = MlflowTracker(f"sqlite:///{folder / 'mlflow.db'}", "experiment", folder / "artifacts")
    runs = tracker._connection.client.search_runs([tracker._experiment()])
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
    assert status == "FAILED", (tmp_path / "log").read_text()
    assert reason is not None
    assert reason.startswith("DagsterExecutionInterruptedError")
