"""Search, adoption and explanation through the graph: a candidate changes nothing until it is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from financial_assets.assets.explanations import make_explanation_asset
from financial_assets.assets.features import features
from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.assets.search import make_search_asset
from financial_assets.assets.training import make_model_asset
from financial_assets.cli.main import main
from financial_assets.models.search.result import SearchResult
from financial_assets.models.variants import VARIANTS
from financial_assets.resources import make_resources
from financial_assets.resources.pipeline_run import RUN_TAG
from financial_assets.settings import load_settings
from tests.tracking.mlflow_store import client_of

BASELINE = VARIANTS["baseline"]
MODEL = make_model_asset(BASELINE)
SEARCH = make_search_asset(BASELINE)
EXPLANATION = make_explanation_asset(BASELINE, MODEL)
SETTINGS: dict[str, Any] = {
    "price_source": "simulated",
    "simulated_sessions": 700,
    "device": "cpu",
    "progress": False,
    "max_epochs": 1,
    "search_trials": 2,
}


class World:
    """One home, and runs over it."""

    def __init__(self, home: Path, instance: dg.DagsterInstance) -> None:
        self.home, self.instance = home, instance
        with self.resources()["models"].tracker().run("pipeline") as pipeline:
            assets = raw_prices, price_panel, features, MODEL, SEARCH, EXPLANATION
            self.first = self.run(*assets, tags={RUN_TAG: pipeline.id})
        self.pipeline = pipeline.id

    def resources(self, **changes: Any) -> dict[str, Any]:
        return make_resources(load_settings(financial_assets_home=self.home, **{**SETTINGS, **changes}))

    def run(self, *assets: Any, tags: dict[str, str] | None = None, **changes: Any) -> dg.ExecuteInProcessResult:
        chosen = {name: value for name, value in self.resources(**changes).items() if name in ("market", "models")}
        return dg.materialize(list(assets), resources=chosen, instance=self.instance, raise_on_error=False, tags=tags)

    def tracked(self, kind: str) -> list[Any]:
        """Runs of a kind in MLflow, the earliest first."""
        models = self.resources()["models"]
        client = client_of(models.tracking_uri)
        experiment = client.get_experiment_by_name(models.mlflow_experiment_name)
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], f"tags.`financial_assets.kind` = '{kind}'")
        return sorted(found, key=lambda run: run.info.start_time)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path_factory.mktemp("home"), instance)


def metadata(result: dg.ExecuteInProcessResult, node: str) -> dict[str, Any]:
    (found,) = result.asset_materializations_for_node(node)
    return {name: value.value for name, value in found.metadata.items()}


def test_a_search_shows_its_trials_and_says_where_the_present_settings_stay(world: World) -> None:
    assert world.first.success
    shown = metadata(world.first, "search__baseline")
    assert shown["finished trials"] == 2
    assert "baseline: 2 trials" in shown["result"]
    assert shown["trials"].startswith("![loss of each trial on the stop block](data:image/png;base64,")
    assert "learning_rate" in shown["best trials"]
    # Two trials of one epoch each: the first has the present settings, and the other one is no better.
    assert "the present settings stay, because no other trial has a lower loss on the stop block" in shown["result"]
    assert "candidate" not in shown
    assert not world.resources()["models"].candidate_path("baseline").exists()
    # As many as are wanted are there: nothing is tried again.
    again = metadata(world.run(SEARCH), "search__baseline")
    assert (again["finished trials"], again["study"]) == (2, shown["study"])


def test_each_trial_is_one_mlflow_run_below_that_of_its_dagster_run(world: World) -> None:
    trials = {int(run.data.tags["search.trial"]): run for run in world.tracked("trial")}
    assert set(trials) >= {0, 1}
    for number in (0, 1):
        tags = {"mlflow.parentRunId": world.pipeline, "dagster.run_id": world.first.run_id, "variant": "baseline"}
        assert tags.items() <= trials[number].data.tags.items()
        assert trials[number].info.status == "FINISHED"
    pipeline = client_of(world.resources()["models"].tracking_uri).get_run(world.pipeline)
    lowest = min(trials[number].data.metrics["best_stop_loss"] for number in (0, 1))
    assert pipeline.data.metrics["baseline/search_best_stop_loss"] == lowest


def test_a_candidate_is_used_once_it_is_named_and_not_before(world: World, tmp_path: Path) -> None:
    world.resources()["models"].candidate_path("baseline").write_text("baseline: {hidden: 12}\n")
    before = metadata(world.run(MODEL), "models__baseline")
    assert before["reused"] == "True"  # though the candidate lies beside it
    adopted = tmp_path / "hyperparameters.yaml"
    adopted.write_text("baseline: {hidden: 10}\n")
    models = world.resources(hyperparameters=adopted)["models"]
    assert models.lifecycle().as_trained(BASELINE) == replace(BASELINE, hidden=10, epochs=1)
    result = world.run(MODEL, hyperparameters=adopted)
    assert result.success
    after = metadata(result, "models__baseline")
    assert after["reused"] == "False"
    assert after["fingerprint"] != before["fingerprint"]
    assert models.lifecycle().current_training("baseline").training.variant.hidden == 10
    world.run(MODEL)  # for the other tests


def test_a_file_that_cannot_be_adopted_stops_the_training(world: World, tmp_path: Path) -> None:
    wrong = tmp_path / "hyperparameters.yaml"
    wrong.write_text("baseline: {hiden: 10}\n")
    result = world.run(MODEL, hyperparameters=wrong)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    data: Any = failure.event_specific_data
    assert "HYPERPARAMETERS" in data.error.cause.message


def test_what_does_not_train_needs_no_file_of_settings(world: World, tmp_path: Path) -> None:
    assert world.run(EXPLANATION, hyperparameters=tmp_path / "deleted.yaml").success


def test_an_explanation_is_kept_shown_and_logged(world: World) -> None:
    shown = metadata(world.first, "explanations__baseline")
    assert shown["model"] == metadata(world.first, "models__baseline")["fingerprint"]
    assert 0 <= shown["largest completeness error"] < 0.05
    assert "momentum" in shown["families"]
    assert shown["integrated gradients by family"].startswith("![integrated gradients by family](data:image/png")
    models = world.resources()["models"]
    stored = models.stored_explanations()
    assert [explanation.variant for explanation in stored.explanations] == ["baseline"]
    assert stored.problems == ()
    from mlflow import MlflowClient

    client = MlflowClient(models.tracking_uri)
    names = {item.path for item in client.list_artifacts(shown["mlflow run"], "explanations")}
    assert "explanations/baseline.json" in names
    assert sum(name.endswith(".png") for name in names) >= 3


def test_an_explanation_of_an_earlier_training_or_a_damaged_one_is_told(world: World) -> None:
    models = world.resources()["models"]
    path = models.explanation_path("baseline")
    content = path.read_text()
    fingerprint = metadata(world.first, "explanations__baseline")["model"]
    path.write_text(content.replace(fingerprint, "0" * 20))
    assert models.stored_explanations().problems == ("baseline was trained again since it was explained",)
    path.write_text(content[: len(content) // 2])
    (problem,) = models.stored_explanations().problems
    assert "is not a stored explanation" in problem
    path.write_text(content)


def command(world: World, *arguments: str) -> Any:
    environment = {name.upper(): str(value).lower() for name, value in SETTINGS.items()}
    return CliRunner().invoke(
        main, ["--home", str(world.home), *arguments], env=environment | {"FINANCIAL_ASSETS_HOME": str(world.home)}
    )


def test_the_command_search_goes_on_with_the_same_study(world: World) -> None:
    result = command(world, "search", "--variant", "baseline", "--trials", "3")
    assert result.exit_code == 0, result.output
    assert "trial 2" in result.output
    assert "trial 1 " not in result.stderr
    assert "baseline: 3 trials" in result.output
    assert "the present settings stay" in result.output
    assert "HYPERPARAMETERS" not in result.output
    (below,) = world.tracked("command")
    assert (below.info.status, below.info.run_name[:16]) == ("FINISHED", "search baseline ")
    parents = [run.data.tags["mlflow.parentRunId"] for run in world.tracked("trial")]
    assert parents == [world.pipeline, world.pipeline, below.info.run_id]


def test_a_search_that_beats_the_present_settings_writes_a_candidate_and_says_how_to_adopt_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SearchResult, "beats_present", True)
    result = command(world, "search", "--variant", "baseline", "--trials", "3")
    assert result.exit_code == 0, result.output
    path = world.resources()["models"].candidate_path("baseline")
    assert f"HYPERPARAMETERS={path} financial-assets run" in result.output
    assert list(yaml.safe_load(path.read_text())) == ["baseline"]
    assert metadata(world.run(SEARCH, search_trials=3), "search__baseline")["candidate"] == str(path)


def test_the_command_explain_prints_what_it_found(world: World) -> None:
    result = command(world, "explain", "--variant", "baseline")
    assert result.exit_code == 0, result.output
    assert "direction: completeness error" in result.output
    assert "moves the direction most" in result.output
    assert "Errors by group" in result.output


@pytest.mark.parametrize("name", ["search", "explain"])
def test_an_unknown_variant_is_named(world: World, name: str) -> None:
    result = command(world, name, "--variant", "baselin")
    assert result.exit_code == 1
    assert "there is no variant 'baselin'; there are baseline" in result.output


def test_options_of_ablation_without_ablation_are_refused(world: World) -> None:
    result = command(world, "explain", "--variant", "baseline", "--family", "trend")
    assert result.exit_code == 2
    assert "give --ablation too" in result.output
