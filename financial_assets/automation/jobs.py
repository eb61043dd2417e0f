"""The jobs: everything once, or one session forward."""

from __future__ import annotations

import dagster as dg

from financial_assets.automation.console import CONSOLE

__all__ = ["daily", "full_pipeline"]

_IN_PROCESS = {"in_process": {}}
"""Steps share one process unless a run says otherwise: importing torch once beats running two steps at a time."""

full_pipeline = dg.define_asset_job(
    "full_pipeline",
    selection=dg.AssetSelection.all(),
    description="Prices, features, models, artefacts, serving, replay, evaluation and signals, once.",
    executor_def=dg.multi_or_in_process_executor,
    config={"execution": {"config": _IN_PROCESS}, "loggers": CONSOLE},
    tags={"dagster/max_runtime": 3600},
)

daily = dg.define_asset_job(
    "daily",
    selection=dg.AssetSelection.groups("market_data", "features", "evaluation", "monitoring", "signals")
    | dg.AssetSelection.assets("experiment"),
    description="One session forward: prices, features, predictions through the gateway, evaluation, drift, signals.",
    executor_def=dg.multi_or_in_process_executor,
    config={
        "execution": {"config": _IN_PROCESS},
        "loggers": CONSOLE,
        "ops": {
            "raw_prices": {"config": {"advance_sessions": 1}},
            "predictions": {"config": {"replay": False}},
        },
    },
    tags={"dagster/max_runtime": 1800},
)
