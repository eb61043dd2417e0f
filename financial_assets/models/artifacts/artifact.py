"""The artefact of a model version: exported, proven equal, described by its card, kept as files that never change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pandas as pd

from financial_assets.atomic import atomic_write_bytes
from financial_assets.errors import ExportError, LeakAlarmError, TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.artifacts.card import model_card, write_model_card
from financial_assets.models.artifacts.fingerprint import code_version, training_data_hash
from financial_assets.models.artifacts.mlflow_model import save_mlflow_model
from financial_assets.models.artifacts.storage import is_finished
from financial_assets.models.onnx.export import export_onnx, file_sha256
from financial_assets.models.onnx.parity import prove_parity
from financial_assets.models.predictor import SERVED_LOOKBACK, build_predictor
from financial_assets.models.scores import check_answers, check_not_constant
from financial_assets.models.training import Training
from financial_assets.tracking import ModelRegistry, ModelVersion

ONNX_FILE = "model.onnx"
CARD_FILE = "model-card.json"
ARTIFACT_FOLDER = "artifact"
"""Of ``<variant>/<fingerprint>/artifact``: what is exported and published of a training."""
TRAINING_FOLDER = "training"
"""Of ``<variant>/<fingerprint>/training``, and of the copy in the tracked run of the model."""
MODEL_FOLDER = "model"
"""Folder of an MLflow model, below the artefact's folder and in its tracked run."""


@dataclass(frozen=True)
class Artifact:
    """A registered model version and its files.

    Attributes
    ----------
    variant, version
        Which model version this is.
    folder
        Holds ``model.onnx`` and ``model-card.json``; its path names the fingerprint, so it is never overwritten.
    card
        The model card.
    run_id
        The tracked run that made it.
    reused
        The version was registered before.
    note
        What had to be repaired first; empty if nothing.
    """

    variant: str
    version: int
    folder: Path
    card: Mapping[str, object]
    run_id: str
    reused: bool
    note: str = ""

    @property
    def data_cutoff(self) -> pd.Timestamp:
        """Last session that the model has learned from."""
        return pd.Timestamp(str(self.card["data_cutoff"]))

    def require_channels(self, panel: PricePanel) -> None:
        """Make sure that the model reads the channels of ``panel``, in their order.

        Raises
        ------
        ExportError
            It was trained with other covariates.
        """
        # Cards of models without covariates name no channels.
        interface = cast("Mapping[str, list[str]]", self.card.get("interface", {}))
        channels = tuple(interface.get("channels", CHANNELS))
        if channels != panel.channels:
            trained, given = (", ".join(names[len(CHANNELS) :]) or "none" for names in (channels, panel.channels))
            raise ExportError(
                f"version {self.version} of {self.variant} was trained with other covariates ({trained}) than "
                f"COVARIATES, COVARIATE_FILES and SECTOR_INDEX give ({given}): set these back, or use another "
                "FINANCIAL_ASSETS_HOME"
            )

    @property
    def onnx_path(self) -> Path:
        """The one file that is served."""
        return self.folder / ONNX_FILE


def check_integrity(training: Training, *, bayes_accuracy: float | None = None) -> None:
    """What a model must show before it may be registered.

    Raises
    ------
    TrainingError
        A head predicts (nearly) the same for every input.
    LeakAlarmError
        A head is too good to be true.
    """
    constant = check_not_constant(training.held_out)
    if constant.constant:
        raise TrainingError(
            f"variant {training.variant.name!r} predicts the same for every input "
            f"({', '.join(constant.constant_heads)}; deviation of the probability {constant.probability_deviation:.2g})"
        )
    leak = check_answers(training.held_out, bayes_accuracy=bayes_accuracy)
    if leak.alarm:
        raise LeakAlarmError(f"variant {training.variant.name!r}: {leak}")


