"""A variant's assets from its one line: trained, judged, exported, registered, traced back to the Dagster run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from financial_assets.assets.artifacts import make_artifact_asset
from financial_assets.assets.features import features
from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.assets.training import make_model_asset, reference_models
from financial_assets.features.catalogue import FEATURE_NAMES
from financial_assets.models.artifacts.storage import load_training, save_training
from financial_assets.models.baselines.fitted import Baselines
from financial_assets.models.onnx.export import file_sha256
from financial_assets.models.variants import Variant
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings
from tests.assets.alone import execute_checks, verdicts
from tests.assets.conftest import Outcome

TINY = Variant("tiny", layers=1, hidden=8, dropout=0.1, epochs=2, learning_rate=1e-2, batch_size=128)
MODEL = make_model_asset(TINY)
ARTIFACT = make_artifact_asset(TINY, MODEL)
ASSETS = (raw_prices, price_panel, features, reference_models, MODEL, ARTIFACT)


class World:
    """One home, and runs over it."""

    def __init__(self, home: Path, instance: dg.DagsterInstance) -> None:
        settings = load_settings(
            financial_assets_home=home, price_source="simulated", simulated_sessions=700, device="cpu", progress=False
        )
        self.resources = make_resources(settings)
        self.instance = instance
        self.first = self.run(*ASSETS)

    def run(self, *assets: Any, config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            list(assets),
            resources={name: self.resources[name] for name in ("market", "models")},
            instance=self.instance,
            raise_on_error=False,
            run_config={} if config is None else {"ops": {"models__tiny": {"config": config}}},
        )

    def execute_checks(self, asset: dg.AssetsDefinition) -> Outcome:
        return execute_checks(asset, {name: self.resources[name] for name in ("market", "models")}, self.instance)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path_factory.mktemp("home"), instance)


def metadata(result: dg.ExecuteInProcessResult, node: str) -> dict[str, Any]:
    (found,) = result.asset_materializations_for_node(node)
    return {name: value.value for name, value in found.metadata.items()}


def tried(world: World) -> int:
    """Models that the deflated Sharpe ratio counts."""
    trials = world.resources["models"].trials().trials()
    return len(trials.sharpes) + trials.unknown


def test_the_model_is_judged_on_what_it_never_saw(world: World) -> None:
    assert world.first.success
    checks = {
        check.check_name: check
        for check in world.first.get_asset_check_evaluations()
        if check.asset_key == dg.AssetKey(["models", "tiny"])
    }
    assert set(checks) == {"not_constant", "no_leak_alarm", "beats_majority"}
    assert checks["not_constant"].passed
    assert checks["no_leak_alarm"].passed
    assert checks["beats_majority"].severity == dg.AssetCheckSeverity.WARN
    margin = checks["beats_majority"].metadata
    assert checks["beats_majority"].passed is (float(margin["low"].value) > 0)
    shown = metadata(world.first, "models__tiny")
    assert shown["data cut-off"] == f"{world.resources['market'].cutoff().get():%Y-%m-%d}"
    assert 0 < shown["held_out/accuracy"] < 1
    assert shown["learning curve"].startswith("![learning curve](data:image/png;base64,")


def test_its_checks_alone_judge_the_stored_training_and_train_nothing(world: World) -> None:
    before = tried(world)
    found = world.execute_checks(MODEL)
    assert found.success
    assert verdicts(found, MODEL) == verdicts(world.first, MODEL)
    assert tried(world) == before


def test_its_checks_alone_fail_on_a_training_that_knows_too_much(world: World, tmp_path: Path) -> None:
    models = world.resources["models"]
    folder = models.folder / "tiny" / models.lifecycle().current_training("tiny").fingerprint / "training"
    shutil.copytree(folder, tmp_path / "training")
    training = load_training(folder)
    right = np.where(training.held_out.up, 3.0, -3.0).astype(training.held_out.logit.dtype)
    save_training(folder, replace(training, held_out=replace(training.held_out, logit=right)))
    try:
        found = world.execute_checks(MODEL)
    finally:
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "training", folder)
    assert not found.success
    assert not {name: passed for name, (passed, *_) in verdicts(found, MODEL).items()}["no_leak_alarm"]


def test_its_checks_alone_name_what_is_missing(world: World) -> None:
    other = make_model_asset(replace(TINY, name="untrained"))
    found = world.execute_checks(other)
    assert not found.success
    assert "materialize models/untrained" in found.failure_text


def test_the_version_leads_back_to_the_run_and_asset_that_made_it(world: World) -> None:
    (version,) = world.resources["models"].registry().versions()
    assert version.tags["dagster.run_id"] == world.first.run_id
    assert version.tags["dagster.asset"] == "onnx/tiny"
    shown = metadata(world.first, "onnx__tiny")
    assert (shown["version"], shown["reused"]) == (1, "False")
    assert file_sha256(Path(shown["file"])) == version.tags["onnx_sha256"]
    (event,) = world.first.asset_materializations_for_node("onnx__tiny")
    assert (event.tags or {})["dagster/data_version"] == version.tags["onnx_sha256"]


def test_baselines_are_fitted_on_the_same_sessions(world: World) -> None:
    fitted = Baselines.load(world.resources["models"].baselines_path)
    shown = metadata(world.first, "reference_models")
    assert shown["data cut-off"] == fitted.cutoff == metadata(world.first, "models__tiny")["data cut-off"]
    assert set(fitted.feature_names) <= set(FEATURE_NAMES)
    assert np.isfinite(fitted.coefficients).all()


def test_a_second_run_trains_and_registers_nothing(world: World) -> None:
    again = world.run(MODEL, ARTIFACT)
    assert again.success
    assert metadata(again, "models__tiny")["reused"] == metadata(again, "onnx__tiny")["reused"] == "True"
    assert metadata(again, "models__tiny")["mlflow run"] == metadata(world.first, "models__tiny")["mlflow run"]
    assert len(world.resources["models"].registry().versions()) == 1


def test_a_run_may_train_with_another_seed_and_fewer_epochs_and_the_next_has_the_settings_again(world: World) -> None:
    usual, before = metadata(world.first, "models__tiny"), tried(world)
    other = metadata(world.run(MODEL, config={"seed": 7}), "models__tiny")
    short = metadata(world.run(MODEL, config={"max_epochs": 1}), "models__tiny")
    assert len({usual["fingerprint"], other["fingerprint"], short["fingerprint"]}) == 3
    assert short["best epoch"] == 1
    again = metadata(world.run(MODEL, ARTIFACT), "models__tiny")
    assert (again["fingerprint"], again["reused"]) == (usual["fingerprint"], "True")
    assert tried(world) == before + 2


@pytest.mark.parametrize("config", [{"seeds": 7}, {"seed": "many"}], ids=["misspelt", "no number"])
def test_a_configuration_that_dagster_does_not_know_is_refused_at_launch(world: World, config: dict[str, Any]) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match=next(iter(config))):
        world.run(MODEL, config=config)


@pytest.mark.parametrize("config", [{"seed": -1}, {"max_epochs": 0}], ids=["negative seed", "no epoch"])
def test_a_configuration_out_of_range_fails_before_anything_is_trained(world: World, config: dict[str, Any]) -> None:
    before = tried(world)
    result = world.run(MODEL, config=config)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error: Any = failure.event_specific_data
    assert next(iter(config)) in error.error.to_string()
    assert tried(world) == before


def test_training_before_any_price_names_the_asset_to_run(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        resources = make_resources(load_settings(financial_assets_home=tmp_path))
        chosen = {name: resources[name] for name in ("market", "models")}
        result = dg.materialize([MODEL], resources=chosen, instance=instance, raise_on_error=False)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error: Any = failure.event_specific_data
    assert "materialise `features`" in error.error.cause.message
