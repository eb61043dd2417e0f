"""The run launcher of a single machine: Dagster's own, with owners that its run monitoring can ask about."""

from __future__ import annotations

import os
import signal

from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun, DagsterRunStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from financial_assets.automation.dead_runs import end_dead_runs
from financial_assets.tracking.owners import OWNER_PID, describe_owner, owner_state, owner_tags

__all__ = ["OwningRunLauncher"]


class OwningRunLauncher(DefaultRunLauncher):
    """Launches runs in subprocesses, and lets the daemon see that the process of a run is gone.

    The daemon asks about every run that has started, those of `dagster job execute` and `financial-assets run`
    included.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run; until its own process has taken it over, its owner is the process that launches it."""
        self._instance.add_run_tags(context.dagster_run.run_id, owner_tags())
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Ask a run to end, also one from the command line: its process gets what Ctrl-C would send."""
        run = self._instance.get_run_by_id(run_id)
        if super().terminate(run_id):
            return True
        # A run that was launched and has not begun belongs to its launcher, which must not be interrupted.
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
        # Dagster would fail this run by itself. It would keep its pool slots and not give the reason in plain words.
        end_dead_runs(self._instance)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"{describe_owner(run.tags)} no longer exists")
