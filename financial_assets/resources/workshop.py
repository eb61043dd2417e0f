"""Training, export, tracking and registry."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

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

    @property
    def baselines_path(self) -> Path:
        """Where ``baselines`` is kept."""
        return self.folder / "baselines.json"

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
