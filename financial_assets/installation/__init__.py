"""What the settings describe: prices, models, experiment and serving target of one state folder, without Dagster.

Commands and the doctor use these objects as they are; Dagster's resources (``financial_assets.resources``) are the
same classes with Dagster's configuration around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.installation.serving import ServingAccess
from financial_assets.market import calendar
from financial_assets.redaction import conceal
from financial_assets.settings import Settings

__all__ = [
    "ABTestState",
    "Installation",
    "MarketState",
    "ModelStore",
    "ServingAccess",
    "configure",
    "open_installation",
]


@dataclass(frozen=True)
class Installation:
    """The parts of one installation, and the settings that describe them."""

    settings: Settings
    market: MarketState
    models: ModelStore
    serving: ServingAccess
    ab_test: ABTestState


def open_installation(settings: Settings) -> Installation:
    """The installation that ``settings`` describe; nothing is opened or created yet.

    Raises
    ------
    SettingsError
        The serving target cannot be used with these settings, or with what is installed.
    """
    values = configure(settings)
    market, serving = MarketState(**values["market"]), ServingAccess(**values["serving"])
    serving.check()
    models = ModelStore(**values["models"], bayes_accuracy=market.bayes_accuracy)
    return Installation(settings, market, models, serving, ABTestState(**values["ab_test"]))


def configure(settings: Settings) -> dict[str, dict[str, Any]]:
    """Constructor values of ``market``, ``models``, ``serving`` and ``ab_test``.

    From here on, this process works with the calendar of the settings.

    Dagster shows them in the browser and stores them with each run, so addresses come without their passwords; who
    opens the connection looks them up (``redaction.reveal``).
    """
    calendar.use(settings.market_calendar)
    return {
        "market": _values(
            MarketState,
            settings,
            start=_text(settings.ingestion_start_date),
            end=_text(settings.ingestion_end_date),
            universe_file=_text(settings.universe_file),
            quality_overrides=_text(settings.quality_overrides),
        ),
        "models": _values(ModelStore, settings, experiment=settings.mlflow_experiment_name),
        "serving": _values(
            ServingAccess,
            settings,
            target_name=settings.serving_target,
            store_uri=settings.artifact_store_uri,
            store_secret=settings.artifact_store_secret,
            gateway_url=settings.serving_gateway_url,
            context=settings.kubernetes_context,
            namespace=settings.kubernetes_namespace,
            repository=settings.gitops_repository and conceal(settings.gitops_repository),
            branch=settings.gitops_branch,
            path=settings.gitops_path,
        ),
        "ab_test": _values(
            ABTestState, settings, policy_path=_text(settings.rollout_policy), workers=settings.replay_workers
        ),
    }


def _values(part: type[BaseModel], settings: Settings, **renamed: Any) -> dict[str, Any]:
    """Values for the fields of ``part``: ``renamed``, and the settings that are called as the field is."""
    converted = {
        "home": str(settings.home),
        "tickers": list(settings.tickers),
        "covariates": list(settings.covariates),
        "log_url": conceal(settings.log_url),
        "tracking_uri": conceal(settings.tracking_uri),
    }
    same = {name: getattr(settings, name) for name in part.model_fields if hasattr(settings, name)}
    return same | {name: value for name, value in converted.items() if name in part.model_fields} | renamed


def _text(value: object) -> str | None:
    return None if value is None else str(value)
