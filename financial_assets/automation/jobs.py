"""The jobs: everything once, one session forward, or a new generation of models."""

from __future__ import annotations

import dagster as dg

from financial_assets.automation.console import CONSOLE
from financial_assets.workflows.run_history import RETRAIN

__all__ = ["daily", "full_pipeline", "retrain"]

_IN_PROCESS = {"in_process": {}}
"""Steps share one process unless a run says otherwise: importing torch once beats running two steps at a time."""

full_pipeline = dg.define_asset_job(
    "full_pipeline",
    selection=dg.AssetSelection.all(),
    description="Prices, features, models, artefacts, serving, replay, evaluation and signals, once.",
    config={"execution": {"config": _IN_PROCESS}, "loggers": CONSOLE},
    tags={"dagster/max_runtime": 3600},
)

daily = dg.define_asset_job(
    "daily",
    selection=dg.AssetSelection.groups("market_data", "features", "evaluation", "monitoring", "signals")
    | dg.AssetSelection.assets("experiment"),
    description=(
        "One session forward: prices, features, predictions through the gateway, evaluation, drift, signals; then the "
        "market clock. A live source: all sessions since the last complete one. One at a time: a second one waits in "
        "the queue, and from the command line it ends at once."
    ),
    config={
        "execution": {"config": _IN_PROCESS},
        "loggers": CONSOLE,
        "ops": {
            "raw_prices": {"config": {"advance_sessions": 1}},
            "predictions": {"config": {"replay": False}},
        },
    },
    # dagster.yaml lets one run with this tag through the queue at a time.
    tags={"dagster/max_runtime": 1800, "daily/lane": "single"},
)

retrain = dg.define_asset_job(
    RETRAIN,
    selection=dg.AssetSelection.groups("market_data", "features", "training", "artifacts", "serving"),
    description=(
        "New versions, trained on everything up to the market clock; they enter the experiment as challenger or shadow "
        "and their evidence starts at zero. All variants by hand, the degraded one by a sensor."
    ),
    config={
        "execution": {"config": _IN_PROCESS},
        "loggers": CONSOLE,
        "ops": {"raw_prices": {"config": {"move_cutoff": True}}},
    },
    # dagster.yaml lets one run with this tag through the queue at a time.
    tags={"dagster/max_runtime": 3600, f"{RETRAIN}/lane": "single"},
)
