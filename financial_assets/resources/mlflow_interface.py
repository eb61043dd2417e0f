"""dagster-mlflow's interface to MLflow, on a run that the pipeline itself opens and ends.

Its own resource looks for the run by a tag in every step, and leaves runs FINISHED that have failed: MLflow 3 ends the
active run when a process exits, by another function than the one that dagster-mlflow takes back.
"""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import dagster as dg
import mlflow
from mlflow.tracking import fluent as _fluent
from mlflow.tracking._tracking_service import utils as _utils

from financial_assets.tracking import MlflowTracker

with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.BetaWarning)  # all of dagster-mlflow is marked as beta; tests guard what we use
    from dagster_mlflow.resources import MlFlow

# What MLflow keeps for the whole process and thread has no public names; tests guard those that are used here.
fluent: Any = _fluent
utils: Any = _utils
_GLOBAL = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
"""Variables by which MLflow tells subprocesses what it has been told."""


class PipelineMlflow(MlFlow):
    """Every function of the module ``mlflow``, with the MLflow run of the Dagster run as the active one.

    ``log_metrics``, ``log_params``, ``log_artifact`` and so on write into it; ``start_run(nested=True)`` opens a run
    below it. The attribute ``mlflow_run_id`` is its id, for what is opened by ``MlflowTracker.run(parent=...)``.
    """

    def _setup(self) -> None:
        """Make the known run the active one, without looking for it, and keep MLflow from ending it at exit.

        ``mlflow.start_run`` would also mark it RUNNING, which is not a step's to say: ``dagster job execute`` makes the
        resources of a run once more when that has ended.
        """
        run = self.tracking_client.get_run(str(self.mlflow_run_id))
        fluent._active_run_stack.get().append(mlflow.ActiveRun(run))
        atexit.unregister(fluent._safe_end_run)

    def end_run(self, status: str = "FINISHED") -> None:
        """End a run that was started below the pipeline's; that one is ended by the process of the whole run."""
        active = mlflow.active_run()
        if active is not None and active.info.run_id != self.mlflow_run_id:
            mlflow.end_run(status)

    def leave(self) -> None:
        """Let the run be active no longer, without ending it: the next Dagster run of this process has another."""
        stack = fluent._active_run_stack.get()
        stack[:] = [run for run in stack if run.info.run_id != self.mlflow_run_id]


@contextmanager
def joined(tracker: MlflowTracker, run_id: str, run: dg.DagsterRun, log: Any) -> Generator[PipelineMlflow, None, None]:
    """The interface to a run, while the block lasts; what MLflow keeps for the whole process is put back after it.

    Raises
    ------
    TrackingError
        The store cannot be reached, or does not have the run.
    """
    before = {name: os.environ.get(name) for name in _GLOBAL}
    address, experiment = utils._tracking_uri, fluent._active_experiment_id
    settings = {
        "experiment_name": tracker.experiment,
        "mlflow_tracking_uri": tracker.connection.uri,
        "mlflow_run_id": run_id,
    }
    as_its_own = SimpleNamespace(log=log, dagster_run=run, run_id=run.run_id, resource_config=settings)
    try:
        with tracker.connection.errors(f"join run {run_id}"), warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            interface = PipelineMlflow(as_its_own)
        try:
            yield interface
        finally:
            interface.leave()
    finally:
        mlflow.set_tracking_uri(address)  # pyright: ignore[reportArgumentType] - None: as if nobody had set it
        fluent._active_experiment_id = experiment
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
