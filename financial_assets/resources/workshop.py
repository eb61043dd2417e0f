"""Training, export, tracking and registry."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pandas as pd

from financial_assets.errors import TrainingError
from financial_assets.models.baselines import Baselines
from financial_assets.models.lifecycle import ModelWorkshop
from financial_assets.tracking import MlflowTracker, ModelRegistry

__all__ = ["Workshop"]


class Workshop(dg.ConfigurableResource):
    """Training, export, tracking and registry."""

    home: str
    tracking_uri: str
    experiment: str
    sequence_length: int
    seed: int
    device: str
    progress: bool
    bayes_accuracy: float | None = None

    @property
    def folder(self) -> Path:
        """State of all models."""
        return Path(self.home) / "models"

    def baselines_path(self, cutoff: pd.Timestamp) -> Path:
        """Where the baselines fitted up to a session are kept; a later fit leaves earlier ones alone."""
        return self.folder / "baselines" / f"{cutoff:%Y-%m-%d}.json"

    def baselines(self, until: pd.Timestamp) -> Baselines:
        """The latest baselines that saw nothing after ``until``.

        A comparison that begins after ``until`` needs them: those of a later retraining know its answers.

        Raises
        ------
        TrainingError
            There are none.
        """
        dated = sorted(self.baselines_path(until).parent.glob("????-??-??.json"))
        known = [path for path in dated if path.stem <= f"{until:%Y-%m-%d}"]
        if not known:
            raise TrainingError(
                f"no baselines in {self.folder / 'baselines'} were fitted up to {until:%Y-%m-%d}: materialize the "
                "asset `baselines`"
            )
        return Baselines.load(known[-1])

    def tracker(self) -> MlflowTracker:
        """MLflow runs."""
        return MlflowTracker(self.tracking_uri, self.experiment, Path(self.home) / "mlartifacts")

    def registry(self) -> ModelRegistry:
        """MLflow model registry."""
        return ModelRegistry(self.tracking_uri)

    def models(self) -> ModelWorkshop:
        """Where models are made."""
        return ModelWorkshop(
            folder=self.folder,
            tracker=self.tracker(),
            registry=self.registry(),
            sequence_length=self.sequence_length,
            seed=self.seed,
            device=self.device,
            progress=self.progress,
            bayes_accuracy=self.bayes_accuracy,
        )
