"""Experiment tracking and the model registry, on MLflow.

``MlflowTracker`` records runs through ``MlflowClient`` with explicit run ids and no process-global "active run", so
that a run ends as what it was: FINISHED, or FAILED on any exception, interrupts included. ``ModelRegistry`` keeps the
versions of one registered model. MLflow is imported on first use only, because importing it takes about a second.
"""

from __future__ import annotations

from financial_assets.tracking.owners import owner_is_alive
from financial_assets.tracking.registry import REGISTERED_MODEL, ModelRegistry, ModelVersion
from financial_assets.tracking.runs import MlflowRun
from financial_assets.tracking.tracker import MlflowTracker

__all__ = ["REGISTERED_MODEL", "MlflowRun", "MlflowTracker", "ModelRegistry", "ModelVersion", "owner_is_alive"]
