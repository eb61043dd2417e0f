"""Settings to domain objects: the resources that assets ask for by name."""

from __future__ import annotations

from typing import Any

from financial_assets.installation import configure
from financial_assets.market import calendar
from financial_assets.resources.configured import ABTest, Market, Models, Serving, Trading
from financial_assets.resources.notifications import Notifications
from financial_assets.resources.pipeline_run import PipelineTracking
from financial_assets.resources.retraining import Retraining
from financial_assets.settings import Settings

__all__ = [
    "ABTest",
    "Market",
    "Models",
    "Notifications",
    "PipelineTracking",
    "Retraining",
    "Serving",
    "Trading",
    "make_resources",
]


def make_resources(settings: Settings) -> dict[str, Any]:
    """All resources of the graph, by the name that assets ask for; see ``installation.configure`` for their values."""
    calendar.use(settings.market_calendar)
    market, serving = configure(Market, settings), configure(Serving, settings)
    serving.check()  # a target that cannot be used is reported now, not after the training
    models = configure(Models, settings, bayes_accuracy=market.bayes_accuracy)
    models.chosen_variants()
    return {
        "market": market,
        "models": models,
        "serving": serving,
        "ab_test": configure(ABTest, settings),
        "trading": configure(Trading, settings),
        "mlflow": configure(PipelineTracking, settings),
        "retraining": configure(Retraining, settings),
        "notifications": configure(Notifications, settings),
    }
