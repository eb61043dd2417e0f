"""The executor of all jobs: Dagster's own, after the run has recorded its process and ended dead runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig

from financial_assets.automation.dead_runs import claim, end_dead_tracked_runs, sweeping
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
        Opens the tracker whose dead runs are ended.
    """

    def __init__(self, inner: dg.Executor, tracker: Callable[[], MlflowTracker]) -> None:
        self._inner, self._tracker = inner, tracker

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
        """Claim the run, end dead ones, and execute the plan."""
        claim(plan_context.instance, plan_context.run_id)
        with sweeping(plan_context.instance, plan_context.log.warning):
            end_dead_tracked_runs(self._tracker(), plan_context.log.warning)
            yield from self._inner.execute(plan_context, execution_plan)


def make_owning_executor(tracker: Callable[[], MlflowTracker]) -> dg.ExecutorDefinition:
    """Steps in processes of their own or in the run's, configured as Dagster's ``multi_or_in_process_executor``."""

    @dg.executor(
        name="owning_executor", config_schema=_INNER.config_schema.as_field(), requirements=_INNER.get_requirements
    )
    def owning_executor(init_context: dg.InitExecutorContext) -> dg.Executor:
        create = _INNER.executor_creation_fn
        assert create is not None
        return OwningExecutor(create(init_context), tracker)

    return owning_executor
