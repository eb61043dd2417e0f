"""The walk-forward in Dagster: by partition, without one, the report, and the jobs that leave it alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from financial_assets.assets import walk_forward as assets
from financial_assets.assets.features import features
from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.automation.jobs import walk_forward
from financial_assets.cli.main import main
from financial_assets.definitions import defs
from financial_assets.models import variants
from financial_assets.models.variants import Variant
from financial_assets.models.walk_forward import tracked
from financial_assets.resources import make_resources
from financial_assets.resources.pipeline_run import RUN_TAG
from financial_assets.settings import Settings, load_settings
from tests.tracking.mlflow_store import client_of

TINY = {"tiny": Variant("tiny", layers=1, hidden=4, dropout=0.0, epochs=1, learning_rate=1e-2, batch_size=128)}
CHOSEN = Settings().variants
SETTINGS: dict[str, Any] = {
    "price_source": "simulated",
    "simulated_sessions": 760,
    "simulated_signal": 0.0,
    "tickers": "AAA,BBB",
    "device": "cpu",
    "progress": False,
    "sequence_length": 3,
    "variants": "tiny",
    "walk_forward_splits": 2,
    "walk_forward_test_sessions": 15,
}


class World:
    """One home with prices and features, and runs over it."""

    def __init__(self, home: Path, instance: dg.DagsterInstance) -> None:
        self.home, self.instance = home, instance
        self.resources = {
            name: resource
            for name, resource in make_resources(load_settings(financial_assets_home=home, **SETTINGS)).items()
            if name in ("market", "models")
        }
        self.assets = assets.make_walk_forward_assets(list(TINY), self.resources["models"].fold_plan())
        first = dg.materialize([raw_prices, price_panel, features], resources=self.resources, instance=instance)
        assert first.success
        everything = [raw_prices, price_panel, features, *self.assets]
        graph = dg.Definitions(assets=everything, jobs=[walk_forward], resources=self.resources)
        self.job = graph.resolve_job_def("walk_forward")

    def by_partition_and_whole(self) -> World:
        """One fold by its partition, then all of them without one."""
        self.of_fold = self.run("fold-1")
        self.partitions_of_fold = {name: partitions_of(self, name) for name in ("tiny", "reference_models")}
        with self.resources["models"].tracker().run("pipeline") as pipeline:
            self.of_all = self.run(tags={RUN_TAG: pipeline.id})
        self.pipeline = pipeline.id
        return self

    def tracked(self, kind: str) -> list[Any]:
        """Runs of a kind in MLflow, the earliest first."""
        models = self.resources["models"]
        client = client_of(models.tracking_uri)
        experiment = client.get_experiment_by_name(models.mlflow_experiment_name)
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], f"tags.`financial_assets.kind` = '{kind}'")
        return sorted(found, key=lambda run: run.info.start_time)

    def run(self, partition: str | None = None, **more: Any) -> dg.ExecuteInProcessResult:
        return self.job.execute_in_process(
            instance=self.instance, partition_key=partition, raise_on_error=False, **more
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patched, dg.DagsterInstance.ephemeral() as instance:
        patched.setattr(variants, "VARIANTS", TINY)
        yield World(tmp_path_factory.mktemp("home"), instance).by_partition_and_whole()


def partitions_of(world: World, asset: str) -> set[str]:
    return world.instance.get_materialized_partitions(dg.AssetKey(["walk_forward", asset]))


def test_a_partition_is_a_fold_and_the_report_reads_those_that_are_there(world: World) -> None:
    assert world.of_fold.success
    assert world.partitions_of_fold == {"tiny": {"fold-1"}, "reference_models": {"fold-1"}}
    (event,) = world.of_fold.asset_materializations_for_node("walk_forward_report")
    assert event.metadata["folds there"].value == 2
    assert "| baselines | fold-2 |" in str(event.metadata["folds"].value)
    for name in ("scores by fold", "reliability", "breaches over time", "rank correlation over time"):
        assert str(event.metadata[name].value).startswith("![")
    assert "tiny" in str(event.metadata["direction, all folds"].value)


def test_without_a_partition_all_folds_run_and_what_is_there_is_reused(world: World) -> None:
    assert world.of_all.success
    assert partitions_of(world, "tiny") == partitions_of(world, "reference_models") == {"fold-1", "fold-2"}
    (report,) = world.of_all.asset_materializations_for_node("walk_forward_report")
    assert report.metadata["folds there"].value == 4
    reused = {
        event.partition: event.metadata["reused"].value
        for event in world.of_all.asset_materializations_for_node("walk_forward__tiny")
        if event.partition
    }
    assert reused == {"fold-1": "True", "fold-2": "False"}
    assert (world.home / "walk_forward" / "report" / "scores.parquet").exists()


def test_each_fold_is_one_mlflow_run_below_that_of_its_dagster_run(world: World) -> None:
    parents = {
        (run.data.tags["variant"], run.data.tags["fold"]): run.data.tags.get("mlflow.parentRunId")
        for run in world.tracked("fold")
    }
    assert len(world.tracked("fold")) == len(parents) == 4, "what is reused is not tracked again"
    # The run of the partition had no MLflow run of its own, because it was not executed by our executor.
    assert {fold: parent for (_, fold), parent in parents.items()} == {"fold-1": None, "fold-2": world.pipeline}
    (second,) = [
        event
        for event in world.of_all.asset_materializations_for_node("walk_forward__tiny")
        if event.partition == "fold-2"
    ]
    run = next(run for run in world.tracked("fold") if run.info.run_id == second.metadata["mlflow run"].value)
    assert (run.info.status, run.data.tags["dagster.run_id"]) == ("FINISHED", world.of_all.run_id)
    assert "direction/log_loss" in run.data.metrics
    baselines = next(run for run in world.tracked("fold") if run.data.tags["variant"] == "baselines")
    assert "garch/return_quantiles/qlike" in baselines.data.metrics
    assert "hidden" not in baselines.data.params


def test_a_report_of_nothing_names_the_command(tmp_path: Path, world: World) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        empty = World(tmp_path, instance)
        report = next(one for one in empty.assets if one.key == dg.AssetKey("walk_forward_report"))
        result = dg.materialize([report], resources=empty.resources, instance=instance, raise_on_error=False)
        assert not result.success
        failure = next(event for event in result.all_events if event.is_step_failure)
        assert "financial-assets walk-forward" in str(failure.event_specific_data)


def test_the_command_prints_a_table_and_goes_on_where_the_job_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name.upper(), str(value))
    before = {path: path.stat().st_mtime_ns for path in (world.home / "walk_forward").rglob("fold-*.parquet")}
    result = CliRunner().invoke(main, ["--home", str(world.home), "walk-forward", "--variants", "tiny"])
    assert result.exit_code == 0, result.output
    assert "2 folds" in result.output
    assert "tiny" in result.output
    assert "momentum_20" in result.output
    after = {path: path.stat().st_mtime_ns for path in (world.home / "walk_forward").rglob("fold-*.parquet")}
    assert before == after
    (run,) = world.tracked("command")
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("walk-forward ")
    assert len(world.tracked("fold")) == 4


def test_the_command_refuses_what_it_cannot_do(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name.upper(), str(value))
    for home, options, said in (
        (world.home, ["--variants", "nobody"], "nobody"),
        (world.home, ["--splits", "100"], "WALK_FORWARD_SPLITS=100"),
        (tmp_path / "new", [], "financial-assets run"),
    ):
        result = CliRunner().invoke(main, ["--home", str(home), "walk-forward", *options])
        assert result.exit_code == 1
        assert said in result.output
        assert "Traceback" not in result.output


def test_ctrl_c_keeps_what_is_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name.upper(), str(value))
    monkeypatch.setattr(tracked.FoldRuns, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    result = CliRunner().invoke(main, ["--home", str(world.home), "walk-forward"])
    assert result.exit_code == 130
    assert world.tracked("command")[-1].info.status == "KILLED"
    assert "finished folds are kept; the same command continues" in result.output


def test_the_other_jobs_leave_it_alone() -> None:
    own = {f"walk_forward/{name}" for name in (*CHOSEN, "reference_models")} | {"walk_forward_report"}
    for job in ("full_pipeline", "daily", "retrain"):
        chosen = {key.to_user_string() for key in defs.resolve_job_def(job).asset_layer.selected_asset_keys}
        assert not chosen & own
    chosen = defs.resolve_job_def("walk_forward").asset_layer.selected_asset_keys
    assert {key.to_user_string() for key in chosen} == own


def test_folds_pass_one_at_a_time() -> None:
    for key in defs.resolve_job_def("walk_forward").asset_layer.selected_asset_keys:
        assert defs.get_assets_def(key).op.pool == "walk_forward"


def test_partitions_are_the_folds_of_the_settings() -> None:
    for name in (*CHOSEN, "reference_models"):
        found = defs.get_assets_def(dg.AssetKey(["walk_forward", name])).partitions_def
        assert found is not None
        assert found.get_partition_keys() == ["fold-1", "fold-2", "fold-3", "fold-4", "fold-5"]
