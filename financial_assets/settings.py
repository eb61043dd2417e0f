"""Typed settings, read once from the environment and checked before anything runs.

Every field is an environment variable of the same name in capitals (``tickers`` is ``TICKERS``). ``load_settings`` is
the one way in; it raises ``SettingsError`` with the variable, the value it holds and what is allowed.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from financial_assets.errors import SettingsError

__all__ = ["MAX_SEQUENCE_LENGTH", "Settings", "load_settings"]

MAX_SEQUENCE_LENGTH = 60
"""Longest input sequence: feature lookback plus sequence must fit into the bars that a client sends (256)."""

_TICKER_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-^=")


class Settings(BaseSettings):
    """All settings of a deployment.

    Use ``load_settings`` to build it, so that errors name the environment variable.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True)

    tickers: Annotated[tuple[str, ...], NoDecode] = ("AAPL", "MSFT")
    """Tickers of the universe, separated by commas."""

    price_source: Literal["sample", "yahoo", "files", "simulated"] = "sample"
    """Where prices come from: ``sample`` (bundled real bars, no network), ``yahoo``, ``files`` or ``simulated``."""

    price_files: str | None = None
    """For ``PRICE_SOURCE=files``: a CSV, CSV.gz or Parquet file, a folder of them, or a glob."""

    ingestion_start_date: dt.date | None = None
    """First session to ingest (YYYY-MM-DD); default: the source's first."""

    ingestion_end_date: dt.date | None = None
    """Last session to ingest (YYYY-MM-DD); default: the source's last."""

    evaluation_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the sessions, the latest ones, that no model sees before the first retraining."""

    sequence_length: int = Field(default=10, ge=2, le=MAX_SEQUENCE_LENGTH)
    """Sessions of features that the networks look at."""

    seed: int = Field(default=42, ge=0, lt=2**31)
    """Seed of every random draw."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where networks train; ``auto`` takes CUDA, then MPS, then the CPU."""

    progress: bool = True
    """Whether long work shows a progress bar."""

    mlflow_tracking_uri: str | None = None
    """MLflow server or database; default: SQLite in ``FINANCIAL_ASSETS_HOME``."""

    mlflow_experiment_name: str = Field(default="financial-mlops-pytorch", min_length=1)
    """MLflow experiment that training runs belong to."""

    serving_target: Literal["local", "kubernetes", "gitops"] = "local"
    """Where models are served: ``local`` (Envoy and MLServer on this machine), ``kubernetes`` or ``gitops``."""

    financial_assets_home: Path = Path(".financial_assets")
    """Folder of all state: prices, models, logs, reports, serving."""

    prediction_log_url: str | None = None
    """SQLAlchemy URL of the prediction log; default: SQLite in ``FINANCIAL_ASSETS_HOME``."""

    alertmanager_url: str | None = None
    """Alertmanager's base URL, e.g. http://127.0.0.1:9093; unset: no alerts are read."""

    rollout_policy: Path | None = None
    """YAML file of arms and weights; default: the packaged ``financial_assets/experiment/policy.yaml``."""

    replay_sessions: int = Field(default=500, ge=0)
    """Sessions that ``full_pipeline`` replays through the gateway, the rest is left to ``daily``; 0: all."""

    replay_workers: int = Field(default=4, ge=1, le=64)
    """Concurrent requests of a replay."""

    request_timeout: float = Field(default=10.0, gt=0, le=600)
    """Deadline of one inference request, in seconds."""

    ready_timeout: float = Field(default=120.0, gt=0, le=3600)
    """Longest wait for the serving plane to get ready, in seconds."""

    cost_bps: float = Field(default=5.0, ge=0, le=1000)
    """Trading cost a side, in basis points of the traded notional."""

    simulated_sessions: int = Field(default=1500, ge=400, le=5000)
    """For ``PRICE_SOURCE=simulated``: number of sessions."""

    simulated_signal: float = Field(default=0.2, ge=0, le=1)
    """For ``PRICE_SOURCE=simulated``: strength of the predictable part, 0 (random walk) to 1."""

    simulated_pattern: Literal["momentum", "volume_reversal", "parity"] = "momentum"
    """For ``PRICE_SOURCE=simulated``: what predicts; ``parity`` takes a larger network to learn than the others."""

    simulated_regime_shift: int | None = Field(default=None, ge=1)
    """For ``PRICE_SOURCE=simulated``: session number from which the signal turns against what was learnt."""

    @field_validator("tickers", mode="before")
    @classmethod
    def _split_tickers(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip().upper() for part in value.split(",") if part.strip())

    @field_validator("tickers")
    @classmethod
    def _check_tickers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("needs at least one ticker, e.g. AAPL,MSFT")
        for ticker in value:
            if not 1 <= len(ticker) <= 16 or not set(ticker) <= _TICKER_CHARACTERS:
                raise ValueError(f"{ticker!r} is no ticker: letters, digits and . - ^ = only, up to 16")
        repeated = sorted({ticker for ticker in value if value.count(ticker) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is listed more than once")
        return value

    @field_validator("alertmanager_url", "mlflow_tracking_uri")
    @classmethod
    def _check_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        allowed = (
            ("http", "https") if info.field_name == "alertmanager_url" else ("http", "https", "sqlite", "postgresql")
        )
        if value is not None and urlsplit(value).scheme.split("+")[0] not in allowed:
            raise ValueError(f"must start with one of {', '.join(name + '://' for name in allowed)}")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if self.price_source == "files" and self.price_files is None:
            raise ValueError("PRICE_FILES: not set; PRICE_SOURCE=files needs a file, a folder or a glob")
        if self.price_source != "files" and self.price_files is not None:
            raise ValueError(
                f"PRICE_FILES: set to {self.price_files!r}, but PRICE_SOURCE is {self.price_source!r}; "
                "set PRICE_SOURCE=files or unset PRICE_FILES"
            )
        if self.simulated_regime_shift is not None and self.simulated_regime_shift >= self.simulated_sessions:
            raise ValueError(
                f"SIMULATED_REGIME_SHIFT: {self.simulated_regime_shift} is not below "
                f"SIMULATED_SESSIONS {self.simulated_sessions}"
            )
        start, end = self.ingestion_start_date, self.ingestion_end_date
        if start is not None and end is not None and start >= end:
            raise ValueError(f"INGESTION_START_DATE: {start} is not before INGESTION_END_DATE {end}")
        return self

    @property
    def home(self) -> Path:
        """The state folder as an absolute path."""
        return self.financial_assets_home.expanduser().resolve()

    @property
    def tracking_uri(self) -> str:
        """MLflow's URI, the default resolved."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def log_url(self) -> str:
        """The prediction log's URL, the default resolved."""
        return self.prediction_log_url or f"sqlite:///{self.home / 'predictions.db'}"


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment.

    Parameters
    ----------
    overrides
        Values that take precedence over the environment, by field name.

    Raises
    ------
    SettingsError
        One line a problem: the variable, the value it holds, what is allowed.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise SettingsError("\n".join(["the settings cannot be used:", *lines])) from None


def _explain(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return f"  {message}"
    name = str(problem["loc"][0])
    field = Settings.model_fields.get(name)
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f"  {name.upper()}: got {problem['input']!r}; {message}{meaning}"
