"""Settings to domain objects: the resources that assets ask for by name."""

from __future__ import annotations

from typing import Any

from financial_assets.installation import configure
from financial_assets.redaction import conceal
from financial_assets.resources.configured import ABTest, Market, Models, Serving
from financial_assets.resources.retraining import Retraining
from financial_assets.settings import Settings

__all__ = ["ABTest", "Market", "Models", "Retraining", "Serving", "make_resources"]


def make_resources(settings: Settings) -> dict[str, Any]:
    """All resources of the graph, by the name that assets ask for; see ``installation.configure`` for their values."""
    values = configure(settings)
    market, serving = Market(**values["market"]), Serving(**values["serving"])
    serving.check()  # a target that cannot be used is reported now, not after the training
    return {
        "market": market,
        "models": Models(**values["models"], bayes_accuracy=market.bayes_accuracy),
        "serving": serving,
        "ab_test": ABTest(**values["ab_test"]),
        "retraining": Retraining(
            alertmanager_url=settings.alertmanager_url and conceal(settings.alertmanager_url),
            cooldown_hours=settings.retrain_cooldown_hours,
            max_attempts=settings.retrain_max_attempts,
        ),
    }
