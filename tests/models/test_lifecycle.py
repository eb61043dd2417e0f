"""A model's way from panel to registry, on MLflow over sqlite: trained once, registered once, restored when lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import psutil
import pytest
import torch
from onnx import numpy_helper

from financial_assets.errors import ExportError, FinancialAssetsError, LeakAlarmError, ParityError, TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models import lifecycle as lifecycle_module
from financial_assets.models.artifacts import artifact
from financial_assets.models.artifacts.artifact import Artifact
from financial_assets.models.lifecycle import ModelLifecycle, TrainedModel
from financial_assets.models.onnx.export import export_onnx, file_sha256
from financial_assets.models.training import Training
from financial_assets.models.variants import Variant
from financial_assets.tracking import MlflowTracker, ModelRegistry
from financial_assets.tracking.owners import OWNER_PID, OWNER_STARTED, owner_tags
from financial_assets.tracking.runs import FAILURE_TAG
from tests.tracking.mlflow_store import client_of, experiment_of

TAGS = {"dagster.run_id": "run-1", "dagster.asset": "models/tiny"}


@dataclass(frozen=True)
class World:
    """What all models here are made from."""

    variant: Variant
    graph: FeatureGraph
    features: FeaturePanel
    panel: PricePanel
    cutoff: pd.Timestamp

    def develop(self, lifecycle: ModelLifecycle, **changes: Any) -> TrainedModel:
        arguments: dict[str, Any] = {
            "features": self.features,
            "panel": self.panel,
            "cutoff": self.cutoff,
            "tags": TAGS,
        }
        return lifecycle.develop(changes.pop("variant", self.variant), **{**arguments, **changes})

    def publish(self, lifecycle: ModelLifecycle) -> Artifact:
        return lifecycle.publish(self.variant.name, self.graph, self.features, self.panel, tags=TAGS)


@pytest.fixture(scope="module")
def world(tiny: Variant, graph: FeatureGraph, features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp) -> World:
    return World(tiny, graph, features, panel, cutoff)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the schema and nothing in it; making one takes seconds, copying one does not."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    client_of(f"sqlite:///{database}")
    return database


def make_lifecycle(folder: Path, store: Path, sequence_length: int, seed: int = 7) -> ModelLifecycle:
    if not (folder / "mlflow.db").exists():
        shutil.copy(store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    tracker = MlflowTracker(uri, "experiment", folder / "artifacts")
    return ModelLifecycle(folder / "models", tracker, ModelRegistry(uri), sequence_length, seed, device="cpu")


@pytest.fixture
def lifecycle(tmp_path: Path, empty_store: Path, sequence_length: int) -> ModelLifecycle:
    return make_lifecycle(tmp_path, empty_store, sequence_length)


@dataclass(frozen=True)
class Published:
    """A lifecycle whose model is registered."""

    lifecycle: ModelLifecycle
    trained: TrainedModel
    artifact: Artifact

    def elsewhere(self, folder: Path) -> ModelLifecycle:
        """The same registry, another machine's disk."""
        return replace(self.lifecycle, folder=folder)


@pytest.fixture(scope="module")
def published(
    world: World, tmp_path_factory: pytest.TempPathFactory, empty_store: Path, sequence_length: int
) -> Published:
    made = make_lifecycle(tmp_path_factory.mktemp("published"), empty_store, sequence_length)
    return Published(made, world.develop(made), world.publish(made))


