"""How models are trained, and where training is tracked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from financial_assets.settings.base import SettingsGroup, check_database, check_scheme, check_server

__all__ = ["MAX_SEQUENCE_LENGTH", "TrainingSettings"]

MAX_SEQUENCE_LENGTH = 60
"""Longest input sequence: feature lookback plus sequence must fit into the bars that a client sends (256)."""


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

    mlflow_tracking_uri: str | None = Field(default=None, repr=False)
    """MLflow server (``http://``), or its database (``sqlite:///``, ``postgresql://``, ``mysql://``); default:
    SQLite in ``FINANCIAL_ASSETS_HOME``."""

    mlflow_experiment_name: str = Field(default="financial-mlops-pytorch", min_length=1)
    """MLflow experiment that training runs belong to."""

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _check_tracking_uri(cls, value: str | None) -> str | None:
        if check_scheme(value, ("http", "https", "sqlite", "postgresql", "mysql")) is None:
            return None
        return check_server(str(value)) if str(value).lower().startswith("http") else check_database(str(value))
