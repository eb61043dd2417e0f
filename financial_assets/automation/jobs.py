"""The jobs: everything once, one session forward, retrained models, and studies of models on request."""

from __future__ import annotations

import dagster as dg

from financial_assets.automation.console import CONSOLE
from financial_assets.workflows.run_history import RETRAIN

_IN_PROCESS = {"in_process": {}}
"""Steps share one process by default: importing torch once saves more than running two steps at a time."""

ON_REQUEST = dg.AssetSelection.groups("search", "explanations", "walk_forward", "sessions")
"""What is made only when somebody asks for it."""

full_pipeline = dg.define_asset_job(
    "full_pipeline",
    selection=dg.AssetSelection.all() - ON_REQUEST,
    description="Everything once: prices, features, models, ONNX files, serving, a replay of past sessions, "
    "evaluation, signals and orders. The launchpad describes what one run may change (seed, epochs, sessions). "
    "Universe and variants are those of the state folder and its settings.",
    config={"execution": {"config": _IN_PROCESS}, "loggers": CONSOLE},
    tags={"dagster/max_runtime": 3600},
)

daily = dg.define_asset_job(
    "daily",
    selection=dg.AssetSelection.groups("market_data", "features", "evaluation", "monitoring", "signals", "trading")
    | dg.AssetSelection.assets("experiment"),
    description=(
        "One session forward: prices, features, predictions through the gateway, evaluation, drift, signals, the paper "
        "book and orders; then the market clock moves. With a live price source: all sessions since the last completed "
        "one. Only one run at "
        "a time: a second one waits in the queue, or ends at once when started from the command line."
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
        "Retrains models on all sessions up to the market clock. The new versions enter the experiment as challenger "
        "or shadow, and their evidence starts at zero. Launched by hand it retrains all variants, launched by a sensor "
        "only the degraded one."
    ),
    config={
        "execution": {"config": _IN_PROCESS},
        "loggers": CONSOLE,
        "ops": {"raw_prices": {"config": {"move_cutoff": True}}},
    },
    # dagster.yaml lets one run with this tag through the queue at a time.
    tags={"dagster/max_runtime": 3600, f"{RETRAIN}/lane": "single"},
)

search = dg.define_asset_job(
    "search",
    selection=dg.AssetSelection.groups("search"),
    description=(
        "Searches hyper-parameters of every variant, each for SEARCH_BUDGET minutes or SEARCH_TRIALS trials; goes on "
        "where an earlier search ended. It adopts nothing: it writes candidate files, which HYPERPARAMETERS may name."
    ),
    config={"execution": {"config": _IN_PROCESS}, "loggers": CONSOLE},
)

explain = dg.define_asset_job(
    "explain",
    selection=dg.AssetSelection.groups("explanations"),
    description=(
        "Explains the current training of every variant: what moves its answers, and when it is wrong. Trainings "
        "without a family of features are off by default; the configuration of an asset turns them on."
    ),
    config={"execution": {"config": _IN_PROCESS}, "loggers": CONSOLE},
)

walk_forward = dg.define_asset_job(
    "walk_forward",
    selection=dg.AssetSelection.groups("walk_forward"),
    description=(
        "Every model and reference model, fitted and judged fold by fold on the past up to the data cut-off, and the "
        "report over all folds. Without a partition: all folds, one after the other. With one, as in a backfill: that "
        "fold. Folds that are there are reused, so that an interrupted run goes on."
    ),
    config={"execution": {"config": _IN_PROCESS}, "loggers": CONSOLE},
    tags={"dagster/max_runtime": 12 * 3600},
)

past_sessions = dg.define_asset_job(
    "past_sessions",
    selection=dg.AssetSelection.groups("sessions"),
    description=(
        "Predictions in pairs, signals and scores of past sessions, a partition each: launch a backfill over the "
        "sessions that lack them. `daily` works off what was missed by itself."
    ),
    config={"execution": {"config": _IN_PROCESS}, "loggers": CONSOLE},
    tags={"dagster/max_runtime": 1800},
)