class Trainer:
    """Stands for ``train``: counts, and hands out what it was given."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.calls = 0

    def __call__(self, variant: Variant, *_: Any, cutoff: pd.Timestamp, **__: Any) -> Training:
        self.calls += 1
        return replace(self.training, variant=variant, cutoff=cutoff)


@pytest.fixture
def trainer(training: Training, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    found = Trainer(training)
    monkeypatch.setattr(lifecycle_module, "train", found)
    return found


def client(lifecycle: ModelLifecycle) -> Any:
    assert isinstance(lifecycle.tracker, MlflowTracker)
    return lifecycle.tracker._connection.client


def runs(lifecycle: ModelLifecycle) -> list[tuple[str, str]]:
    """Status and recorded reason of each tracked run, the newest first."""
    assert isinstance(lifecycle.tracker, MlflowTracker)
    found = client(lifecycle).search_runs([experiment_of(client(lifecycle), lifecycle.tracker.experiment)])
    return [(run.info.status, run.data.tags.get(FAILURE_TAG, "")) for run in found]


def same_weights(one: Training, other: Training) -> bool:
    states = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


# --- develop ---------------------------------------------------------------------------------------------------------


def test_fewer_epochs_are_another_model_and_more_than_the_variants_own_are_not(
    world: World, lifecycle: ModelLifecycle
) -> None:
    lifecycle = replace(lifecycle, max_epochs=1)
    trained = world.develop(lifecycle)
    assert (trained.training.variant.epochs, trained.training.best_epoch) == (1, 1)
    for limit in (None, 1, 99):
        assert world.develop(replace(lifecycle, max_epochs=limit), variant=trained.training.variant).reused


def test_a_training_is_tracked_with_all_that_it_was_made_from(published: Published, world: World) -> None:
    assert not published.trained.reused
    run = client(published.lifecycle).get_run(published.trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params.items() >= {"seed": "7", "hidden": "8", "data_cutoff": f"{world.cutoff:%Y-%m-%d}"}.items()
    assert run.data.tags.items() >= {**TAGS, "variant": "tiny", "fingerprint": published.trained.fingerprint}.items()
    history = client(published.lifecycle).get_metric_history(run.info.run_id, "stop_loss")
    assert [point.step for point in history] == [epoch.number for epoch in published.trained.training.history]
    best = published.trained.training.history[published.trained.training.best_epoch - 1]
    assert run.data.metrics["best_epoch"] == best.number
    assert run.data.metrics["best_stop_loss"] == best.stop_loss == min(point.value for point in history)
    assert run.data.metrics["best_fit_loss"] == best.fit_loss
    assert run.data.metrics["held_out_accuracy"] == pytest.approx(published.trained.training.held_out.correct.mean())


def test_what_a_training_has_read_is_listed_block_by_block(published: Published, world: World) -> None:
    run, training = client(published.lifecycle).get_run(published.trained.run_id), published.trained.training
    read = {entry.tags[0].value: entry.dataset for entry in run.inputs.dataset_inputs}
    assert set(read) == {"fit", "stop", "held_out"}
    for block, context in (("fit", "fit"), ("stop", "stop"), ("calibrate", "held_out")):
        profile = json.loads(read[context].profile)
        assert [profile["first session"], profile["last session"]] == [
            f"{day:%Y-%m-%d}" for day in training.spans[block]
        ]
        assert profile["windows"] == training.windows[block]
        assert [column["name"] for column in json.loads(read[context].schema)["mlflow_colspec"]] == list(
            world.panel.channels
        )
    assert len({dataset.digest for dataset in read.values()}) == 3


def test_a_registered_version_and_its_logged_model_lead_to_each_other(published: Published) -> None:
    store, version = client(published.lifecycle), published.artifact.version
    run = store.get_run(published.trained.run_id)
    (output,) = run.outputs.model_outputs
    model = store.get_logged_model(output.model_id)
    assert (model.source_run_id, str(model.status)) == (run.info.run_id, "READY")
    registered = store.get_model_version(published.lifecycle.registry.name, str(version))
    assert registered.source == model.artifact_location
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": registered.name, "version": version}]
    accuracy = next(metric for metric in model.metrics if metric.key == "held_out_accuracy")
    assert accuracy.value == run.data.metrics["held_out_accuracy"]
    assert accuracy.dataset_name == "prices-held_out"
    fetched = published.lifecycle.registry.download(version, published.lifecycle.folder / "fetched")
    assert f"model_id: {model.model_id}" in (fetched / "MLmodel").read_text()
    assert (fetched / "training").is_dir()


def test_the_card_is_written_for_people_too_and_tracked_with_its_pictures(published: Published) -> None:
    text = (published.artifact.folder / "model-card.md").read_text()
    assert "## Limits" in text
    assert str(published.artifact.card["data_cutoff"]) in text
    drawn = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert len(drawn) == 3
    assert all((published.artifact.folder / name).read_bytes().startswith(b"\x89PNG") for name in drawn)
    store, run_id = client(published.lifecycle), published.trained.run_id
    assert {file.path for file in store.list_artifacts(run_id)} >= {"model-card.md", "model-card.json", "plots"}
    assert {file.path for file in store.list_artifacts(run_id, "plots")} == set(drawn)
    run = store.get_run(run_id)
    assert run.data.tags["mlflow.note.content"].startswith("**tiny**, trained on sessions up to")
    assert max(len(value) for value in [*run.data.params.values(), *run.data.tags.values()]) < 500, "readable as it is"
    assert published.artifact.text.count("data:image/png;base64,") == 3, "for pages that cannot reach the files"


def test_a_card_of_an_earlier_release_is_shown_without_what_it_lacks(published: Published, tmp_path: Path) -> None:
    old = {name: value for name, value in published.artifact.card.items() if name != "price_source"}
    text = replace(published.artifact, card=old, folder=tmp_path).text
    assert "source not recorded" in text
    assert "![" not in text


def test_a_training_is_nested_below_the_run_of_its_pipeline(
    lifecycle: ModelLifecycle, world: World, trainer: Trainer
) -> None:
    with lifecycle.tracker.run("pipeline") as pipeline:
        trained = world.develop(lifecycle, parent=pipeline.id)
    run = client(lifecycle).get_run(trained.run_id)
    assert run.data.tags["mlflow.parentRunId"] == pipeline.id
    assert run.data.tags["financial_assets.kind"] == "training"
    assert run.info.run_name == f"tiny to {world.cutoff:%Y-%m-%d}"


def test_the_same_question_is_trained_once(lifecycle: ModelLifecycle, world: World, trainer: Trainer) -> None:
    first, second = world.develop(lifecycle), world.develop(lifecycle)
    assert (trainer.calls, len(runs(lifecycle))) == (1, 1)
    assert (first.reused, second.reused) == (False, True)
    assert (first.fingerprint, first.run_id) == (second.fingerprint, second.run_id)
    assert same_weights(first.training, second.training)


def test_sessions_after_the_cutoff_are_another_day_of_the_same_model(
    lifecycle: ModelLifecycle, world: World, trainer: Trainer
) -> None:
    shorter = world.panel.until(world.cutoff + pd.Timedelta(days=30))
    assert len(shorter.sessions) < len(world.panel.sessions)
    first = world.develop(lifecycle, panel=shorter, features=compute_panel(shorter, world.graph))
    second = world.develop(lifecycle)
    assert (second.reused, second.fingerprint) == (True, first.fingerprint)
    assert trainer.calls == 1


def other_price(world: World) -> dict[str, Any]:
    values = world.panel.values.copy()
    values[0, 3, 400] *= np.float32(1.0001)
    return {"panel": replace(world.panel, values=values)}


@pytest.mark.parametrize(
    "change",
    [
        lambda world: {"seed": 8},
        lambda world: {"sequence_length": 6},
        lambda world: {"cutoff": world.panel.sessions[world.panel.position(world.cutoff) - 1]},
        lambda world: {"variant": replace(world.variant, learning_rate=2e-2)},
        other_price,
    ],
    ids=["seed", "sequence length", "cut-off", "hyperparameter", "one price"],
)
def test_any_other_question_is_trained_anew(
    lifecycle: ModelLifecycle, world: World, trainer: Trainer, change: Callable[[World], dict[str, Any]]
) -> None:
    first = world.develop(lifecycle)
    changes = change(world)
    lifecycle_changes = {name: changes.pop(name) for name in ("seed", "sequence_length") if name in changes}
    second = world.develop(replace(lifecycle, **lifecycle_changes), **changes)
    assert second.fingerprint != first.fingerprint
    assert not second.reused
    assert (trainer.calls, len(runs(lifecycle))) == (2, 2)


@pytest.mark.parametrize(
    ("error", "status"), [(TrainingError("too few sessions"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_training_that_breaks_off_is_a_run_that_says_so_and_leaves_nothing(
    lifecycle: ModelLifecycle, world: World, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    def fail(*_: Any, **__: Any) -> Training:
        raise error

    monkeypatch.setattr(lifecycle_module, "train", fail)
    with pytest.raises(type(error)):
        world.develop(lifecycle)
    assert [found for found, _ in runs(lifecycle)] == [status]
    with pytest.raises(TrainingError, match="was not trained: materialize models/tiny"):
        world.publish(lifecycle)


def test_a_death_before_the_training_is_saved_trains_again(
    lifecycle: ModelLifecycle, world: World, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(lifecycle_module, "save_training", die)
        with pytest.raises(KeyboardInterrupt):
            world.develop(lifecycle)
    assert not world.develop(lifecycle).reused
    assert trainer.calls == 2
    assert [status for status, _ in runs(lifecycle)] == ["FINISHED", "KILLED"]


def test_a_damaged_training_is_made_again(lifecycle: ModelLifecycle, world: World, trainer: Trainer) -> None:
    first = world.develop(lifecycle)
    tensors = lifecycle.folder / "tiny" / first.fingerprint / "training" / "tensors.pt"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    again = world.develop(lifecycle)
    assert not again.reused
    assert trainer.calls == 2
    assert same_weights(again.training, first.training)


def test_a_run_of_a_killed_process_ends_as_killed(lifecycle: ModelLifecycle, world: World, trainer: Trainer) -> None:
    gone = subprocess.Popen(["sleep", "60"])
    owner = {**owner_tags(), OWNER_PID: str(gone.pid), OWNER_STARTED: f"{psutil.Process(gone.pid).create_time():.2f}"}
    assert isinstance(lifecycle.tracker, MlflowTracker)
    experiment = experiment_of(client(lifecycle), lifecycle.tracker.experiment)
    left = client(lifecycle).create_run(experiment, tags=owner).info.run_id
    mine = client(lifecycle).create_run(experiment, tags=owner_tags()).info.run_id
    gone.kill()
    gone.wait()
    world.develop(lifecycle)
    assert client(lifecycle).get_run(left).info.status == "KILLED"
    assert client(lifecycle).get_run(mine).info.status == "RUNNING"


def test_two_that_train_the_same_at_once_train_it_once(
    lifecycle: ModelLifecycle, world: World, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, both_asked = lifecycle_module.train, threading.Barrier(2)

    def slow(*arguments: Any, **options: Any) -> Training:
        time.sleep(0.5)  # long enough for the other to find nothing, if it looked now
        return train(*arguments, **options)

    def develop(_: int) -> TrainedModel:
        both_asked.wait()
        return world.develop(lifecycle)

    monkeypatch.setattr(lifecycle_module, "train", slow)
    client(lifecycle)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(develop, range(2)))
    assert trainer.calls == 1
    assert sorted(trained.reused for trained in made) == [False, True]
    assert made[0].run_id == made[1].run_id


# --- publish ---------------------------------------------------------------------------------------------------------


def test_a_version_carries_lineage_signature_and_proof(published: Published, world: World) -> None:
    found = published.artifact
    assert (found.version, found.reused, found.variant) == (1, False, "tiny")
    (version,) = published.lifecycle.registry.versions()
    assert version.run_id == published.trained.run_id == found.run_id
    assert (
        version.tags.items()
        >= {
            **TAGS,
            "variant": "tiny",
            "data_cutoff": f"{world.cutoff:%Y-%m-%d}",
            "fingerprint": published.trained.fingerprint,
            "onnx_sha256": file_sha256(found.onnx_path),
        }.items()
    )
    assert found.data_cutoff == world.cutoff
    assert found.card["parity"]["panel_window"] == 0.0  # type: ignore[index]
    model = (found.folder / "model" / "MLmodel").read_text()
    assert "signature" in model
    assert "bars" in model
    assert client(published.lifecycle).get_run(version.run_id).info.status == "FINISHED"


def test_publishing_again_is_the_same_version(published: Published, world: World) -> None:
    again = world.publish(published.lifecycle)
    assert (again.version, again.reused) == (1, True)
    assert file_sha256(again.onnx_path) == file_sha256(published.artifact.onnx_path)
    assert published.lifecycle.current_artifact("tiny") == again
    assert len(published.lifecycle.registry.versions()) == len(runs(published.lifecycle)) == 1


def test_what_this_machine_lost_comes_back_from_the_registry(
    published: Published, world: World, tmp_path: Path, trainer: Trainer
) -> None:
    fresh = published.elsewhere(tmp_path / "another disk")
    developed = world.develop(fresh)
    assert developed.reused
    assert developed.run_id == published.trained.run_id
    assert trainer.calls == 0
    assert same_weights(developed.training, published.trained.training)
    restored = world.publish(fresh)
    assert (restored.version, restored.reused) == (1, True)
    assert restored.card == published.artifact.card
    assert file_sha256(restored.onnx_path) == file_sha256(published.artifact.onnx_path)
    assert restored.onnx_path != published.artifact.onnx_path
    assert len(runs(published.lifecycle)) == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("harm", [truncate, Path.unlink], ids=["damaged", "deleted"])
@pytest.mark.parametrize("name", ["model.onnx", "model-card.json"])
def test_a_file_that_is_damaged_or_gone_is_restored(
    published: Published, world: World, tmp_path: Path, harm: Callable[[Path], None], name: str
) -> None:
    there = published.elsewhere(tmp_path / "models")
    shutil.copytree(published.lifecycle.folder, there.folder)
    path = there.folder / "tiny" / published.trained.fingerprint / "artifact" / name
    sound = path.read_bytes()
    harm(path)
    assert there.current_artifact("tiny").card == published.artifact.card
    assert path.read_bytes() == sound


def test_a_registry_that_gives_another_file_is_not_believed(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = published.elsewhere(tmp_path / "models")
    shutil.copytree(published.lifecycle.folder, there.folder)
    folder = there.folder / "tiny" / published.trained.fingerprint / "artifact"
    truncate(folder / "model.onnx")
    download = ModelRegistry.download

    def tampered(registry: ModelRegistry, version: int, target: Path) -> Path:
        fetched = download(registry, version, target)
        truncate(fetched / "model.onnx")
        return fetched

    monkeypatch.setattr(ModelRegistry, "download", tampered)
    with pytest.raises(ExportError, match="version 1"):
        there.current_artifact("tiny")


def planted(training: Training, monkeypatch: pytest.MonkeyPatch, **answers: np.ndarray) -> None:
    """Trainings whose answers on the held-out block are others."""
    trainer = Trainer(replace(training, held_out=replace(training.held_out, **answers)))
    monkeypatch.setattr(lifecycle_module, "train", trainer)


def refused(lifecycle: ModelLifecycle, world: World, error: type[FinancialAssetsError], match: str) -> None:
    """Publishing fails as ``error``, registers nothing, and the run says why."""
    world.develop(lifecycle)
    assert runs(lifecycle) == [("FINISHED", "")]
    with pytest.raises(error, match=match):
        world.publish(lifecycle)
    assert lifecycle.registry.versions() == ()
    ((status, reason),) = runs(lifecycle)
    assert status == "FAILED"
    assert error.__name__ in reason
    with pytest.raises(TrainingError, match="trained but not registered: materialize onnx/tiny"):
        lifecycle.current_artifact("tiny")


def test_a_clairvoyant_is_not_registered(
    lifecycle: ModelLifecycle, world: World, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(training, monkeypatch, logit=np.where(training.held_out.up, 2.0, -2.0))
    refused(lifecycle, world, LeakAlarmError, "leak alarm")


def test_a_network_that_always_says_the_same_is_not_registered(
    lifecycle: ModelLifecycle, world: World, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(training, monkeypatch, logit=np.full_like(training.held_out.logit, 0.3))
    refused(lifecycle, world, TrainingError, "predicts the same")


def test_a_file_that_answers_otherwise_is_not_registered_and_a_right_one_is(
    lifecycle: ModelLifecycle, world: World, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(predictor: Any, path: Path, **options: Any) -> str:
        export_onnx(predictor, path, **options)
        model = onnx.load(path)
        for constant in model.graph.initializer:
            values = numpy_helper.to_array(constant)
            if values.dtype == np.float32 and values.ndim == 2:
                constant.CopyFrom(numpy_helper.from_array((values * np.float32(1.01)), constant.name))
        onnx.save(model, path)
        return file_sha256(path)

    with monkeypatch.context() as patched:
        patched.setattr(artifact, "export_onnx", careless)
        refused(lifecycle, world, ParityError, "differs from torch")
    assert world.publish(lifecycle).version == 1
    assert runs(lifecycle) == [("FINISHED", "")]


def test_asking_for_what_was_never_trained_names_the_asset(lifecycle: ModelLifecycle, world: World) -> None:
    for ask in (lambda: world.publish(lifecycle), lambda: lifecycle.current_artifact("tiny")):
        with pytest.raises(TrainingError, match="materialize models/tiny"):
            ask()


# --- another store, or one that has lost something -------------------------------------------------------------------


@pytest.fixture
def again(published: Published, empty_store: Path, tmp_path: Path, trainer: Trainer) -> ModelLifecycle:
    """The same folder of models with a copy of its store, which a test may harm."""
    folder = tmp_path / "again"
    shutil.copytree(published.lifecycle.folder, folder / "models")
    return make_lifecycle(folder, empty_store, published.lifecycle.sequence_length)


def test_an_empty_store_gets_the_versions_under_their_numbers_without_a_training(
    again: ModelLifecycle, world: World, trainer: Trainer, published: Published
) -> None:
    record = again.folder / "tiny" / published.trained.fingerprint / "registered.json"
    document = json.loads(record.read_text())
    assert document["version"] == 1
    document["version"] = 4  # as if three others, lost here too, had come before
    record.write_text(json.dumps(document))
    found = world.publish(again)
    assert (found.version, found.reused, trainer.calls) == (4, True, 0)
    assert "registered again: 4" in found.note
    assert file_sha256(found.onnx_path) == file_sha256(published.artifact.onnx_path)
    (version,) = again.registry.versions()
    assert version.tags.items() >= {**TAGS, "variant": "tiny"}.items()
    elsewhere = replace(again, folder=again.folder / "elsewhere")
    assert world.develop(elsewhere).reused
    assert world.publish(again).note == ""


@pytest.mark.parametrize("kept", [True, False], ids=["numbered", "state of an earlier release"])
def test_a_run_and_its_version_that_are_deleted_are_made_again(
    again: ModelLifecycle, world: World, trainer: Trainer, published: Published, kept: bool
) -> None:
    world.publish(again)
    first = again.registry.versions()[0]
    client(again).delete_model_version(first.name, "1")
    client(again).delete_run(first.run_id)
    if not kept:
        (again.folder / "tiny" / published.trained.fingerprint / "registered.json").unlink()
    shutil.rmtree(again.folder / "tiny" / published.trained.fingerprint / "artifact" / "model")
    found = world.publish(again)
    assert (found.version, found.reused, trainer.calls) == (2, False, 0)
    assert "is not in the tracking store; published from run" in found.note
    assert client(again).get_run(found.run_id).data.metrics["held_out_accuracy"] > 0
    developed = world.develop(again)
    assert (developed.run_id, developed.reused) == (found.run_id, True)


def test_files_that_the_registry_lost_are_uploaded_again_also_for_a_deleted_run(
    again: ModelLifecycle, world: World, published: Published
) -> None:
    world.publish(again)
    (version,) = again.registry.versions()
    store = Path(version.source.removeprefix("file://"))
    client(again).delete_run(version.run_id)
    local = again.folder / "tiny" / published.trained.fingerprint / "artifact"
    for harm in (lambda: shutil.rmtree(store), lambda: truncate(store / "model.onnx")):
        harm()
        found = world.publish(again)
        assert (found.version, "uploaded again" in found.note) == (1, True)
        assert file_sha256(store / "model.onnx") == version.tags["onnx_sha256"]
    # Lost here as well: the training gives the same file again.
    shutil.rmtree(store)
    shutil.rmtree(local)
    found = world.publish(again)
    assert (found.version, file_sha256(found.onnx_path)) == (1, version.tags["onnx_sha256"])


@pytest.mark.parametrize("content", ["", '{"fingerprint": "x', "[]", '{"fingerprint": 7, "run_id": 8}'])
def test_a_damaged_pointer_names_the_asset_that_writes_it_again(
    again: ModelLifecycle, world: World, trainer: Trainer, content: str
) -> None:
    (again.folder / "tiny" / "current.json").write_text(content)
    with pytest.raises(TrainingError, match=r"current\.json is damaged.*materialize models/tiny"):
        world.publish(again)
    assert world.develop(again).reused
    assert trainer.calls == 0
    assert world.publish(again).version == 1


def test_an_ensemble_takes_its_members_trainings_and_trains_those_that_are_missing(
    lifecycle: ModelLifecycle, world: World
) -> None:
    other = replace(world.variant, name="other", hidden=4)
    both = Variant("both", network="ensemble", members=(world.variant, other))
    first = world.develop(lifecycle)
    trained = world.develop(lifecycle, variant=both)
    assert [name for name, _ in trained.training.network.get_submodule("members").named_children()] == ["tiny", "other"]
    assert trained.training.variant == both
    # The first member was there; nobody but the ensemble takes note of the second.
    assert world.develop(lifecycle).reused
    assert not (lifecycle.folder / "other" / "current.json").exists()
    assert (lifecycle.folder / "other").is_dir()
    assert world.develop(lifecycle, variant=both).reused
    assert world.develop(lifecycle, variant=other).reused
    member = trained.training.network.get_submodule("members.tiny").state_dict()
    assert all(torch.equal(value, member[name]) for name, value in first.training.network.state_dict().items())
