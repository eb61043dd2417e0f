"""How models are trained, and where training is tracked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic_settings import NoDecode

from financial_assets.settings.base import LocalPath, SettingsGroup, check_database, check_server, has_scheme

MAX_SEQUENCE_LENGTH = 60
"""Longest input sequence: feature lookback plus sequence must fit into the bars that a client sends (256)."""


def _check_store(value: str) -> str:
    return check_server(value) if value.lower().startswith("http") else check_database(value)


_TrackingStore = Annotated[
    str, has_scheme("http", "https", "sqlite", "postgresql", "mysql"), AfterValidator(_check_store)
]


def _check_page(value: str) -> str:
    if "@" in value:
        raise ValueError("must be without user and password: it is shown as a link")
    return check_server(value).rstrip("/")


_Page = Annotated[str, has_scheme("http", "https"), AfterValidator(_check_page)]


class TrainingSettings(SettingsGroup):
    """Networks, seeds and the experiment tracker."""

    variants: Annotated[tuple[str, ...], NoDecode] = ("baseline", "enhanced", "lightweight")
    """Model variants that are trained, exported and served, separated by commas (``docs/models.md`` lists them). Those
    to which ``ROLLOUT_POLICY`` routes no requests are scored in pairs."""

    external_models: LocalPath | None = None
    """Folder of models that were made elsewhere: for each ``<name>.onnx`` and its card ``<name>.yaml``, see
    ``docs/how-to/external-model.md``. They are examined, and then arms like any other."""

    sequence_length: int = Field(default=10, ge=2, le=MAX_SEQUENCE_LENGTH)
    """Sessions of features that the networks look at; ``advanced`` and ``transformer`` look at more by themselves."""

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
    """MLflow experiment that runs of pipelines and trainings belong to; decisions are in `<name>-decisions`."""

    mlflow_ui_url: _Page | None = Field(default=None, repr=False)
    """Where a browser finds MLflow's pages, for links to them; default: `MLFLOW_TRACKING_URI` if that is a server."""

    dagster_ui_url: _Page | None = Field(default=None, repr=False)
    """Where a browser finds Dagster's pages, for links from MLflow back to Dagster's runs; default: no links."""

    @field_validator("variants", mode="before")
    @classmethod
    def _split_variants(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("variants")
    @classmethod
    def _check_variants(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("needs at least one variant, e.g. baseline,enhanced")
        repeated = sorted({variant for variant in value if value.count(variant) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is listed more than once")
        return value
