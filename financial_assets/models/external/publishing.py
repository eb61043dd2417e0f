"""An examined external model in the registry, with a card of the same form as that of a trained one."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.atomic import atomic_write_bytes
from financial_assets.errors import ExternalModelError
from financial_assets.locking import exclusive
from financial_assets.market.panel import PricePanel
from financial_assets.models.artifacts.artifact import (
    ARTIFACT_FOLDER,
    CARD_FILE,
    MODEL_FOLDER,
    ONNX_FILE,
    Artifact,
    restore_artifact,
)
from financial_assets.models.artifacts.card import write_model_card
from financial_assets.models.artifacts.mlflow_model import save_mlflow_model
from financial_assets.models.artifacts.registration import kept_versions, remember
from financial_assets.models.external.card import ExternalCard, ExternalModel, read_card
from financial_assets.models.external.examination import Examination, Finding, examine
from financial_assets.models.onnx.export import INPUT_NAME, OUTPUT_WIDTHS, file_sha256
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.tracking import MlflowTracker, ModelRegistry

_LONGEST_S = 900.0


@dataclass(frozen=True)
class Admission:
    """What became of an external model.

    Attributes
    ----------
    artifact
        The registered version; ``None`` if it was refused.
    examination
        What was asked of it.
    """

    artifact: Artifact | None
    examination: Examination

    @property
    def reason(self) -> str:
        """Why it was refused; empty if it was not."""
        return self.examination.reason


def examine_model(model: ExternalModel, panel: PricePanel) -> tuple[ExternalCard | None, Examination]:
    """The card of an external model, and what its examination on ``panel`` says; nothing is registered.

    Without a card that can be read there is nothing else to examine.
    """
    try:
        card = read_card(model)
    except ExternalModelError as error:
        return None, Examination((Finding("card", passed=False, said=str(error)),))
    return card, examine(model.path, card, panel)


def admit(
    model: ExternalModel,
    panel: PricePanel,
    folder: Path,
    tracker: MlflowTracker,
    registry: ModelRegistry,
    *,
    tags: Mapping[str, str],
) -> Admission:
    """Examine an external model and register it if it may be an arm.

    The same file with the same card is registered once: examined again, because there are more sessions to judge it
    by, it keeps its version.

    Parameters
    ----------
    model
        From ``find_external``.
    panel
        Real bars up to the market clock, nothing later.
    folder
        State of all models: ``<name>/<fingerprint>/artifact`` below it holds the files.
    tracker, registry
        Where the run and the version are recorded.
    tags
        Of both.

    A card that is missing or says too little is a refusal, too: nothing of one model stops the others.
    """
    card, examination = examine_model(model, panel)
    if card is None or not examination.passed:
        return Admission(None, examination)
    identity = _identity(model, card)
    place = folder / model.name / identity
    with exclusive(
        folder / model.name / f"{identity}.lock",
        _LONGEST_S,
        error=ExternalModelError,
        purpose=f"registering {model.name}",
        remedy="`fuser` names its process: wait for it, or end it",
    ):
        version = registry.find(identity)
        reused = version is not None
        if version is None:
            _write(model, card, examination, identity, panel, place / ARTIFACT_FOLDER)
            about = {**tags, **_tags(card, identity, place / ARTIFACT_FOLDER / ONNX_FILE)}
            with tracker.run(model.name, tags=about, params=card.model_dump(mode="json")) as run:
                run.log_artifacts(place / ARTIFACT_FOLDER / MODEL_FOLDER, MODEL_FOLDER)
                version = registry.register(
                    run.id,
                    MODEL_FOLDER,
                    about,
                    description=f"{model.name}, made elsewhere, from sessions up to {card.data_cutoff}",
                    above=max((kept.number for kept in kept_versions(folder)), default=0),
                )
        artifact = restore_artifact(registry, version, place / ARTIFACT_FOLDER)
        remember(place, version)
    return Admission(replace(artifact, reused=reused), examination)


def _identity(model: ExternalModel, card: ExternalCard) -> str:
    """Fingerprint of file and card: the same pair is the same model."""
    digest = hashlib.sha256(file_sha256(model.path).encode())
    digest.update(card.model_dump_json().encode())
    return digest.hexdigest()


def _tags(card: ExternalCard, identity: str, onnx_path: Path) -> dict[str, str]:
    return {
        "variant": card.name,
        "data_cutoff": f"{card.data_cutoff:%Y-%m-%d}",
        "fingerprint": identity,
        "onnx_sha256": file_sha256(onnx_path),
        "origin": "external",
        "licence": card.licence,
    }


def _write(
    model: ExternalModel,
    card: ExternalCard,
    examination: Examination,
    identity: str,
    panel: PricePanel,
    folder: Path,
) -> None:
    """The file, its card and both as an MLflow model folder; a half-written one of a killed process is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    atomic_write_bytes(folder / ONNX_FILE, model.path.read_bytes())
    write_model_card(_model_card(card, examination, identity, folder / ONNX_FILE, panel), folder / CARD_FILE)
    _, windows = panel.windows(_last_asked(panel), SERVED_LOOKBACK)
    about = {"variant": card.name, "fingerprint": identity, "data_cutoff": f"{card.data_cutoff:%Y-%m-%d}"}
    save_mlflow_model(folder / ONNX_FILE, folder / MODEL_FOLDER, example=windows[0], metadata=about)
    shutil.copyfile(folder / CARD_FILE, folder / MODEL_FOLDER / CARD_FILE)


def _last_asked(panel: PricePanel) -> pd.Timestamp:
    """The last session with a whole window; an examination has found one."""
    has_window = np.any(panel.valid & (panel.listed_bars() >= SERVED_LOOKBACK), axis=0)
    return panel.sessions[int(np.flatnonzero(has_window)[-1])]


def _model_card(
    card: ExternalCard, examination: Examination, identity: str, onnx_path: Path, panel: PricePanel
) -> dict[str, Any]:
    """As a trained model's, as far as it is known."""
    return {
        "model": "financial-direction-predictor",
        "variant": card.name,
        "origin": "external",
        "fingerprint": identity,
        "data_cutoff": f"{card.data_cutoff:%Y-%m-%d}",
        "licence": card.licence,
        "description": card.description,
        "source": card.source,
        "interface": {
            "input": {INPUT_NAME: ["batch", SERVED_LOOKBACK, len(panel.channels)]},
            **({"channels": list(panel.channels)} if panel.covariates else {}),
            "outputs": {name: ["batch", width] for name, width in OUTPUT_WIDTHS.items()},
        },
        "examination": [vars(finding) for finding in examination.findings],
        "onnx_sha256": file_sha256(onnx_path),
        "limits": [
            "How it was trained is known from its makers only; its evidence counts after their data cut-off.",
            "Nothing shows beforehand that a graph was trained on later sessions than its card says.",
        ],
    }