def export_artifact(
    training: Training,
    identity: str,
    graph: FeatureGraph,
    features: FeaturePanel,
    panel: PricePanel,
    folder: Path,
    *,
    bayes_accuracy: float | None = None,
) -> None:
    """Write ``model.onnx``, its proof in ``model-card.json``, and both as an MLflow model folder.

    Parameters
    ----------
    training, identity
        What to export, and its fingerprint.
    graph
        The feature graph that it was trained with.
    features, panel
        Real bars for the proof.
    folder
        Where to write.
    bayes_accuracy
        Of a simulated market, see ``leak_alarm``.

    Raises
    ------
    ParityError, ExportError
        The file is not equal to the model.
    """
    predictor = build_predictor(training, graph)
    about = {
        "variant": training.variant.name,
        "fingerprint": identity,
        "data_cutoff": f"{training.cutoff:%Y-%m-%d}",
        "lookback": str(SERVED_LOOKBACK),
    }
    path = folder / ONNX_FILE
    digest = export_onnx(predictor, path, metadata=about)
    parity = prove_parity(predictor, path, features, panel)
    card = model_card(
        training,
        predictor,
        parity,
        fingerprint=identity,
        data_hash=training_data_hash(panel, training.cutoff),
        code_version=code_version(),
        onnx_sha256=digest,
        bayes_accuracy=bayes_accuracy,
    )
    write_model_card(card, folder / CARD_FILE)
    _, windows = panel.windows(panel.sessions[-1], SERVED_LOOKBACK)
    shutil.rmtree(folder / MODEL_FOLDER, ignore_errors=True)
    save_mlflow_model(path, folder / MODEL_FOLDER, example=windows[0], metadata=about)
    shutil.copyfile(folder / CARD_FILE, folder / MODEL_FOLDER / CARD_FILE)


def restore_artifact(registry: ModelRegistry, version: ModelVersion, folder: Path) -> Artifact:
    """The artefact of a registered version, fetched from the registry when it is not in ``folder`` or is damaged there.

    Raises
    ------
    ExportError
        The registry's file is not the one that was registered.
    """
    wanted = version.tags["onnx_sha256"]
    if not is_whole(folder, wanted):
        fetched = registry.download(version.version, folder / MODEL_FOLDER)
        if not is_whole(fetched, wanted):
            raise ExportError(f"{fetched} does not hold the files that were registered as version {version.version}")
        for name in (CARD_FILE, ONNX_FILE):
            atomic_write_bytes(folder / name, (fetched / name).read_bytes())
    card = json.loads((folder / CARD_FILE).read_text())
    return Artifact(version.tags["variant"], version.version, folder, card, version.run_id, reused=True)


def restore_by_digest(registry: ModelRegistry, sha256: str, folder: Path) -> Artifact:
    """The artefact whose ONNX file has this SHA-256, put back into ``folder`` from the registry.

    Raises
    ------
    ExportError
        No registered version has it, or its file in the registry is damaged too.
    TrackingError
        The registry cannot be asked.
    """
    matching = [version for version in registry.versions() if version.tags.get("onnx_sha256") == sha256]
    if not matching:
        raise ExportError(f"no registered version has a file with the SHA-256 {sha256[:12]}")
    return restore_artifact(registry, matching[0], folder)


def restore_training(registry: ModelRegistry, version: int, folder: Path) -> None:
    """Put the training of a registered version back into ``folder``, unless a whole one is there.

    Raises
    ------
    TrainingError
        The registry has the version without its training.
    """
    if is_finished(folder):
        return
    fetched = registry.download(version, folder.parent / ARTIFACT_FOLDER / MODEL_FOLDER)
    if not (fetched / TRAINING_FOLDER).is_dir():
        raise TrainingError(f"version {version} was registered without the files of its training")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(fetched / TRAINING_FOLDER, folder)


def is_whole(folder: Path, onnx_sha256: str) -> bool:
    """Whether ``folder`` holds the file with this hash and its card."""
    try:
        card = json.loads((folder / CARD_FILE).read_text())
        return card["onnx_sha256"] == onnx_sha256 == file_sha256(folder / ONNX_FILE)
    except (OSError, ValueError, KeyError, TypeError):
        return False
