"""A model's way from panel to registry: trained once, exported, proven equal, registered; a step that stands is reused.

State lies below one folder: ``<variant>/<fingerprint>/training`` and ``.../artifact``, and ``<variant>/current.json``,
which names the fingerprint and the tracked run that the next step takes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.locking import exclusive
from financial_assets.market.panel import PricePanel
from financial_assets.models.artifact import (
    MODEL_FOLDER,
    Artifact,
    check_integrity,
    export_artifact,
    restore_artifact,
)
from financial_assets.models.export import file_sha256
from financial_assets.models.fingerprint import fingerprint, training_data_hash
from financial_assets.models.scores import held_out_scores
from financial_assets.models.storage import is_finished, load_training, save_training
from financial_assets.models.training import Training, train
from financial_assets.models.variants import Variant
from financial_assets.tracking import ModelRegistry, Run, Tracker

__all__ = ["Development", "ModelWorkshop"]

_TRAINING_FOLDER = "training"
_LONGEST_TRAINING_S = 3600.0


@dataclass(frozen=True)
class Development:
    """A trained variant.

    Attributes
    ----------
    fingerprint
        Identity of the training.
    run_id
        The tracked run that trained it.
    training
        The training itself.
    reused
        Nothing was trained: the fingerprint was known.
    """

    fingerprint: str
    run_id: str
    training: Training
    reused: bool


@dataclass(frozen=True)
class ModelWorkshop:
    """Where models are trained, exported and registered.

    Parameters
    ----------
    folder
        State of all models.
    tracker, registry
        Where runs and versions are recorded.
    sequence_length, seed, device, progress
        Arguments of ``train``.
    bayes_accuracy
        What the best possible predictor of a simulated market gets right: the leak alarm's bound there.
    """

    folder: Path
    tracker: Tracker
    registry: ModelRegistry
    sequence_length: int
    seed: int
    device: str = "auto"
    progress: bool = False
    bayes_accuracy: float | None = None

    def develop(
        self,
        variant: Variant,
        features: FeaturePanel,
        panel: PricePanel,
        *,
        cutoff: pd.Timestamp,
        tags: Mapping[str, str],
    ) -> Development:
        """Train ``variant`` on what is known at ``cutoff``, unless its fingerprint was trained already.

        Raises
        ------
        TrainingError
            It cannot be trained; the tracked run ends as FAILED.
        """
        identity = fingerprint(
            data_hash=training_data_hash(panel, cutoff),
            variant=variant,
            seed=self.seed,
            sequence_length=self.sequence_length,
            cutoff=cutoff,
        )
        folder = self.folder / variant.name / identity / _TRAINING_FOLDER
        # Another job may be training the same: what it has made by then is reused.
        with self._alone_with(variant.name, identity):
            known = self._known_run(variant.name, identity, folder)
            run_id = known or self._train(variant, features, panel, cutoff, identity, folder, tags)
            pointer = {"fingerprint": identity, "run_id": run_id}
            atomic_write_text(self._pointer_path(variant.name), json.dumps(pointer))
            return Development(identity, run_id, load_training(folder), reused=known is not None)

    def publish(
        self,
        variant: str,
        graph: FeatureGraph,
        features: FeaturePanel,
        panel: PricePanel,
        *,
        tags: Mapping[str, str],
    ) -> Artifact:
        """Export the variant's current training, prove that the file answers alike, and register it.

        Raises
        ------
        TrainingError
            The variant was not trained, or is constant.
        LeakAlarmError
            Its out-of-sample accuracy is too good to be true.
        ParityError, ExportError
            The file is not equal to the model.
        """
        identity, run_id = self._current(variant)
        with self._alone_with(variant, identity):
            return self._publish(variant, identity, run_id, graph, features, panel, tags)

    def _publish(
        self,
        variant: str,
        identity: str,
        run_id: str,
        graph: FeatureGraph,
        features: FeaturePanel,
        panel: PricePanel,
        tags: Mapping[str, str],
    ) -> Artifact:
        folder = self.folder / variant / identity
        known = self.registry.find(identity)
        if known is not None:
            return restore_artifact(self.registry, known, folder / "artifact")
        training = load_training(folder / _TRAINING_FOLDER)
        with self.tracker.resume(run_id) as run:
            run.set_tags(tags)
            check_integrity(training, bayes_accuracy=self.bayes_accuracy)
            export_artifact(
                training, identity, graph, features, panel, folder / "artifact", bayes_accuracy=self.bayes_accuracy
            )
            run.log_artifacts(folder / "artifact" / MODEL_FOLDER, MODEL_FOLDER)
            run.log_artifacts(folder / _TRAINING_FOLDER, f"{MODEL_FOLDER}/{_TRAINING_FOLDER}")
            version = self.registry.register(
                run_id,
                MODEL_FOLDER,
                {
                    **tags,
                    "variant": variant,
                    "data_cutoff": f"{training.cutoff:%Y-%m-%d}",
                    "fingerprint": identity,
                    "onnx_sha256": file_sha256(folder / "artifact" / "model.onnx"),
                },
                description=f"{variant}, trained on sessions up to {training.cutoff:%Y-%m-%d}",
            )
        return replace(restore_artifact(self.registry, version, folder / "artifact"), reused=False)

    def current_artifact(self, variant: str) -> Artifact:
        """The registered version of the variant's current training.

        Raises
        ------
        TrainingError
            It was not trained, or not registered.
        """
        identity, _ = self._current(variant)
        known = self.registry.find(identity)
        if known is None:
            raise TrainingError(f"variant {variant!r} is trained but not registered: materialize onnx/{variant}")
        return restore_artifact(self.registry, known, self.folder / variant / identity / "artifact")

    def artifact_of(self, version: int) -> Artifact:
        """A registered version, fetched from the registry if its folder is gone or damaged.

        Raises
        ------
        TrackingError
            There is no such version.
        ExportError
            The registry's file is not the one that was registered.
        """
        known = self.registry.get(version)
        folder = self.folder / known.tags["variant"] / known.tags["fingerprint"] / "artifact"
        return restore_artifact(self.registry, known, folder)

    def training_of(self, version: int) -> Training:
        """The training behind a registered version, fetched from the registry if its folder is gone.

        Raises
        ------
        TrackingError
            There is no such version.
        TrainingError
            Its files are damaged.
        """
        known = self.registry.get(version)
        folder = self.folder / known.tags["variant"] / known.tags["fingerprint"] / _TRAINING_FOLDER
        self._restore_training(version, folder)
        return load_training(folder)

    def _alone_with(self, variant: str, identity: str) -> AbstractContextManager[None]:
        """Hold the fingerprint against other processes; the kernel lets go of it when its holder dies."""
        return exclusive(
            self.folder / variant / f"{identity}.lock",
            _LONGEST_TRAINING_S,
            error=TrainingError,
            purpose=f"training {variant}",
            remedy="`fuser` names its process: wait for it, or end it",
        )

    def _train(
        self,
        variant: Variant,
        features: FeaturePanel,
        panel: PricePanel,
        cutoff: pd.Timestamp,
        identity: str,
        folder: Path,
        tags: Mapping[str, str],
    ) -> str:
        params = {**variant.hyperparameters(), "cutoff": f"{cutoff:%Y-%m-%d}", "sequence_length": self.sequence_length}
        params["seed"] = self.seed
        tags = {**tags, "variant": variant.name, "fingerprint": identity}
        with self.tracker.run(variant.name, tags=tags, params=params) as run:
            training = train(
                variant,
                features,
                panel,
                cutoff=cutoff,
                sequence_length=self.sequence_length,
                seed=self.seed,
                device=self.device,
                progress=self.progress,
            )
            _log_training(run, training)
            save_training(folder, training)
            return run.id

    def _known_run(self, variant: str, identity: str, folder: Path) -> str | None:
        """The run that trained this fingerprint; its training is then in ``folder``, fetched if need be."""
        version = self.registry.find(identity)
        if version is None:
            pointer = self._pointer(variant)
            trained = pointer.get("fingerprint") == identity and is_finished(folder)
            return pointer["run_id"] if trained else None
        self._restore_training(version.version, folder)
        return version.run_id

    def _restore_training(self, version: int, folder: Path) -> None:
        if not is_finished(folder):
            fetched = self.registry.download(version, folder.parent / "artifact" / MODEL_FOLDER)
            if not (fetched / _TRAINING_FOLDER).is_dir():
                raise TrainingError(f"version {version} was registered without what is kept of its training")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(fetched / _TRAINING_FOLDER, folder)

    def _pointer_path(self, variant: str) -> Path:
        return self.folder / variant / "current.json"

    def _pointer(self, variant: str) -> dict[str, str]:
        path = self._pointer_path(variant)
        return json.loads(path.read_text()) if path.exists() else {}

    def _current(self, variant: str) -> tuple[str, str]:
        pointer = self._pointer(variant)
        if not pointer:
            raise TrainingError(f"variant {variant!r} was not trained: materialize models/{variant}")
        return pointer["fingerprint"], pointer["run_id"]


def _log_training(run: Run, training: Training) -> None:
    for epoch in training.history:
        losses = {"train_loss": epoch.fit_loss, "val_loss": epoch.stop_loss, "val_accuracy": epoch.stop_accuracy}
        run.log_metrics(losses, epoch.number)
    scores = held_out_scores(training.held_out)
    run.log_metrics(
        {
            "best_epoch": float(training.best_epoch),
            "training_seconds": training.seconds,
            **{f"held_out_{name.replace('%', 'pct')}": interval.estimate for name, interval in scores.items()},
        }
    )
