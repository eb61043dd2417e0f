"""The job ``daily`` with its real first and last assets; what takes a serving plane is stood for by assets that note.

Each asset between them notes the session that it saw. ``predictions`` waits while the file ``hold`` is there, and
``rollout`` fails while ``fail`` is.
"""

import os
import time
from pathlib import Path

import dagster as dg

from financial_assets.assets.evaluation import PredictionsConfig
from financial_assets.assets.market import price_panel, raw_prices
from financial_assets.assets.signals import completed_session
from financial_assets.automation.console import console_logger
from financial_assets.automation.jobs import daily
from financial_assets.resources import Market

HOME = Path(os.environ["DAILY_WORLD"])


def note(context: dg.AssetExecutionContext, market: Market) -> None:
    with (HOME / "notes").open("a") as notes:
        notes.write(f"{context.run.run_id} {context.asset_key.to_user_string()} {market.clock().now():%Y-%m-%d}\n")


@dg.asset(deps=[price_panel])
def experiment(context: dg.AssetExecutionContext, market: Market) -> None:
    note(context, market)


@dg.asset(deps=[experiment], group_name="evaluation")
def predictions(context: dg.AssetExecutionContext, config: PredictionsConfig, market: Market) -> None:
    note(context, market)
    (HOME / "reached").touch()
    while (HOME / "hold").exists():
        time.sleep(0.05)


@dg.asset(deps=[predictions], group_name="signals")
def daily_signals(context: dg.AssetExecutionContext, market: Market) -> None:
    note(context, market)


@dg.asset(deps=[daily_signals], group_name="evaluation")
def rollout(context: dg.AssetExecutionContext, market: Market) -> None:
    note(context, market)
    if (HOME / "fail").exists():
        raise RuntimeError("the rollout fails")


def market() -> Market:
    return Market(
        home=str(HOME / "home"),
        price_source="simulated",
        tickers=["AAA"],
        evaluation_share=0.2,
        seed=3,
        simulated_sessions=300,
        simulated_signal=0.2,
    )


defs = dg.Definitions(
    assets=[raw_prices, price_panel, experiment, predictions, daily_signals, rollout, completed_session],
    jobs=[daily],
    resources={"market": market()},
    loggers={"console": console_logger},
)
