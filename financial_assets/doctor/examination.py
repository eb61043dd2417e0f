"""The order of the layers, and what each needs."""

from __future__ import annotations

from dataclasses import dataclass

from financial_assets.doctor.files import check_state_files
from financial_assets.doctor.runs import check_dagster, end_tracked_runs
from financial_assets.doctor.served import check_served_files
from financial_assets.doctor.serving import check_attribution, check_gateway, check_routing, check_target, mend
from financial_assets.doctor.stores import (
    check_artefacts,
    check_log,
    check_price_store,
    check_registry,
    check_state_folder,
)
from financial_assets.doctor.walk import RUN, Checked, Finding, Walk, materialize
from financial_assets.resources import ABTest, Market, Models, Serving, make_resources
from financial_assets.settings import Settings, load_settings

__all__ = ["Installation", "check_settings", "examine"]


@dataclass(frozen=True)
class Installation:
    """What the settings describe; ``experiment`` is the name in the rollout policy."""

    settings: Settings
    market: Market
    workshop: Models
    serving: Serving
    experiment: str
    ab_test: ABTest


def check_settings() -> Checked[Installation]:
    """The environment makes valid settings, and the rollout policy can be read."""
    settings = load_settings()
    made = make_resources(settings)
    ab_test: ABTest = made["ab_test"]
    experiment = ab_test.policy().experiment
    said = f"{len(settings.tickers)} tickers from {settings.price_source}, served by {settings.serving_target}"
    return Checked(Installation(settings, made["market"], made["workshop"], made["serving"], experiment, ab_test), said)


def examine() -> tuple[Finding, ...]:
    """Walk the layers of the installation that the environment describes: one finding a layer, in order.

    The prediction log comes before what it is needed for: it holds the rollout state, which says what the arms are.
    """
    walk = Walk()
    found = walk.step("settings", "set or unset the variable that is named (docs/settings.md)", check_settings)
    home = walk.step("state folder", "set FINANCIAL_ASSETS_HOME", lambda i: check_state_folder(i.settings.home), found)
    walk.step("Dagster", "set DAGSTER_HOME", lambda _: check_dagster(), found)
    bars = walk.step("price store", RUN, lambda i, _: check_price_store(i.market), found, home)
    versions = walk.step(
        "MLflow",
        "set MLFLOW_TRACKING_URI",
        lambda i, _: end_tracked_runs(check_registry(i.settings.tracking_uri), i.workshop.tracker()),
        *(found, home),
    )
    log = walk.step(
        "prediction log",
        "set PREDICTION_LOG_URL",
        lambda i, _: check_log(i.settings.log_url, i.experiment),
        *(found, home),
    )
    walk.step(
        "artefacts",
        RUN,
        lambda i, log, versions, bars: check_artefacts(i.workshop.folder, log.epoch.arms, versions, bars),
        *(found, log, versions, bars),
    )
    walk.step("state files", RUN, lambda i, _: check_state_files(i.market, i.workshop, i.ab_test), found, home)
    walk.step(
        "served files",
        "`financial-assets serve`",
        lambda i, _: check_served_files(i.settings.home, i.settings.serving_target),
        *(found, home),
    )
    remedy = mend(found.checked.value.settings.serving_target) if found.checked else ""
    status = walk.step("serving target", remedy, lambda i, _: check_target(i.serving.target().status()), found, home)
    gateway = walk.step(
        "gateway",
        remedy,
        lambda i, status, bars: check_gateway(i.serving.connect, status, bars),
        *(found, status, bars),
    )
    route = walk.step(
        "routing",
        materialize("experiment"),
        lambda i, status, log, bars, _: check_routing(i.serving.connect, status, log.epoch, bars),
        *(found, status, log, bars, gateway),
    )
    walk.step("attribution", remedy, check_attribution, route, versions, log)
    return tuple(walk.findings)
