"""Typed settings, read once from the environment and checked before anything runs.

Every field is an environment variable of the same name in capitals (``tickers`` is ``TICKERS``). ``load_settings`` is
the one way in; it raises ``SettingsError`` with the variable, the value it holds and what is allowed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from financial_assets.errors import SettingsError
from financial_assets.settings.business import BusinessSettings
from financial_assets.settings.experiment import ExperimentSettings
from financial_assets.settings.market import MarketSettings
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
    """Folder of all state: prices, models, logs, reports, serving."""

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
    meaning = f" ({' '.join(field.description.split())})" if field is not None and field.description else ""
    return f"  {name.upper()}: got {problem['input']!r}; {message}{meaning}"
