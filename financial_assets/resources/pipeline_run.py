"""One MLflow run for each Dagster run: who opens and ends it, and the resource by which assets write into it.

The process that executes a Dagster run opens its MLflow run before the first step and ends it after the last, as what
it was: FINISHED, FAILED if a step failed, KILLED if it was interrupted. That process alone sees the end of every step,
also of parallel ones in processes of their own; it needs no daemon, which run-status sensors would. Its id is a tag of
the Dagster run, by which the steps find it. If the process dies, its MLflow run stays RUNNING until anybody next opens
a run or examines the installation: then it ends as KILLED, by the rule of `tracking.owners`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.execution.plan.objects import ErrorSource
from dagster._core.executor.child_process_executor import ChildProcessCrashException

from financial_assets.errors import OrchestrationError, TrackingError
from financial_assets.resources.dagster_run import run_of
from financial_assets.tracking import KIND_TAG, MlflowRun, MlflowTracker
from financial_assets.tracking.owners import OWNER_PID
from financial_assets.tracking.runs import NOTE_TAG

RUN_TAG = "mlflow/run_id"
"""Tag of a Dagster run: the MLflow run that everything tracked in it belongs to."""
RUN_URL_TAG = "mlflow/run_url"
DAGSTER_RUN = "dagster.run_id"
"""Tag of MLflow runs: the Dagster run that they were made in."""


def dagster_page(ui_url: str | None, run_id: str) -> dict[str, str]:
    """Tag that leads from MLflow to the page of a Dagster run; empty where nobody said where Dagster's pages are."""
    return {} if ui_url is None else {"dagster.run_url": f"{ui_url}/runs/{run_id}"}


@contextmanager
def pipeline_run(
    tracker: MlflowTracker, job: str, run_id: str, ui_url: str | None, say: Callable[[str], None]
) -> Generator[MlflowRun | None, None, None]:
    """The MLflow run of a Dagster run, open while the block lasts; it ends as the block, or its ``verdict``, says.

    Parameters
    ----------
    tracker
        Where it is opened.
    job, run_id
        Of the Dagster run.
    ui_url
        Where Dagster's pages are, if anywhere.
    say
        Gets a sentence when the tracker cannot be reached. The block is then executed with ``None``: a step that needs
        the tracker fails by itself, and the others need not.
    """
    name = "assets" if job.startswith("__") else job
    page = dagster_page(ui_url, run_id)
    where = f"[{run_id}]({page['dagster.run_url']})" if page else f"`{run_id}`"
    tags = {
        KIND_TAG: "pipeline",
        DAGSTER_RUN: run_id,
        "dagster_run_id": run_id,  # what dagster-mlflow calls it
        "dagster.job": name,
        **page,
        NOTE_TAG: f"Dagster run {where} of `{name}`. Its trainings, folds and trials are nested below; its "
        f"decisions are in the experiment `{tracker.decisions.experiment}`.",
    }
    opened = tracker.run(f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M}", tags=tags)
    try:
        run = opened.__enter__()
    except TrackingError as error:
        say(f"there is no MLflow run of this Dagster run: {error}")
        yield None
        return
    try:
        yield run
    except BaseException:
        opened.__exit__(*sys.exc_info())
        raise
    try:
        opened.__exit__(None, None, None)
    except TrackingError as error:
        say(f"the MLflow run {run.id} of this Dagster run stays open: {error}")


def run_tags(tracker: MlflowTracker, run: MlflowRun) -> dict[str, str]:
    """Tags of a Dagster run that name its MLflow run, and the page of that where there is one."""
    page = tracker.page(run.id)
    return {RUN_TAG: run.id, **({} if page is None else {RUN_URL_TAG: page})}


