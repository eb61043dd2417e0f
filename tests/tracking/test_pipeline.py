"""The MLflow run of a Dagster run, and the resource ``mlflow``, in this process; real processes are elsewhere."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from mlflow.tracking import MlflowClient

from financial_assets.automation.executor import make_owning_executor
from financial_assets.errors import TrackingError
from financial_assets.resources import PipelineTracking
from financial_assets.resources.pipeline_run import RUN_TAG, pipeline_run, pipeline_run_of
from financial_assets.tracking import MlflowTracker
from financial_assets.tracking.runs import FAILURE_TAG
from tests.tracking.mlflow_store import client_of

# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that it is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def tracker(tmp_path: Path) -> MlflowTracker:
    return MlflowTracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "experiment", tmp_path / "mlartifacts")


@pytest.fixture
def client(tracker: MlflowTracker) -> MlflowClient:
    return client_of(tracker.connection.uri)


@pytest.fixture
def resource(tmp_path: Path, tracker: MlflowTracker) -> PipelineTracking:
    return PipelineTracking(
        home=str(tmp_path),
        tracking_uri=tracker.connection.uri,
        mlflow_experiment_name="experiment",
        dagster_ui_url="http://dagster:3000",
    )


@dg.asset(required_resource_keys={"mlflow"})
def one(context: dg.AssetExecutionContext) -> None:
    interface = context.resources.mlflow
    interface.log_metrics({"one": 1.0})
    with interface.start_run(nested=True, run_name="below"):
        interface.log_param("seed", 1)
    interface.end_run("FAILED")


@dg.asset(deps=[one])
def fails(mlflow: dg.ResourceParam[Any]) -> None:
    mlflow.log_metrics({"two": 2.0})
    raise ValueError("no prices")


@dg.asset(deps=[one])
def interrupted(mlflow: dg.ResourceParam[Any]) -> None:
    raise KeyboardInterrupt


def run_of(client: MlflowClient, instance: dg.DagsterInstance, result: Any) -> Any:
    run_id = pipeline_run_of(instance, result.run_id)
    assert run_id is not None
    return client.get_run(run_id)


@pytest.mark.parametrize(
    ("assets", "status", "reason"),
    [
        ((one,), "FINISHED", None),
        ((one, fails), "FAILED", "fails: ValueError: no prices"),
        ((one, interrupted), "KILLED", "interrupted: KeyboardInterrupt"),
    ],
)
def test_a_dagster_run_is_one_mlflow_run_that_ends_as_it_did(
    client: MlflowClient,
    instance: dg.DagsterInstance,
    resource: PipelineTracking,
    assets: tuple[Any, ...],
    status: str,
    reason: str | None,
) -> None:
    result = dg.materialize(assets, resources={"mlflow": resource}, instance=instance, raise_on_error=False)
    run = run_of(client, instance, result)
    assert (run.info.status, run.data.tags.get(FAILURE_TAG)) == (status, reason)
    assert run.data.metrics["one"] == 1.0
    assert run.data.tags["dagster.run_url"] == f"http://dagster:3000/runs/{result.run_id}"
    assert f"[{result.run_id}](http://dagster:3000/runs/{result.run_id})" in run.data.tags["mlflow.note.content"]
    (below,) = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    assert (below.info.status, below.data.params) == ("FINISHED", {"seed": "1"})


def told() -> tuple[str | None, ...]:
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
    return (mlflow.get_tracking_uri(), *map(os.environ.get, names))


def test_runs_of_one_process_do_not_write_into_each_other(
    client: MlflowClient, instance: dg.DagsterInstance, resource: PipelineTracking
) -> None:
    before = told()
    first, second = (
        run_of(client, instance, dg.materialize([one], resources={"mlflow": resource}, instance=instance))
        for _ in range(2)
    )
    assert first.info.run_id != second.info.run_id
    assert len(client.get_metric_history(first.info.run_id, "one")) == 1
    assert mlflow.active_run() is None
    assert told() == before, "what MLflow tells subprocesses"


def test_the_executor_opens_and_ends_the_run_and_steps_join_it(
    client: MlflowClient, instance: dg.DagsterInstance, resource: PipelineTracking, tracker: MlflowTracker
) -> None:
    defs = dg.Definitions(
        assets=[one, fails],
        jobs=[dg.define_asset_job("both")],
        resources={"mlflow": resource},
        executor=make_owning_executor(lambda: tracker, "http://dagster:3000"),
    )
    job = defs.resolve_job_def("both")
    # Dagster copies the tags of a run to its re-execution: they name the run of that one.
    inherited = {RUN_TAG: "of the run that is executed again"}
    run = instance.create_run_for_job(job, run_config={"execution": {"config": {"in_process": {}}}}, tags=inherited)
    result = execute_run(InMemoryJob(job), run, instance)
    found = run_of(client, instance, result)
    assert found.info.run_name.startswith("both ")
    assert (found.info.status, found.data.tags[FAILURE_TAG]) == ("FAILED", "fails: ValueError: no prices")
    assert found.data.metrics == {"one": 1.0, "two": 2.0}
    pipelines = client.search_runs([found.info.experiment_id], "tags.`financial_assets.kind` = 'pipeline'")
    assert len(pipelines) == 1, "the steps opened none of their own"


def test_without_a_tracker_the_work_is_done_and_somebody_told() -> None:
    nowhere = MlflowTracker("http://127.0.0.1:1", "experiment", Path("unused"))
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pipeline_run(nowhere, "daily", "run-1", None, said.append) as run:
            assert run is None
    (sentence,) = said
    assert "no MLflow run" in sentence
    assert "http://127.0.0.1:1" in sentence


def test_a_tracker_lost_meanwhile_does_not_fail_the_pipeline(tracker: MlflowTracker, tmp_path: Path) -> None:
    said: list[str] = []
    with pipeline_run(tracker, "daily", "run-1", None, said.append) as run:
        assert run is not None
        (tmp_path / "mlflow.db").rename(tmp_path / "elsewhere")
    assert f"{run.id} of this Dagster run stays open" in said[0]


def test_a_run_that_is_not_in_the_store_is_named(instance: dg.DagsterInstance, resource: PipelineTracking) -> None:
    lost = {RUN_TAG: "0" * 32}
    with pytest.raises((TrackingError, dg.DagsterResourceFunctionError)) as raised:
        dg.materialize([one], resources={"mlflow": resource}, instance=instance, tags=lost)
    chain = str(raised.value) + str(raised.value.__cause__)
    assert "join run " + "0" * 32 in chain


def test_outside_of_a_run_its_use_is_refused_and_its_presence_is_not(resource: PipelineTracking) -> None:
    with (
        dg.build_init_resource_context() as context,
        resource.yield_for_execution(context) as interface,
        pytest.raises(TrackingError, match=r"mlflow\.log_metrics: outside of a Dagster run"),
    ):
        interface.log_metrics({"one": 1.0})
