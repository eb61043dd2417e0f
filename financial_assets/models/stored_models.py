"""Models that were trained and registered: found by variant or by version, and fetched again if files are gone."""

from __future__ import annotations

from pathlib import Path

from financial_assets.errors import TrainingError
from financial_assets.models.artifacts.artifact import (
    ARTIFACT_FOLDER,
    TRAINING_FOLDER,
    Artifact,
    restore_artifact,
    restore_training,
)
from financial_assets.models.artifacts.registration import remember
from financial_assets.models.artifacts.storage import load_training
from financial_assets.models.artifacts.tracked import TrainedModel, read_pointer
from financial_assets.models.external.answers import ExternalGraph
from financial_assets.models.training import Training
from financial_assets.tracking import ModelRegistry, ModelVersion


class StoredModels:
    """Reads what :class:`.lifecycle.ModelLifecycle` wrote.

    Attributes
    ----------
    folder
        State of all models.
    registry
        Where versions are recorded.
    """

    folder: Path
    registry: ModelRegistry

    def current_artifact(self, variant: str) -> Artifact:
        """The registered version of the variant's current training.

        Raises
        ------
        TrainingError
            It was not trained, or not registered.
        """
        identity = read_pointer(self._pointer(variant))["fingerprint"]
        version = self.registry.find(identity)
        if version is None:
            raise TrainingError(f"variant {variant!r} is trained but not registered: materialize onnx/{variant}")
        return self._restored(version, self.folder / variant / identity)

    def current_training(self, variant: str) -> TrainedModel:
        """The variant's current training, registered or not.

        Raises
        ------
        TrainingError
            It was not trained.
        """
        pointer = read_pointer(self._pointer(variant))
        identity = pointer["fingerprint"]
        training = load_training(self.folder / variant / identity / TRAINING_FOLDER)
        return TrainedModel(identity, pointer["run_id"], training, reused=True)

    def artifact_of(self, version: int) -> Artifact:
        """A registered version, fetched from the registry if its folder is gone or damaged.

        Raises
        ------
        TrackingError
            There is no such version.
        ExportError
            The registry's file is not the one that was registered.
        """
        registered = self.registry.get(version)
        return self._restored(registered, self._folder_of(registered))

    def training_of(self, version: int) -> Training:
        """The training behind a registered version, fetched from the registry if its folder is gone.

        Raises
        ------
        TrackingError
            There is no such version.
        TrainingError
            Its files are damaged.
        """
        folder = self._folder_of(self.registry.get(version)) / TRAINING_FOLDER
        restore_training(self.registry, version, folder)
        return load_training(folder)

    def known_model(self, version: int) -> Training | ExternalGraph:
        """What tells how a registered version answers on past sessions: its training, or an external model's graph.

        Raises
        ------
        TrackingError
            There is no such version.
        TrainingError, ExportError
            Its files are damaged.
        """
        registered = self.registry.get(version)
        if registered.tags.get("origin") != "external":
            return self.training_of(version)
        artifact = self.artifact_of(version)
        return ExternalGraph(artifact.onnx_path, artifact.data_cutoff)

    def _folder_of(self, version: ModelVersion) -> Path:
        return self.folder / version.tags["variant"] / version.tags["fingerprint"]

    def _pointer(self, variant: str) -> Path:
        return self.folder / variant / "current.json"

    def _restored(self, version: ModelVersion, folder: Path) -> Artifact:
        """The version's artefact, whole; this machine remembers its number."""
        artifact = restore_artifact(self.registry, version, folder / ARTIFACT_FOLDER)
        remember(folder, version)
        return artifact
