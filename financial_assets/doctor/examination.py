"""The order of the layers, and what each needs."""

from __future__ import annotations

from financial_assets.doctor import stores
from financial_assets.doctor.runs import check_dagster, end_tracked_runs
from financial_assets.doctor.served import check_served_files
from financial_assets.doctor.serving import check_attribution, check_gateway, check_routing, check_target, remedy_for
from financial_assets.doctor.trading import check_trading
from financial_assets.doctor.walk import RUN, Checked, Finding, LayerError, Walk, materialize
from financial_assets.errors import MarketDataError
from financial_assets.installation import ABTestState, Installation, MarketState, ModelStore, open_installation
from financial_assets.settings import load_settings


def check_settings() -> Checked[Installation]:
    """The environment makes valid settings; the rollout policy and the tables that they name can be read."""
    settings = load_settings()
    installation = open_installation(settings)
    installation.ab_test.policy()
    try:
        installation.market.universe()
        installation.market.covariate_channels()
    except MarketDataError as error:
        raise LayerError(str(error), "correct the file, or the setting, that is named") from error
    detail = f"{len(settings.tickers)} tickers from {settings.price_source}, served by {settings.serving_target}"
    problem = installation.models.adoption_problem()
    if problem:
        return Checked(installation, f"{detail}; {problem}", "correct HYPERPARAMETERS, or the file that it names")
    unasked = installation.ab_test.too_few_tickers(len(installation.market.tickers))
    if unasked:
        return Checked(installation, "; ".join((detail, *unasked)), "set TICKERS, or correct ROLLOUT_POLICY")
    return Checked(installation, detail)


def examine() -> tuple[Finding, ...]:
    """Walk the layers of the installation that the environment describes: one finding per layer, in order.

    The prediction log comes before the artefacts, because it holds the rollout state, which names the arms.
    """
    walk = Walk()
    walk.step("settings", "set or unset the variable that is named (docs/settings.md)", check_settings)
    set_home = "set FINANCIAL_ASSETS_HOME"
    walk.step("state folder", set_home, lambda i: stores.check_state_folder(i.settings.home), "settings")
    walk.step("Dagster", "set DAGSTER_HOME", lambda _: check_dagster(), "settings")
    state = ("settings", "state folder")
    walk.step("price store", RUN, lambda i, _: stores.check_price_store(i.market), *state)
    walk.step(
        "MLflow",
        "set MLFLOW_TRACKING_URI",
        lambda i, _: end_tracked_runs(stores.check_registry(i.settings.tracking_uri), i.models.tracker()),
        *state,
    )
    walk.step(
        "prediction log",
        "set PREDICTION_LOG_URL",
        lambda i, _: stores.check_log(i.settings.log_url, i.ab_test.policy().experiment),
        *state,
    )
    walk.step(
        "artefacts",
        RUN,
        lambda i, log, versions, bars: stores.check_artefacts(i.models.folder, log.epoch.arms, versions, bars),
        *("settings", "prediction log", "MLflow", "price store"),
    )
    walk.step("state files", RUN, lambda i, _: _check_state_files(i.market, i.models, i.ab_test), *state)
    walk.step(
        "served files",
        "`financial-assets serve`",
        lambda i, _: check_served_files(i.settings.home, i.settings.serving_target),
        *state,
    )
    walk.step("trading", RUN, lambda i, _: check_trading(i), *state)
    installation = walk.values.get("settings")
    remedy = remedy_for(installation.settings.serving_target) if installation else ""
    walk.step("serving target", remedy, lambda i, _: check_target(i.serving.target().status()), *state)
    walk.step(
        "gateway",
        remedy,
        lambda i, status, bars: check_gateway(i.serving.connect, status, bars),
        *("settings", "serving target", "price store"),
    )
    walk.step(
        "routing",
        materialize("experiment"),
        lambda i, status, log, bars, _: check_routing(i.serving.connect, status, log.epoch, bars),
        *("settings", "serving target", "prediction log", "price store", "gateway"),
    )
    walk.step("attribution", remedy, check_attribution, "routing", "MLflow", "prediction log")
    walk.step(
        "alerts",
        "",
        lambda i, _log, _bars: _check_alerts(i),
        *("settings", "prediction log", "price store"),
    )
    return tuple(walk.findings)


def _check_state_files(market: MarketState, models: ModelStore, ab_test: ABTestState) -> Checked[None]:
    # Reads trained networks: torch is imported when this layer is reached, not for a fault in one before it.
    from financial_assets.doctor.files import check_state_files

    return check_state_files(market, models, ab_test)


def _check_alerts(installation: Installation) -> Checked[None]:
    # Intervals need scipy: imported when this layer is reached.
    from financial_assets.api.local import running_url
    from financial_assets.doctor.alerts import check_alerts
    from financial_assets.workflows.exported_state import state_sources

    settings, halted = installation.settings, installation.trading.switch.halt_in_force()
    return check_alerts(
        settings.log_url,
        installation.market.panel,
        state=state_sources(installation),
        interface=running_url(settings.home),
        halted="" if halted is None else halted.sentence,
    )
