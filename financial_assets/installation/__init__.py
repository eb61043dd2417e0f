"""What the settings describe: prices, models, experiment and serving target of one state folder, without Dagster.

Commands and the doctor use these objects as they are; Dagster's resources (``financial_assets.resources``) are the
same classes with Dagster's configuration around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.installation.serving import ServingAccess
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

    Dagster shows them in the browser and stores them with each run, so addresses come without their passwords; who
    opens the connection looks them up (``redaction.reveal``).
    """
    home = str(settings.home)
    return {
        "market": {
            "home": home,
            "price_source": settings.price_source,
            "tickers": list(settings.tickers),
            "price_files": settings.price_files,
            "start": _text(settings.ingestion_start_date),
            "end": _text(settings.ingestion_end_date),
            "quality_policy": settings.quality_policy,
            "quality_overrides": _text(settings.quality_overrides),
            "evaluation_share": settings.evaluation_share,
            "seed": settings.seed,
            "simulated_sessions": settings.simulated_sessions,
            "simulated_signal": settings.simulated_signal,
            "simulated_pattern": settings.simulated_pattern,
            "simulated_regime_shift": settings.simulated_regime_shift,
            "log_url": settings.log_url,
            "remembered": settings.remembered,
        },
        "models": {
            "home": home,
            "tracking_uri": conceal(settings.tracking_uri),
            "experiment": settings.mlflow_experiment_name,
            "sequence_length": settings.sequence_length,
            "seed": settings.seed,
            "device": settings.device,
            "progress": settings.progress,
        },
        "serving": {
            "home": home,
            "target_name": settings.serving_target,
            "request_timeout": settings.request_timeout,
            "ready_timeout": settings.ready_timeout,
            "store_uri": settings.artifact_store_uri,
            "store_secret": settings.artifact_store_secret,
            "gateway_url": settings.serving_gateway_url,
            "gateway_grpc": settings.gateway_grpc,
            "context": settings.kubernetes_context,
            "namespace": settings.kubernetes_namespace,
            "repository": settings.gitops_repository and conceal(settings.gitops_repository),
            "branch": settings.gitops_branch,
            "path": settings.gitops_path,
            "tracking_uri": settings.tracking_uri,
        },
        "ab_test": {
            "home": home,
            "log_url": conceal(settings.log_url),
            "policy_path": _text(settings.rollout_policy),
            "replay_sessions": settings.replay_sessions,
            "workers": settings.replay_workers,
            "cost_bps": settings.cost_bps,
            "progress": settings.progress,
            "business_aum": settings.business_aum,
            "business_horizon_sessions": settings.business_horizon_sessions,
            "business_latency_cost_per_ms": settings.business_latency_cost_per_ms,
            "business_implementation_cost": settings.business_implementation_cost,
        },
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)
