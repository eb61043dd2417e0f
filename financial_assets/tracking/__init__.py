"""Experiment tracking and the model registry, on MLflow.

``MlflowTracker`` records runs through ``MlflowClient`` with explicit run ids and no process-global "active run", so
that a run ends as what it was: FINISHED, FAILED by an error, or KILLED by an interrupt or the death of its process.
``ModelRegistry`` keeps the versions of one registered model. MLflow is imported on first use only, because importing it
takes about a second.
"""

from __future__ import annotations

from financial_assets.tracking.inputs import TrackedDataset
from financial_assets.tracking.owners import owner_is_alive
from financial_assets.tracking.registry import REGISTERED_MODEL, ModelRegistry, ModelVersion
from financial_assets.tracking.runs import NOTE_TAG, MlflowRun, RecordedRun
from financial_assets.tracking.tracker import KIND_TAG, MlflowTracker

__all__ = [
    "KIND_TAG",
    "NOTE_TAG",
    "REGISTERED_MODEL",
    "MlflowRun",
    "MlflowTracker",
    "ModelRegistry",
    "ModelVersion",
    "RecordedRun",
    "TrackedDataset",
    "owner_is_alive",
]
