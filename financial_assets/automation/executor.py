"""The executor of all jobs: Dagster's own, in a run that names its process, ends dead runs and has a run in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig

from financial_assets.automation.dead_runs import claim, end_dead_tracked_runs, sweeping
from financial_assets.resources.pipeline_run import has_died, pipeline_run, run_tags, watch
from financial_assets.tracking import MlflowTracker

_INNER = dg.multi_or_in_process_executor


class OwningExecutor(dg.Executor):
    """Executes the steps with another executor, as the run's owner.

    Dagster calls an executor in the main process of a run, whoever started it: the command line, the daemon or the
    browser, for jobs and for single assets. The processes of single steps never call it.

    Parameters
    ----------
    inner
        Executes the steps.
    tracker
        Opens the tracker whose dead runs are ended, and which gets the run's own.
    dagster_ui_url
        Where Dagster's pages are, if anywhere.
    """

    def __init__(
        self, inner: dg.Executor, tracker: Callable[[], MlflowTracker], dagster_ui_url: str | None = None
    ) -> None:
        self._inner, self._tracker, self._dagster_ui_url = inner, tracker, dagster_ui_url

    @property
    def retries(self) -> RetryMode:
        """The inner executor's."""
        return self._inner.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        """The inner executor's."""
        return self._inner.step_dependency_config

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """Claim the run, end dead ones, and execute the plan under the run's own run in MLflow."""
        instance, run, warn = plan_context.instance, plan_context.dagster_run, plan_context.log.warning
        claim(instance, run.run_id)
        with sweeping(instance, warn):
            tracker = self._tracker()
            if not end_dead_tracked_runs(tracker, warn):
                yield from self._inner.execute(plan_context, execution_plan)
                return
            with pipeline_run(tracker, run.job_name, run.run_id, self._dagster_ui_url, warn) as tracked:
                if tracked is not None:
                    instance.add_run_tags(run.run_id, run_tags(tracker, tracked))
                for event in self._inner.execute(plan_context, execution_plan):
                    watch(tracked, event)
                    if has_died(event):
                        end_dead_tracked_runs(tracker, warn)
                    yield event


def make_owning_executor(
    tracker: Callable[[], MlflowTracker], dagster_ui_url: str | None = None
) -> dg.ExecutorDefinition:
    """Steps in processes of their own or in the run's, configured as Dagster's ``multi_or_in_process_executor``.

    By default in the run's: importing torch once saves more than running two steps at a time, and a single asset or
    check that somebody launches in the browser is one step.
    """
    schema = dg.Field(_INNER.config_schema.as_field().config_type, default_value={"in_process": {}})

    @dg.executor(name="owning_executor", config_schema=schema, requirements=_INNER.get_requirements)
    def owning_executor(init_context: dg.InitExecutorContext) -> dg.Executor:
        create = _INNER.executor_creation_fn
        assert create is not None
        return OwningExecutor(create(init_context), tracker, dagster_ui_url)

    return owning_executor
