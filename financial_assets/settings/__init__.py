"""Typed settings, read once from the environment and checked before anything runs.

Every field is an environment variable of the same name in capitals (``tickers`` is ``TICKERS``). ``load_settings`` is
the one way in; it raises ``SettingsError`` with the variable, the value it holds and what is allowed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator

from financial_assets.errors import SettingsError
from financial_assets.redaction import conceal, redact_address
from financial_assets.settings.base import check_path
from financial_assets.settings.business import BusinessSettings
from financial_assets.settings.experiment import ExperimentSettings
from financial_assets.settings.market import MarketSettings
from financial_assets.settings.names import misspelt
from financial_assets.settings.retraining import RetrainingSettings
from financial_assets.settings.serving import ServingSettings
from financial_assets.settings.training import MAX_SEQUENCE_LENGTH, TrainingSettings

__all__ = ["MAX_SEQUENCE_LENGTH", "Settings", "load_settings"]


class Settings(
    MarketSettings, TrainingSettings, ServingSettings, ExperimentSettings, BusinessSettings, RetrainingSettings
):
    """All settings of a deployment.

    Use ``load_settings`` to build it, so that errors name the environment variable.
    """

    financial_assets_home: Path = Path(".financial_assets")
    """Folder of all state: prices, models, logs, reports, serving; private to its owner (mode 0700)."""

    @field_validator("financial_assets_home", mode="before")
    @classmethod
    def _check_home(cls, value: object) -> object:
        return check_path(value)

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
        One line a problem: the variable, the value it holds, what is allowed. A variable that is not a setting but
        looks like one is a problem too: its value would be left out without a word.
    """
    lines = misspelt(os.environ, [name.upper() for name in Settings.model_fields])
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        lines += [_explain(problem) for problem in error.errors()]
        settings = None
    if settings is None or lines:
        raise SettingsError("\n".join(["the settings cannot be used:", *(f"  {line}" for line in lines)])) from None
    for name in _ADDRESSES:
        conceal(getattr(settings, name) or "")
    return settings


_ADDRESSES = [name for name, field in Settings.model_fields.items() if not field.repr]
"""Settings that may hold a password; each is kept out of ``repr``."""


def _explain(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    field = Settings.model_fields.get(name)
    meaning = f" ({' '.join(field.description.split())})" if field is not None and field.description else ""
    got = problem["input"]
    shown = redact_address(got) if name in _ADDRESSES and isinstance(got, str) else got
    return f"{name.upper()}: got {shown!r}; {message}{meaning}"
