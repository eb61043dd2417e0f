"""A model from panel to registry: trained once, exported, proven equal, registered; existing results are reused.

State lies below one folder: ``<variant>/<fingerprint>/training`` and ``.../artifact``, and ``<variant>/current.json``,
which names the fingerprint and the tracked run that the next step takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.locking import exclusive
from financial_assets.market.panel import PricePanel
from financial_assets.models.artifacts.artifact import (
    ARTIFACT_FOLDER,
    TRAINING_FOLDER,
    Artifact,
    check_integrity,
    export_artifact,
    restore_training,
)
from financial_assets.models.artifacts.fingerprint import fingerprint, training_data_hash
from financial_assets.models.artifacts.registration import heal_copy, register, register_again
from financial_assets.models.artifacts.storage import is_finished, load_training, save_training
from financial_assets.models.artifacts.tracked import (
    TrainedModel,
    keep_pointer,
    live_run,
    log_training,
    read_pointer,
    training_datasets,
    training_run,
)
from financial_assets.models.search.adoption import adopt
from financial_assets.models.stored_models import StoredModels
from financial_assets.models.training import Training, train
from financial_assets.models.variants import Variant
from financial_assets.tracking import MlflowRun, MlflowTracker, ModelRegistry, TrackedDataset

__all__ = ["ModelLifecycle", "TrainedModel"]

_LONGEST_TRAINING_S = 3600.0


@dataclass(frozen=True)
class ModelLifecycle(StoredModels):
    """Where models are trained, exported and registered.

    Parameters
    ----------
    folder
        State of all models.
    tracker, registry
        Where runs and versions are recorded.
    sequence_length, seed, device, progress
        Arguments of ``train``; a variant may have a length of its own.
    max_epochs
        Upper limit of every variant's epochs; it counts as one of the variant's own settings.
    adopted
        Gives the settings, by variant, that take the place of the variant's own; see ``models.search.adoption``. It
        is called when something is to be trained, so that what only reads models needs no file of settings.
    bayes_accuracy
        What the best possible predictor of a simulated market gets right: the leak alarm's bound there.
    price_source
        Where the prices are from, as the tracker and the model card shall name it.
    """

    folder: Path
    tracker: MlflowTracker
    registry: ModelRegistry
    sequence_length: int
    seed: int
    device: str = "auto"
    progress: bool = False
    max_epochs: int | None = None
    adopted: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
    bayes_accuracy: float | None = None
    price_source: str = "unknown"

    def as_trained(self, variant: Variant) -> Variant:
        """The variant with the settings that its trainings have here: adopted ones, and the limit of epochs.

        Raises
        ------
        SettingsError
            The adopted settings cannot be read.
        """
        settings = self.adopted()
        members = tuple(adopt(member, settings) for member in variant.members)
        return replace(adopt(variant, settings), members=members).limited(self.max_epochs)

    def develop(
        self,
        variant: Variant,
        features: FeaturePanel,
        panel: PricePanel,
        *,
        cutoff: pd.Timestamp,
        tags: Mapping[str, str],
        parent: str | None = None,
    ) -> TrainedModel:
        """Train ``variant`` on what is known at ``cutoff``, unless its fingerprint was trained already.

        ``parent`` is the tracked run that a new training is nested below; ``tags`` are those of its run. An ensemble
        takes its members' trainings for the same cut-off; those that are missing are trained, and nothing else than
        the ensemble takes note of them.

        Raises
        ------
        SettingsError
            The adopted settings cannot be read; nothing is trained.
        TrainingError
            It cannot be trained; its run ends as FAILED.
        """
        trained = self._developed(self.as_trained(variant), features, panel, cutoff, tags, parent)
        keep_pointer(self._pointer(variant.name), trained.fingerprint, trained.run_id)
        return trained

    def _developed(
        self,
        variant: Variant,
        features: FeaturePanel,
        panel: PricePanel,
        cutoff: pd.Timestamp,
        tags: Mapping[str, str],
        parent: str | None,
    ) -> TrainedModel:
        members = [
            self._developed(member, features, panel, cutoff, tags, parent).training for member in variant.members
        ]
        data_hash = training_data_hash(panel, cutoff)
        identity = fingerprint(
            data_hash=data_hash,
            variant=variant,
            seed=self.seed,
            sequence_length=variant.window(self.sequence_length),
            cutoff=cutoff,
        )
        folder = self.folder / variant.name / identity / TRAINING_FOLDER

        def start() -> AbstractContextManager[MlflowRun]:
            length, seed = variant.window(self.sequence_length), self.seed
            return training_run(self.tracker, variant, cutoff, length, seed, identity, tags, parent=parent)

        def datasets(training: Training) -> list[TrackedDataset]:
            return training_datasets(training, panel, data_hash, self.price_source)

        # Looked up under the lock: another job may be training the same, and its result is then reused.
        with self._alone_with(variant.name, identity):
            earlier = self._earlier_run(variant.name, identity, folder, tags, datasets, parent)
            run_id = earlier or self._train(variant, features, panel, cutoff, folder, start, datasets, members)
            return TrainedModel(identity, run_id, load_training(folder), reused=earlier is not None)

    def publish(
        self,
        variant: str,
        graph: FeatureGraph,
        features: FeaturePanel,
        panel: PricePanel,
        *,
        tags: Mapping[str, str],
        parent: str | None = None,
    ) -> Artifact:
        """Export the variant's current training, prove that the file predicts the same, and register it.

        Raises
        ------
        TrainingError
            The variant was not trained, or is constant.
        LeakAlarmError
            Its out-of-sample accuracy is too good to be true.
        ParityError, ExportError
            The file is not equal to the model.
        """
        current = read_pointer(self._pointer(variant))
        identity, run_id = current["fingerprint"], current["run_id"]
        folder = self.folder / variant / identity

        def export(to: Path) -> None:
            training = load_training(folder / TRAINING_FOLDER)
            export_artifact(
                training,
                identity,
                graph,
                features,
                panel,
                to,
                bayes_accuracy=self.bayes_accuracy,
                price_source=self.price_source,
            )

        with self._alone_with(variant, identity):
            version, note = self.registry.find(identity), ""
            if version is None:
                # Before a new version takes a number: an emptied registry must give the old ones theirs back.
                again = register_again(self.folder, self.tracker, self.registry)
                if again:
                    numbers = ", ".join(map(str, again))
                    note = f"the registry had lost versions that this machine keeps; registered again: {numbers}"
                version = self.registry.find(identity)
            if version is not None:
                if heal_copy(self.registry, version, folder, export):
                    note = f"the files of version {version.version} were gone from the registry and are uploaded again"
                return replace(self._restored(version, folder), note=note)
            training = load_training(folder / TRAINING_FOLDER)
            read = training_datasets(training, panel, training_data_hash(panel, training.cutoff), self.price_source)
            live = live_run(self.tracker, run_id, training, identity, tags, read, parent)
            if live != run_id:
                lost = f"run {run_id}, which trained this model, is not in the tracking store"
                note = f"{lost}; published from run {live}"
                keep_pointer(self._pointer(variant), identity, live)
            with self.tracker.resume(live) as run:
                run.set_tags(tags)
                check_integrity(training, bayes_accuracy=self.bayes_accuracy)
                export(folder / ARTIFACT_FOLDER)
                version = register(run, self.registry, self.folder, training, identity, tags, read)
            return replace(self._restored(version, folder), reused=False, note=note)

    def _alone_with(self, variant: str, identity: str) -> AbstractContextManager[None]:
        """Hold the fingerprint against other processes; the kernel releases it when its holder dies."""
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
        folder: Path,
        start: Callable[[], AbstractContextManager[MlflowRun]],
        datasets: Callable[[Training], list[TrackedDataset]],
        members: Sequence[Training],
    ) -> str:
        with start() as run:
            training = train(
                variant,
                features,
                panel,
                cutoff=cutoff,
                sequence_length=variant.window(self.sequence_length),
                seed=self.seed,
                device=self.device,
                progress=self.progress,
                members=members,
            )
            log_training(run, training, datasets(training))
            save_training(folder, training)
            return run.id

    def _earlier_run(
        self,
        variant: str,
        identity: str,
        folder: Path,
        tags: Mapping[str, str],
        datasets: Callable[[Training], list[TrackedDataset]],
        parent: str | None,
    ) -> str | None:
        """The run that trained this fingerprint; its training is then in ``folder``, fetched if need be."""
        version = self.registry.find(identity)
        if version is not None:
            restore_training(self.registry, version.version, folder)
            return version.run_id
        if not is_finished(folder):
            return None
        run_id = ""
        with suppress(TrainingError):  # missing or damaged: the caller writes it again
            current = read_pointer(self._pointer(variant))
            run_id = current["run_id"] if current["fingerprint"] == identity else ""
        training = load_training(folder)
        return live_run(self.tracker, run_id, training, identity, tags, datasets(training), parent)
