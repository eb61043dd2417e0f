"""Typed settings, checked before anything runs.

Every field is an environment variable of the same name in capitals (``tickers`` is ``TICKERS``). The environment wins
over the file ``.env`` of the current folder, and that over what the state folder remembers (``settings.state_folder``).
``load_settings`` is the one way in; it raises ``SettingsError`` with the variable, the value it holds and what is
allowed.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from financial_assets.errors import SettingsError
from financial_assets.redaction import conceal, conceal_path, hide_path, redact_address
from financial_assets.settings.api import ApiSettings
from financial_assets.settings.base import LocalPath
from financial_assets.settings.business import BusinessSettings
from financial_assets.settings.experiment import ExperimentSettings
from financial_assets.settings.market import MarketSettings
from financial_assets.settings.monitoring import MonitoringSettings
from financial_assets.settings.names import misspelt
from financial_assets.settings.notifications import NotificationSettings
from financial_assets.settings.orders import OrderSettings
from financial_assets.settings.retraining import RetrainingSettings
from financial_assets.settings.serving import ServingSettings
from financial_assets.settings.state_folder import REMEMBERED, StateFolderSource
from financial_assets.settings.training import MAX_SEQUENCE_LENGTH, TrainingSettings
from financial_assets.settings.walk_forward import WalkForwardSettings

__all__ = ["MAX_SEQUENCE_LENGTH", "SECRET_PATHS", "Settings", "load_settings"]


class Settings(
    MarketSettings,
    TrainingSettings,
    WalkForwardSettings,
    ServingSettings,
    ExperimentSettings,
    BusinessSettings,
    OrderSettings,
    RetrainingSettings,
    MonitoringSettings,
    NotificationSettings,
    ApiSettings,
):
    """All settings of a deployment.

    Use ``load_settings`` to build it, so that errors name the environment variable.
    """

    model_config = SettingsConfigDict(env_file=".env")

    financial_assets_home: LocalPath = Path(".financial_assets")
    """Folder of all state: prices, models, logs, reports, serving; private to its owner (mode 0700)."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Who has the first say, in order."""
        return init_settings, env_settings, dotenv_settings, StateFolderSource(settings_cls)

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

    @property
    def remembered(self) -> dict[str, str]:
        """What the state folder shall remember: variables and their text, paths absolute."""
        values = {name: getattr(self, name) for name in REMEMBERED}
        values["tickers"] = ",".join(self.tickers)
        values["variants"] = ",".join(self.variants)
        values["covariates"] = ",".join(self.covariates) or None
        values["sector_index"] = self.sector_index or None
        values["covariate_files"] = self.covariate_files and ",".join(
            os.path.realpath(Path(part.strip()).expanduser()) for part in self.covariate_files.split(",")
        )
        for name in (
            *("price_files", "universe_file", "quality_overrides"),
            *("external_models", "hyperparameters", "rollout_policy"),
        ):
            if values[name] is not None:
                values[name] = os.path.realpath(Path(values[name]).expanduser())
        return {name.upper(): str(value) for name, value in values.items() if value is not None}


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, ``.env`` and the state folder, in this order of precedence.

    Parameters
    ----------
    overrides
        Values that take precedence over all of them, by field name.

    Raises
    ------
    SettingsError
        One line per problem: the variable, the value it holds, what is allowed. A variable that is not a setting but
        looks like one is a problem too: its value would be ignored without a word.
    """
    names = [name.upper() for name in Settings.model_fields]
    try:
        in_file = dotenv_values(".env") if Path(".env").is_file() else {}
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        raise SettingsError(f"{Path('.env').absolute()} cannot be read ({error}); correct or remove it") from None
    lines = misspelt(os.environ, names) + misspelt(in_file.keys() - os.environ.keys(), names, file=".env")
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        lines += [_explain(problem, {name.upper() for name in in_file}) for problem in error.errors()]
        settings = None
    if settings is None or lines:
        raise SettingsError("\n".join(["the settings cannot be used:", *(f"  {line}" for line in lines)])) from None
    for name in _ADDRESSES:
        value = getattr(settings, name)
        if value:
            (conceal_path if name in SECRET_PATHS else conceal)(value)
    return settings


_ADDRESSES = [name for name, field in Settings.model_fields.items() if not field.repr]
"""Settings that may hold a password; each is kept out of ``repr``."""

SECRET_PATHS = ("notify_webhook_url", "notify_slack_url")
"""Of these, the addresses whose path is the secret."""


def _explain(problem: Any, in_file: Collection[str]) -> str:
    """One line for a value that pydantic refuses, in words that need no knowledge of pydantic or reStructuredText."""
    message = str(problem["msg"]).removeprefix("Value error, ").partition(", unable to parse")[0]
    message = message.replace("Input should be", "must be").replace("a valid integer", "an integer")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    field = Settings.model_fields.get(name)
    meaning = f" ({' '.join(field.description.split())})" if field is not None and field.description else ""
    got = problem["input"]
    shown = got
    if name in _ADDRESSES and isinstance(got, str):
        shown = hide_path(got) if name in SECRET_PATHS else redact_address(got)
    origin = ""
    if name.upper() not in {variable.upper() for variable in os.environ}:
        origin = " in .env" if name.upper() in in_file else ""
    return f"{name.upper()}: got {shown!r}{origin}; {message}{meaning}".replace("``", "")
