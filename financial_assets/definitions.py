"""The one Definitions object, written out in full."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import dagster as dg

from financial_assets.assets.artifacts import make_artifact_asset
from financial_assets.assets.evaluation import ab_evaluation, predictions
from financial_assets.assets.explanations import make_explanation_asset
from financial_assets.assets.external import make_external_asset
from financial_assets.assets.features import features
from financial_assets.assets.market import freshness_policy, price_panel, raw_prices
from financial_assets.assets.monitoring import drift
from financial_assets.assets.rollout import rollout
from financial_assets.assets.search import make_search_asset
from financial_assets.assets.serving import make_experiment_asset, make_predictor_asset
from financial_assets.assets.sessions import session_evaluation, session_predictions, session_signals
from financial_assets.assets.signals import completed_session, daily_signals
from financial_assets.assets.trading.orders import orders
from financial_assets.assets.trading.paper_book import paper_book
from financial_assets.assets.training import make_model_asset, reference_models
from financial_assets.assets.walk_forward import make_walk_forward_assets
from financial_assets.automation.conditions import AFTER_A_NEW_MODEL, AFTER_NEW_FOLDS, with_condition
from financial_assets.automation.conditions import SENSORS as CONDITION_SENSORS
from financial_assets.automation.console import console_logger
from financial_assets.automation.executor import make_owning_executor
from financial_assets.automation.freshness import watch_prices
from financial_assets.automation.jobs import (
    daily,
    explain,
    full_pipeline,
    past_sessions,
    retrain,
    search,
    walk_forward,
)
from financial_assets.automation.notifications import make_notify_sensors
from financial_assets.automation.schedules import make_daily_schedule
from financial_assets.automation.sensors import make_retrain_sensors
from financial_assets.folders import tighten
from financial_assets.metadata import with_source
from financial_assets.models.search.space import SPACES
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings

_settings = load_settings()
_resources = make_resources(_settings)
_variants = _resources["models"].chosen_variants()
model_assets = [make_model_asset(variant) for variant in _variants]
artifact_assets = [make_artifact_asset(*made) for made in zip(_variants, model_assets, strict=True)]
predictor_assets = [make_predictor_asset(*made) for made in zip(_variants, artifact_assets, strict=True)]
_external = _resources["models"].external()
external_assets = [make_external_asset(model) for model in _external]
experiment = make_experiment_asset(
    [*predictor_assets, *external_assets], {made.name for made in (*_variants, *_external)}
)
explanation_assets = with_condition(
    [make_explanation_asset(*made) for made in zip(_variants, model_assets, strict=True)], AFTER_A_NEW_MODEL
)
*_fold_assets, _fold_report = make_walk_forward_assets(
    [variant.name for variant in _variants], _resources["models"].fold_plan()
)
search_assets = [make_search_asset(variant) for variant in _variants if variant.network in SPACES]
# Made anew each session. The policy follows the calendar of the settings, which is known only now.
_fresh = freshness_policy()
_daily_assets = dg.map_asset_specs(
    lambda spec: spec.replace_attributes(freshness_policy=_fresh), [raw_prices, features, predictions, daily_signals]
)

# Earlier versions made these folders readable by everybody, though they hold prices, models and run logs. Dagster takes
# `.dagster` from the current folder of each process; earlier processes may have used that of DAGSTER_HOME.
for _folder in (_settings.home, Path(".dagster"), Path(os.environ.get("DAGSTER_HOME") or ".") / ".dagster"):
    _tightened = tighten(_folder)
    if _tightened:
        logging.getLogger("financial_assets").warning(_tightened)

# Only a warning: the state folder remembers the file, and when that is gone, signals must still be made. Each training
# refuses it.
_adoption_problem = _resources["models"].adoption_problem()
if _adoption_problem:
    logging.getLogger("financial_assets").warning(_adoption_problem)

defs = dg.Definitions(
    assets=with_source(
        [
            *_daily_assets,
            price_panel,
            *model_assets,
            reference_models,
            *artifact_assets,
            *predictor_assets,
            *external_assets,
            experiment,
            ab_evaluation,
            rollout,
            drift,
            paper_book,
            orders,
            completed_session,
            session_predictions,
            session_signals,
            session_evaluation,
            *search_assets,
            *explanation_assets,
            *_fold_assets,
            *with_condition([_fold_report], AFTER_NEW_FOLDS),
        ]
    ),
    jobs=[full_pipeline, daily, retrain, past_sessions, walk_forward, explain, *([search] if search_assets else [])],
    schedules=[make_daily_schedule()],
    sensors=[
        *make_retrain_sensors(_settings.sensor_interval),
        watch_prices,
        *CONDITION_SENSORS,
        *make_notify_sensors(_settings.sensor_interval, _resources["notifications"].channels()),
    ],
    resources=_resources,
    loggers={"console": console_logger},
    # of the jobs, and of assets by themselves
    executor=make_owning_executor(_resources["models"].tracker, _settings.dagster_ui_url),
)