def watch(run: MlflowRun | None, event: dg.DagsterEvent) -> None:
    """Let the MLflow run of a Dagster run, if it has one, end as FAILED or as KILLED where this event of it says so."""
    if run is None or not event.is_step_failure:
        return
    data = event.step_failure_data
    interrupted = data.error_source is ErrorSource.INTERRUPT
    if run.verdict is not None and not interrupted:
        return  # the first failure is the reason of those after it
    cause = data.error.cause or data.error if data.error is not None else None
    reason = cause.message.strip() if cause is not None else "no reason given"
    if has_died(event):  # Dagster's message has no text
        reason = "its process ended before the step did (killed, or out of memory)"
    run.conclude("KILLED" if interrupted else "FAILED", f"{event.step_key}: {reason}")


def has_died(event: dg.DagsterEvent) -> bool:
    """Whether a step failed because its process ended, so that nobody has ended what it tracked."""
    error = event.step_failure_data.error if event.is_step_failure else None
    return error is not None and error.cls_name == ChildProcessCrashException.__name__


def pipeline_run_of(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Id of the MLflow run of a Dagster run; ``None`` where none was opened, e.g. by ``dagster.materialize``."""
    run = instance.get_run_by_id(run_id)  # anew: the tag was set after the run had begun
    return None if run is None else run.tags.get(RUN_TAG)


class _OutsideOfRuns:
    """Stands for MLflow's functions where there is no Dagster run that they could write into."""

    def __getattr__(self, name: str) -> Any:
        raise TrackingError(f"mlflow.{name}: outside of a Dagster run there is no MLflow run to write into")


class PipelineTracking(dg.ConfigurableResource):
    """The resource ``mlflow``: MLflow's own functions, on the MLflow run of the Dagster run.

    Assets ask for it as they ask for dagster-mlflow's (``required_resource_keys={"mlflow"}`` and
    ``context.resources.mlflow``), or by the parameter ``mlflow: dagster.ResourceParam[Any]``. What they get is
    ``resources.mlflow_interface.PipelineMlflow``.
    """

    home: str
    tracking_uri: str
    mlflow_experiment_name: str
    mlflow_ui_url: str | None = None
    dagster_ui_url: str | None = None

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator[Any, None, None]:
        """MLflow's functions, while the steps of this process are executed."""
        run, instance = context.run, context.instance
        if run is None or instance is None:
            yield _OutsideOfRuns()  # a sensor's context makes all resources that it is given
            return
        tracker = MlflowTracker(
            self.tracking_uri, self.mlflow_experiment_name, Path(self.home) / "mlartifacts", self.mlflow_ui_url
        )
        from financial_assets.resources.mlflow_interface import joined  # MLflow, whose import takes a second

        with ExitStack() as stack:
            run_id = pipeline_run_of(instance, run.run_id)
            if run_id is None:
                run_id = stack.enter_context(self._own_run(context, tracker)).id
            yield stack.enter_context(joined(tracker, run_id, run, context.log))

    @contextmanager
    def _own_run(self, context: dg.InitResourceContext, tracker: MlflowTracker) -> Generator[MlflowRun, None, None]:
        """An MLflow run where no executor of ours has opened one: the steps are executed in this process."""
        run, instance = context.run, context.instance
        assert run is not None
        assert instance is not None
        current = run_of(context)
        pid = current.owner().get(OWNER_PID) if current is not None else None
        if pid is not None and pid != str(os.getpid()):
            raise OrchestrationError(
                "the resource `mlflow` finds no MLflow run of this Dagster run, which only the process of the whole "
                "run can open and end: leave the job the executor of `financial_assets.definitions`"
            )
        with pipeline_run(
            tracker, run.job_name, run.run_id, self.dagster_ui_url, dg.get_dagster_logger().warning
        ) as own:
            if own is None:
                raise TrackingError(
                    "the resource `mlflow` has no MLflow run to write into: see the warning before this"
                )
            instance.add_run_tags(run.run_id, run_tags(tracker, own))
            try:
                yield own
            finally:
                # Dagster does not throw into a resource what went wrong in a step.
                for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
                    if entry.dagster_event is not None:
                        watch(own, entry.dagster_event)
