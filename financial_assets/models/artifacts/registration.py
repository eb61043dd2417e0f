"""Versions in the registry and what this machine remembers of them, so that a lost registry gets them back."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from financial_assets.atomic import atomic_write_bytes, atomic_write_text
from financial_assets.errors import ExportError
from financial_assets.models.artifacts.artifact import (
    ARTIFACT_FOLDER,
    CARD_FILE,
    CARD_TEXT,
    MODEL_FOLDER,
    ONNX_FILE,
    PLOTS_FOLDER,
    TRAINING_FOLDER,
    is_whole,
)
from financial_assets.models.artifacts.card_text import card_summary
from financial_assets.models.artifacts.storage import is_finished
from financial_assets.models.artifacts.tracked import held_out_metrics, shown_settings
from financial_assets.models.onnx.export import file_sha256
from financial_assets.models.training import Training
from financial_assets.tracking import KIND_TAG, MlflowRun, MlflowTracker, ModelRegistry, ModelVersion, TrackedDataset
from financial_assets.tracking.runs import NOTE_TAG

RECORD_FILE = "registered.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptVersion:
    """A version as this machine remembers it.

    Attributes
    ----------
    number
        Of the version.
    folder
        ``<variant>/<fingerprint>``: its artefact, its training, and this record.
    tags, description
        Of the version.
    """

    number: int
    folder: Path
    tags: Mapping[str, str]
    description: str


def remember(folder: Path, version: ModelVersion) -> None:
    """Keep in ``folder`` (``<variant>/<fingerprint>``) under which number and tags its artefact is registered."""
    document = {"version": version.version, "tags": dict(version.tags), "description": version.description}
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    path = folder / RECORD_FILE
    if not path.is_file() or path.read_bytes() != text.encode():
        atomic_write_text(path, text)


def kept_versions(models: Path) -> list[KeptVersion]:
    """Every version that this machine remembers, by number; a damaged record is logged and left out."""
    kept: list[KeptVersion] = []
    for path in models.glob(f"*/*/{RECORD_FILE}"):
        try:
            document: dict[str, Any] = json.loads(path.read_text())
            tags = {str(name): str(value) for name, value in document["tags"].items()}
            kept.append(KeptVersion(int(document["version"]), path.parent, tags, str(document["description"])))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s is damaged (%r): its version is left out", path, error)
    return sorted(kept, key=lambda version: version.number)


def register(
    run: MlflowRun,
    registry: ModelRegistry,
    models: Path,
    training: Training,
    identity: str,
    tags: Mapping[str, str],
    datasets: Sequence[TrackedDataset] = (),
) -> ModelVersion:
    """Upload an exported training as a logged model of its run and register it as a new version.

    Parameters
    ----------
    run
        The tracked run that trained it.
    registry
        Where it is registered.
    models
        State of all models: ``<variant>/<fingerprint>`` below it holds the artefact and the training.
    training, identity
        What is registered, and its fingerprint.
    tags
        Of the version, beside those that describe the model.
    datasets
        What the training has read; the scores of the model are those on the held-out one.
    """
    variant, cutoff = training.variant.name, f"{training.cutoff:%Y-%m-%d}"
    folder = models / variant / identity
    onnx_sha256 = file_sha256(folder / ARTIFACT_FOLDER / ONNX_FILE)
    about = {"variant": variant, "data_cutoff": cutoff, "fingerprint": identity, "onnx_sha256": onnx_sha256}
    card = json.loads((folder / ARTIFACT_FOLDER / CARD_FILE).read_text())
    model_id = run.log_model(
        folder / ARTIFACT_FOLDER / MODEL_FOLDER,
        f"{variant}-predictor",
        parts={TRAINING_FOLDER: folder / TRAINING_FOLDER},
        tags={**tags, **about, NOTE_TAG: card_summary(card)},
        params={**shown_settings(training.variant.hyperparameters()), "seed": training.seed, "data_cutoff": cutoff},
        metrics=held_out_metrics(training),
        dataset=next((dataset for dataset in datasets if dataset.context == "held_out"), None),
    )
    run.log_artifact(folder / ARTIFACT_FOLDER / CARD_FILE)
    run.log_artifact(folder / ARTIFACT_FOLDER / CARD_TEXT)
    run.log_artifacts(folder / ARTIFACT_FOLDER / PLOTS_FOLDER, PLOTS_FOLDER)
    run.set_tags({NOTE_TAG: card_summary(card)})
    return registry.register(
        run.id,
        MODEL_FOLDER,
        {**tags, **about},
        description=card_summary(card),
        model_id=model_id,
        # Served models and evidence name versions by number, so a number that the registry forgot stays taken.
        above=max((kept.number for kept in kept_versions(models)), default=0),
    )


def register_again(models: Path, tracker: MlflowTracker, registry: ModelRegistry) -> tuple[int, ...]:
    """Register the kept versions that are newer than every version of the registry, under their own numbers.

    That is nothing, unless the registry is another one or was emptied. Served models, weight epochs and evidence name
    these numbers. A version whose files are lost here too leaves a gap.

    Returns
    -------
    tuple
        The numbers.
    """
    newest = max((version.version for version in registry.versions()), default=0)
    kept = kept_versions(models)
    numbers: list[int] = []
    for lost in (version for version in kept if version.number > newest):
        model, training = lost.folder / ARTIFACT_FOLDER / MODEL_FOLDER, lost.folder / TRAINING_FOLDER
        if not is_whole(model, lost.tags.get("onnx_sha256", "")) or not (model / "MLmodel").is_file():
            _log.warning("version %d is not registered again: %s is not whole", lost.number, model)
            continue
        variant = lost.tags.get("variant", lost.folder.parent.name)
        with tracker.run(f"{variant}, registered again", tags={KIND_TAG: "registration", **lost.tags}) as run:
            model_id = run.log_model(
                model,
                f"{variant}-predictor",
                parts={TRAINING_FOLDER: training} if is_finished(training) else {},
                tags=lost.tags,
                params={},
                metrics={},
            )
        version = registry.register(
            run.id,
            MODEL_FOLDER,
            lost.tags,
            lost.description,
            model_id=model_id,
            number=lost.number,
            above=kept[-1].number,
        )
        remember(lost.folder, version)
        numbers.append(version.version)
    return tuple(numbers)


def heal_copy(registry: ModelRegistry, version: ModelVersion, folder: Path, export: Callable[[Path], None]) -> bool:
    """Upload the files of a registered version again if the registry does not have them any more.

    Parameters
    ----------
    registry, version
        What is registered.
    folder
        ``<variant>/<fingerprint>``.
    export
        Writes the artefact of the training in ``folder`` into the folder that it is given.

    Returns
    -------
    bool
        Whether anything was uploaded.

    Raises
    ------
    ExportError
        They are lost here too, and the training does not give the same file any more.
    TrackingError
        The registry does not take them.
    """
    sha256 = version.tags["onnx_sha256"]
    if registry.holds(version.version, lambda copy: is_whole(copy, sha256), (ONNX_FILE, CARD_FILE)):
        return False
    artifact = folder / ARTIFACT_FOLDER
    if not (is_whole(artifact / MODEL_FOLDER, sha256) and (artifact / MODEL_FOLDER / "MLmodel").is_file()):
        _export_again(version, artifact, export)
    if is_finished(folder / TRAINING_FOLDER):
        shutil.copytree(folder / TRAINING_FOLDER, artifact / MODEL_FOLDER / TRAINING_FOLDER, dirs_exist_ok=True)
    registry.upload(version.version, artifact / MODEL_FOLDER)
    return True


def _export_again(version: ModelVersion, artifact: Path, export: Callable[[Path], None]) -> None:
    """Write the artefact anew; the same training and the same code give the same file."""
    staging = artifact.with_name(f".{artifact.name}.again")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        export(staging)
        if not is_whole(staging, version.tags["onnx_sha256"]):
            raise ExportError(
                f"version {version.version} is lost: neither the registry nor {artifact} has its file, and exporting "
                "its training gives another file now; run the `retrain` job to have a new version"
            )
        shutil.rmtree(artifact / MODEL_FOLDER, ignore_errors=True)
        artifact.mkdir(parents=True, exist_ok=True)
        (staging / MODEL_FOLDER).replace(artifact / MODEL_FOLDER)
        for name in (ONNX_FILE, CARD_FILE, CARD_TEXT):
            atomic_write_bytes(artifact / name, (staging / name).read_bytes())
        shutil.copytree(staging / PLOTS_FOLDER, artifact / PLOTS_FOLDER, dirs_exist_ok=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
