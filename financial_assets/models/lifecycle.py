"""A model's way from panel to registry: trained once, exported, proven equal, registered; a step that stands is reused.

State lies below one folder: ``<variant>/<fingerprint>/training`` and ``.../artifact``, and ``<variant>/current.json``,
which names the fingerprint and the tracked run that the next step takes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.locking import exclusive
from financial_assets.market.panel import PricePanel
from financial_assets.models.artifacts.artifact import (
    MODEL_FOLDER,
    Artifact,
    check_integrity,
    export_artifact,
    restore_artifact,
)
from financial_assets.models.artifacts.fingerprint import fingerprint, training_data_hash
from financial_assets.models.artifacts.republishing import heal_copy, kept_versions, register_again, remember
from financial_assets.models.artifacts.storage import is_finished, load_training, save_training
from financial_assets.models.artifacts.tracked import (
    keep_pointer,
    live_run,
    log_training,
    read_pointer,
    training_params,
)
from financial_assets.models.onnx.export import file_sha256
from financial_assets.models.training import Training, train
from financial_assets.models.variants import Variant
from financial_assets.tracking import ModelRegistry, ModelVersion, Tracker

__all__ = ["ModelLifecycle", "TrainedModel"]

_TRAINING_FOLDER = "training"
_LONGEST_TRAINING_S = 3600.0


@dataclass(frozen=True)
class TrainedModel:
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
class ModelLifecycle:
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
    ) -> TrainedModel:
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
            known = self._known_run(variant.name, identity, folder, tags)
            run_id = known or self._train(variant, features, panel, cutoff, identity, folder, tags)
            keep_pointer(self._pointer_path(variant.name), identity, run_id)
            return TrainedModel(identity, run_id, load_training(folder), reused=known is not None)

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
        training_folder = folder / _TRAINING_FOLDER

        def export(to: Path) -> None:
            found = load_training(training_folder)
            export_artifact(found, identity, graph, features, panel, to, bayes_accuracy=self.bayes_accuracy)

        known, note = self.registry.find(identity), ""
        if known is None:
            again = register_again(self.folder, self.tracker, self.registry)
            known, note = self.registry.find(identity), _registered_again(again)
        if known is not None:
            if heal_copy(self.registry, known, folder, export):
                note = f"the files of version {known.version} were gone from the registry and are uploaded again"
            return replace(self._restored(known, folder), note=note)
        training = load_training(training_folder)
        live = live_run(self.tracker, run_id, training, identity, tags)
        if live != run_id:
            note = f"run {run_id}, which trained this model, is not in the tracking store; published from run {live}"
            keep_pointer(self._pointer_path(variant), identity, live)
        with self.tracker.resume(live) as run:
            run.set_tags(tags)
            check_integrity(training, bayes_accuracy=self.bayes_accuracy)
            export(folder / "artifact")
            run.log_artifacts(folder / "artifact" / MODEL_FOLDER, MODEL_FOLDER)
            run.log_artifacts(training_folder, f"{MODEL_FOLDER}/{_TRAINING_FOLDER}")
            version = self.registry.register(
                live,
                MODEL_FOLDER,
                {
                    **tags,
                    "variant": variant,
                    "data_cutoff": f"{training.cutoff:%Y-%m-%d}",
                    "fingerprint": identity,
                    "onnx_sha256": file_sha256(folder / "artifact" / "model.onnx"),
                },
                description=f"{variant}, trained on sessions up to {training.cutoff:%Y-%m-%d}",
                above=max((one.number for one in kept_versions(self.folder)), default=0),
            )
        return replace(self._restored(version, folder), reused=False, note=note)

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
        return self._restored(known, self.folder / variant / identity)

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
        return self._restored(known, self.folder / known.tags["variant"] / known.tags["fingerprint"])

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

    def _restored(self, version: ModelVersion, folder: Path) -> Artifact:
        """The version's artefact, whole; this machine remembers its number."""
        found = restore_artifact(self.registry, version, folder / "artifact")
        remember(folder, version)
        return found

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
        params = training_params(variant, cutoff, self.sequence_length, self.seed)
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
            log_training(run, training)
            save_training(folder, training)
            return run.id

    def _known_run(self, variant: str, identity: str, folder: Path, tags: Mapping[str, str]) -> str | None:
        """The run that trained this fingerprint; its training is then in ``folder``, fetched if need be."""
        version = self.registry.find(identity)
        if version is None:
            if not is_finished(folder):
                return None
            try:
                pointer = self._pointer(variant)
            except TrainingError:  # damaged; it is written again below
                pointer = {}
            run_id = pointer["run_id"] if pointer.get("fingerprint") == identity else ""
            return live_run(self.tracker, run_id, load_training(folder), identity, tags)
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
        return read_pointer(path) if path.exists() else {}

    def _current(self, variant: str) -> tuple[str, str]:
        pointer = self._pointer(variant)
        if not pointer:
            raise TrainingError(f"variant {variant!r} was not trained: materialize models/{variant}")
        return pointer["fingerprint"], pointer["run_id"]


def _registered_again(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers))
    return f"the registry had lost versions that this machine keeps; registered again: {shown}" if numbers else ""
