"""Settings to domain objects: the resources that assets ask for by name."""

from __future__ import annotations

from typing import Any

from financial_assets.redaction import conceal
from financial_assets.resources.ab_test import ABTest
from financial_assets.resources.market import Market
from financial_assets.resources.models import Models
from financial_assets.resources.retraining import Retraining
from financial_assets.resources.serving import Serving
from financial_assets.settings import Settings

__all__ = ["ABTest", "Market", "Models", "Retraining", "Serving", "make_resources"]


def make_resources(settings: Settings) -> dict[str, Any]:
    """All resources of the graph, by the name that assets ask for.

    Dagster shows their values in the browser and stores them with each run, so addresses are handed over without
    their passwords; who opens the connection looks them up (``redaction.reveal``).
    """
    home = str(settings.home)
    market = _market(settings, home)
    serving = _serving(settings, home)
    serving.check()  # a target that cannot be had is told now, not after the training
    return {
        "market": market,
        "models": Models(
            home=home,
            tracking_uri=conceal(settings.tracking_uri),
            experiment=settings.mlflow_experiment_name,
            sequence_length=settings.sequence_length,
            seed=settings.seed,
            device=settings.device,
            progress=settings.progress,
            bayes_accuracy=market.bayes_accuracy,
        ),
        "serving": serving,
        "ab_test": ABTest(
            home=home,
            log_url=conceal(settings.log_url),
            policy_path=_text(settings.rollout_policy),
            replay_sessions=settings.replay_sessions,
            workers=settings.replay_workers,
            cost_bps=settings.cost_bps,
            progress=settings.progress,
            business_aum=settings.business_aum,
            business_horizon_sessions=settings.business_horizon_sessions,
            business_latency_cost_per_ms=settings.business_latency_cost_per_ms,
            business_implementation_cost=settings.business_implementation_cost,
        ),
        "retraining": Retraining(
            alertmanager_url=settings.alertmanager_url and conceal(settings.alertmanager_url),
            cooldown_hours=settings.retrain_cooldown_hours,
            max_attempts=settings.retrain_max_attempts,
            sensor_interval_s=settings.sensor_interval,
        ),
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _market(settings: Settings, home: str) -> Market:
    return Market(
        home=home,
        price_source=settings.price_source,
        tickers=list(settings.tickers),
        price_files=settings.price_files,
        start=_text(settings.ingestion_start_date),
        end=_text(settings.ingestion_end_date),
        evaluation_share=settings.evaluation_share,
        seed=settings.seed,
        simulated_sessions=settings.simulated_sessions,
        simulated_signal=settings.simulated_signal,
        simulated_pattern=settings.simulated_pattern,
        simulated_regime_shift=settings.simulated_regime_shift,
        log_url=settings.log_url,
    )


def _serving(settings: Settings, home: str) -> Serving:
    return Serving(
        home=home,
        target_name=settings.serving_target,
        request_timeout=settings.request_timeout,
        ready_timeout=settings.ready_timeout,
        store_uri=settings.artifact_store_uri,
        store_secret=settings.artifact_store_secret,
        gateway_url=settings.serving_gateway_url,
        gateway_grpc=settings.gateway_grpc,
        context=settings.kubernetes_context,
        namespace=settings.kubernetes_namespace,
        repository=settings.gitops_repository and conceal(settings.gitops_repository),
        branch=settings.gitops_branch,
        path=settings.gitops_path,
        tracking_uri=settings.tracking_uri,
    )
