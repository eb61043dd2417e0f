"""What the settings describe: prices, models, experiment and serving target of one state folder, without Dagster.

Commands and the doctor use these objects as they are; Dagster's resources (``financial_assets.resources``) are the
same classes with Dagster's configuration around them.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.installation.serving import ServingAccess
from financial_assets.installation.trading import TradingState
from financial_assets.market import calendar
from financial_assets.redaction import conceal, conceal_path
from financial_assets.settings import SECRET_PATHS, Settings

__all__ = [
    "ABTestState",
    "Installation",
    "MarketState",
    "ModelStore",
    "ServingAccess",
    "TradingState",
    "configure",
    "open_installation",
]


_Part = TypeVar("_Part", bound=BaseModel)


@dataclass(frozen=True)
class Installation:
    """The parts of one installation, and the settings that describe them."""

    settings: Settings
    market: MarketState
    models: ModelStore
    serving: ServingAccess
    ab_test: ABTestState
    trading: TradingState


def open_installation(settings: Settings) -> Installation:
    """The installation that ``settings`` describe; nothing is opened or created yet.

    From here on, this process works with the calendar of the settings.

    Raises
    ------
    SettingsError
        The serving target cannot be used with these settings, or with what is installed; or a variant does not exist.
    """
    calendar.use(settings.market_calendar)
    market, serving = configure(MarketState, settings), configure(ServingAccess, settings)
    serving.check()
    models = configure(ModelStore, settings, bayes_accuracy=market.bayes_accuracy)
    models.chosen_variants()
    ab_test, trading = configure(ABTestState, settings), configure(TradingState, settings)
    return Installation(settings, market, models, serving, ab_test, trading)


def configure(part: type[_Part], settings: Settings, **more: Any) -> _Part:
    """A part of the installation, with ``more`` and the settings that are called as its fields are.

    Values are of the kinds that Dagster's configuration knows. Dagster shows them in the browser and stores them with
    each run, so addresses come without their passwords; who opens the connection looks them up (``redaction.reveal``).
    """
    values = {name: getattr(settings, name) for name in part.model_fields if hasattr(settings, name)}
    for name, value in values.items():
        if isinstance(value, Path | dt.date):
            values[name] = str(value)
        elif isinstance(value, tuple):
            values[name] = list(value)
        elif name in SECRET_PATHS and value is not None:
            values[name] = conceal_path(value)
        elif name in _ADDRESSES and value is not None:
            values[name] = conceal(value)
    return part(**values, **more)


_ADDRESSES = ("log_url", "tracking_uri", "gitops_repository", "alertmanager_url", "smtp_url")
