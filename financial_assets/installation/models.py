"""Training, export, tracking and registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from financial_assets.tracking import MlflowTracker, ModelRegistry

if TYPE_CHECKING:
    from financial_assets.market.panel import PricePanel
    from financial_assets.models.baselines.fitted import Baselines
    from financial_assets.models.lifecycle import ModelLifecycle, TrainedModel
    from financial_assets.portfolio.trials import TrialLedger


class ModelStore(BaseModel):
    """Training, export, tracking and registry."""

    model_config = ConfigDict(frozen=True)

    home: str
    tracking_uri: str
    mlflow_experiment_name: str
    sequence_length: int
    seed: int
    max_epochs: int | None = None
    device: str
    progress: bool
    bayes_accuracy: float | None = None

    @property
    def folder(self) -> Path:
        """State of all models."""
        return Path(self.home) / "models"

    @property
    def baselines_path(self) -> Path:
        """Where the latest ``baselines`` are kept."""
        return self.folder / "baselines.json"

    def keep_baselines(self, fitted: Baselines) -> None:
        """Keep ``fitted`` as the latest, and beside those of other data cut-offs."""
        fitted.save(self.folder / "baselines" / f"{fitted.cutoff}.json")
        fitted.save(self.baselines_path)

    def baselines_for(self, cutoff: pd.Timestamp) -> Baselines:
        """The baselines to hold models against whose evidence begins after ``cutoff``.

        They are the latest that learned from no session of that evidence: a retraining fits new ones, and when it
        fails, the old arms go on being judged on sessions that those have learned from. Without any, the earliest.

        Raises
        ------
        TrainingError
            There are none, or they are damaged.
        """
        from financial_assets.models.baselines.fitted import Baselines  # scikit-learn and torch

        paths = [*sorted((self.folder / "baselines").glob("*.json")), self.baselines_path]
        fitted = sorted((Baselines.load(path) for path in paths), key=lambda baselines: baselines.cutoff)
        earlier = [baselines for baselines in fitted if pd.Timestamp(baselines.cutoff) <= cutoff]
        return earlier[-1] if earlier else fitted[0]

    def tracker(self) -> MlflowTracker:
        """MLflow runs."""
        return MlflowTracker(self.tracking_uri, self.mlflow_experiment_name, Path(self.home) / "mlartifacts")

    def registry(self) -> ModelRegistry:
        """MLflow model registry."""
        return ModelRegistry(self.tracking_uri)

    def trials(self) -> TrialLedger:
        """The record of everything that was ever tried, with every registered model in it.

        A state folder of an earlier version has no record: it begins with the models that were registered by then. A
        model whose training ended before it was recorded is added likewise.

        Raises
        ------
        TrackingError
            The registry cannot be read.
        TrialsError
            The record is damaged.
        """
        from financial_assets.portfolio.trials import TrialLedger, earlier_trials

        ledger = TrialLedger(self.folder / "trials.jsonl")
        ledger.record(*earlier_trials(version.tags for version in self.registry().versions()))
        return ledger

    def record_training(self, trained: TrainedModel, panel: PricePanel) -> None:
        """Count a training as a trial, by what the directions of its held-out answers earned before costs.

        A training that was counted already is not counted again.

        Raises
        ------
        TrackingError, TrialsError
            See :meth:`trials`.
        """
        from financial_assets.portfolio.economics.evaluate import held_out_returns
        from financial_assets.portfolio.trials import record_trial

        variant, answers = trained.training.variant, trained.training.held_out
        up = 1.0 / (1.0 + np.exp(-answers.logit))
        answered = {"date": answers.session, "ticker": answers.ticker, "model": variant.name, "probability_up": up}
        returns = held_out_returns(pd.DataFrame(answered), panel)[variant.name]
        record_trial(
            self.trials(),
            fingerprint=trained.fingerprint,
            kind="training",
            variant=variant.name,
            hyperparameters=variant.hyperparameters(),
            returns=returns,
        )

    def lifecycle(self) -> ModelLifecycle:
        """Where models are made."""
        from financial_assets.models.lifecycle import ModelLifecycle  # torch

        return ModelLifecycle(
            folder=self.folder,
            tracker=self.tracker(),
            registry=self.registry(),
            sequence_length=self.sequence_length,
            max_epochs=self.max_epochs,
            seed=self.seed,
            device=self.device,
            progress=self.progress,
            bayes_accuracy=self.bayes_accuracy,
        )
