"""The one Definitions object, written out in full."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import dagster as dg

from financial_assets.assets.artifacts import artifact_assets
from financial_assets.assets.evaluation import ab_evaluation, predictions
from financial_assets.assets.features import features
from financial_assets.assets.market import freshness_policy, price_panel, raw_prices
from financial_assets.assets.monitoring import drift
from financial_assets.assets.rollout import rollout
from financial_assets.assets.serving import experiment, predictor_assets
from financial_assets.assets.signals import completed_session, daily_signals
from financial_assets.assets.training import baselines, model_assets
from financial_assets.assets.walk_forward import make_walk_forward_assets
from financial_assets.automation.console import console_logger
from financial_assets.automation.executor import make_owning_executor
from financial_assets.automation.freshness import watch_prices
from financial_assets.automation.jobs import daily, full_pipeline, retrain, walk_forward
from financial_assets.automation.schedules import make_daily_schedule
from financial_assets.automation.sensors import make_retrain_sensors
from financial_assets.folders import tighten
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings

_settings = load_settings()
_resources = make_resources(_settings)
# The policy follows the calendar of the settings, which is known only now.
_raw_prices = dg.map_asset_specs(
    lambda spec: spec.replace_attributes(freshness_policy=freshness_policy()), [raw_prices]
)

# Earlier versions made these folders readable by everybody, though they hold prices, models and run logs. Dagster takes
# `.dagster` from the current folder of each process; earlier processes may have used that of DAGSTER_HOME.
for _folder in (_settings.home, Path(".dagster"), Path(os.environ.get("DAGSTER_HOME") or ".") / ".dagster"):
    _tightened = tighten(_folder)
    if _tightened:
        logging.getLogger("financial_assets").warning(_tightened)

defs = dg.Definitions(
    assets=[
        *_raw_prices,
        price_panel,
        features,
        *model_assets,
        baselines,
        *artifact_assets,
        *predictor_assets,
        experiment,
        predictions,
        ab_evaluation,
        rollout,
        drift,
        daily_signals,
        completed_session,
        *make_walk_forward_assets(_resources["models"].fold_plan()),
    ],
    jobs=[full_pipeline, daily, retrain, walk_forward],
    schedules=[make_daily_schedule()],
    sensors=[*make_retrain_sensors(_settings.sensor_interval), watch_prices],
    resources=_resources,
    loggers={"console": console_logger},
    executor=make_owning_executor(_resources["models"].tracker),  # of the jobs, and of assets by themselves
)
