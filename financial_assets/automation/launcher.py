"""The run launcher of a single machine: Dagster's own, extended so that run monitoring can check a run's process."""

from __future__ import annotations

import os
import signal

from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun, DagsterRunStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from financial_assets.automation.dead_runs import end_dead_runs
from financial_assets.tracking.owners import OWNER_PID, describe_owner, owner_state, owner_tags


class OwningRunLauncher(DefaultRunLauncher):
    """Launches runs in subprocesses, and tells the daemon when the process of a run is gone.

    The daemon asks about every started run, including those of `dagster job execute` and `financial-assets run`.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run; its owner is the launching process until its own process takes over."""
        self._instance.add_run_tags(context.dagster_run.run_id, owner_tags())
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run, also one from the command line, whose process gets SIGINT as from Ctrl-C."""
        run = self._instance.get_run_by_id(run_id)
        if super().terminate(run_id):
            return True
        # The owner of a run that has not begun is its launcher, which must not be interrupted.
        if run is None or run.status is not DagsterRunStatus.STARTED or GRPC_INFO_TAG in run.tags:
            return False
        if owner_state(run.tags) != "alive":
            return False
        os.kill(int(run.tags[OWNER_PID]), signal.SIGINT)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Dagster's run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a run exists; if not, all runs without their process are ended at once."""
        if owner_state(run.tags) != "gone":
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        # Dagster would fail the run too, but leave its pool slots taken and give no reason in plain words.
        end_dead_runs(self._instance)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"{describe_owner(run.tags)} no longer exists")
