"""A watch over the prices: sessions whose update is overdue by the calendar fail the check ``fresh`` of raw_prices."""

from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from financial_assets.assets.market import FRESH, fresh_check
from financial_assets.market.freshness import overdue

__all__ = ["watch_prices"]

_RAW_PRICES = dg.AssetKey("raw_prices")


@dg.sensor(
    minimum_interval_seconds=600,
    description="Fails the check `fresh` of raw_prices when the prices of a session are overdue, whatever ran or not.",
)
def watch_prices(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """One result for each set of overdue sessions, and one when they are no longer overdue."""
    latest = context.instance.get_latest_materialization_event(_RAW_PRICES)
    if latest is None:
        return dg.SkipReason("raw_prices was never materialized")
    updated = pd.Timestamp(latest.timestamp, unit="s", tz="UTC")
    late = overdue(updated, pd.Timestamp(datetime.now(UTC)))
    result = fresh_check(late, updated)
    said = result.description or ""
    if said == (context.cursor or fresh_check(late[:0], updated).description):
        return dg.SkipReason(said)
    evaluation = dg.AssetCheckEvaluation(
        asset_key=_RAW_PRICES,
        check_name=FRESH,
        passed=result.passed,
        severity=result.severity,
        description=said,
        metadata=result.metadata,
    )
    return dg.SensorResult(asset_events=[evaluation], cursor=said)
