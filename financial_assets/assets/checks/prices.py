"""Checks of raw_prices: of what a source delivers, before it is stored; and by themselves, of what is stored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import dagster as dg
import pandas as pd

from financial_assets.errors import MarketDataError
from financial_assets.market.freshness import overdue
from financial_assets.market.ingestion import Ingestion
from financial_assets.market.quality import QualityResult
from financial_assets.market.quality.checks import RULES
from financial_assets.metadata import findings, quality_metadata
from financial_assets.resources import Market

RAW_PRICES = dg.AssetKey("raw_prices")
PRICE_CHECKS = ("schema", "duplicates", "ohlc_order", "impossible_values", "completeness", "consistency")
"""Checks of single bars. Bars that fail one are left out; with QUALITY_POLICY=strict they stop the run."""

FRESH = "fresh"
"""Check of the prices' age; the sensor ``watch_prices`` evaluates it between runs."""

_SHOWN = 5
"""Overdue sessions that are named."""


def _sentence(name: str) -> str:
    return RULES[name][0].upper() + RULES[name][1:]


_DELIVERY = "Every ticker was delivered"
CHECK_SPECS = [
    *(dg.AssetCheckSpec(name, asset=RAW_PRICES, blocking=True, description=_sentence(name)) for name in PRICE_CHECKS),
    dg.AssetCheckSpec(
        "extreme_moves",
        asset=RAW_PRICES,
        description=f"{_sentence('extreme_moves')}: possible but rare, look at them",
    ),
    dg.AssetCheckSpec(FRESH, asset=RAW_PRICES, description="Prices of no session are overdue by the calendar"),
    dg.AssetCheckSpec(
        "delivery",
        asset=RAW_PRICES,
        blocking=True,
        description=f"{_DELIVERY}. Executed without raw_prices, nobody asks the source: every ticker has stored bars",
    ),
]


def fresh_check(late: pd.DatetimeIndex, updated: pd.Timestamp) -> dg.AssetCheckResult:
    """The result of the check ``fresh``: sessions whose prices are overdue, and when prices were last updated (UTC)."""
    message = "no session is overdue"
    if len(late):
        days = ", ".join(f"{day:%Y-%m-%d}" for day in late[-_SHOWN:])
        message = (
            f"the prices of these sessions are overdue: {days}{' and earlier ones' if len(late) > _SHOWN else ''}; the "
            f"last update was on {updated:%Y-%m-%d %H:%M} UTC. Is the Dagster daemon running and the schedule "
            "daily_after_close on? Run the job `daily`"
        )
    return dg.AssetCheckResult(
        check_name=FRESH, passed=not len(late), severity=dg.AssetCheckSeverity.ERROR, description=message
    )


def stored_price_checks(context: dg.AssetExecutionContext, market: Market) -> Iterator[dg.AssetCheckResult]:
    """All checks of what is stored; the source is not asked."""
    selected = {key.name for key in context.selected_asset_check_keys}
    if selected - {"delivery", FRESH}:
        yield from map(_quality_result, market.judge_stored())
    absent = market.without_bars()
    failures = pd.DataFrame({"ticker": absent, "problem": "the store holds no bar of it"})
    yield _delivery_result(failures, len(market.tickers), is_error=market.quality_policy == "strict")
    if FRESH in selected:
        yield _stored_freshness(context.instance)


def _stored_freshness(instance: dg.DagsterInstance) -> dg.AssetCheckResult:
    latest = instance.get_latest_materialization_event(RAW_PRICES)
    if latest is None:
        raise MarketDataError(
            "this Dagster instance has no run of raw_prices, so that the age of its prices is not known: materialize "
            "raw_prices"
        )
    updated = pd.Timestamp(latest.timestamp, unit="s", tz="UTC")
    return fresh_check(overdue(updated, pd.Timestamp(dt.datetime.now(dt.UTC))), updated)


def ingestion_checks(ingestion: Ingestion, tickers: int, is_strict: bool) -> Iterator[dg.AssetCheckResult]:
    """All checks of a delivery but ``fresh``."""
    for result in ingestion.quality:
        yield _quality_result(result)
    failures = pd.DataFrame({"ticker": list(ingestion.failures), "problem": list(ingestion.failures.values())})
    yield _delivery_result(failures, tickers, is_error=bool(ingestion.never_delivered) and is_strict)


def _quality_result(result: QualityResult) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=result.name,
        passed=result.passed,
        severity=dg.AssetCheckSeverity.ERROR if result.blocking else dg.AssetCheckSeverity.WARN,
        description=findings(result.checked, result.failures),
        metadata=quality_metadata(result.description, result.checked, result.failures),
    )


def _delivery_result(failures: pd.DataFrame, tickers: int, *, is_error: bool) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="delivery",
        passed=failures.empty,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=f"{tickers - len(failures)} of {tickers} tickers",
        metadata=quality_metadata(_DELIVERY, tickers, failures),
    )
