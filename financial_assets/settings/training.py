"""How models are trained, and where training is tracked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from financial_assets.settings.base import LocalPath, SettingsGroup, check_database, check_server, has_scheme

MAX_SEQUENCE_LENGTH = 60
"""Longest input sequence: feature lookback plus sequence must fit into the bars that a client sends (256)."""


def _check_store(value: str) -> str:
    return check_server(value) if value.lower().startswith("http") else check_database(value)


_TrackingStore = Annotated[
    str, has_scheme("http", "https", "sqlite", "postgresql", "mysql"), AfterValidator(_check_store)
]


class TrainingSettings(SettingsGroup):
    """Networks, seeds and the experiment tracker."""

    sequence_length: int = Field(default=10, ge=2, le=MAX_SEQUENCE_LENGTH)
    """Sessions of features that the networks look at."""

    max_epochs: int | None = Field(default=None, ge=1)
    """At most this many passes over the training rows, for a quick trial; default: each variant's own limit."""

    seed: int = Field(default=42, ge=0, lt=2**31)
    """Seed of every random draw."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where networks train; ``auto`` takes CUDA, then MPS, then the CPU."""

    progress: bool = True
    """Whether long work shows a progress bar."""

    hyperparameters: LocalPath | None = None
    """YAML file of settings by variant, such as ``financial-assets search`` writes, that all trainings use; default:
    the settings of ``models/variants.py``."""

    search_budget: float = Field(default=30.0, gt=0, le=10_080)
    """Minutes that a hyper-parameter search of one variant takes at most; a trial that has begun is finished."""

    search_trials: int = Field(default=100, ge=1)
    """Finished trials that a search of one variant shall have; an interrupted one goes on until then."""

    mlflow_tracking_uri: _TrackingStore | None = Field(default=None, repr=False)
    """MLflow server (``http://``), or its database (``sqlite:///``, ``postgresql://``, ``mysql://``); default:
    SQLite in ``FINANCIAL_ASSETS_HOME``."""

    mlflow_experiment_name: str = Field(default="financial-mlops-pytorch", min_length=1)
    """MLflow experiment that training runs belong to."""
