"""A sensor that fails the check ``fresh`` of raw_prices when the prices of a session are overdue."""

from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from financial_assets.assets.checks.prices import FRESH, RAW_PRICES, fresh_check
from financial_assets.market.freshness import overdue


@dg.sensor(
    minimum_interval_seconds=600,
    description="Fails the check `fresh` of raw_prices when the prices of a session are overdue by the calendar, even "
    "if no job has run.",
)
def watch_prices(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """One result for each set of overdue sessions, and one when they are no longer overdue."""
    latest = context.instance.get_latest_materialization_event(RAW_PRICES)
    if latest is None:
        return dg.SkipReason("raw_prices was never materialized")
    updated = pd.Timestamp(latest.timestamp, unit="s", tz="UTC")
    late = overdue(updated, pd.Timestamp(datetime.now(UTC)))
    result = fresh_check(late, updated)
    description = result.description or ""
    # The cursor holds the last description: the same situation is reported once, not at every tick.
    if description == (context.cursor or fresh_check(late[:0], updated).description):
        return dg.SkipReason(description)
    evaluation = dg.AssetCheckEvaluation(
        asset_key=RAW_PRICES,
        check_name=FRESH,
        passed=result.passed,
        severity=result.severity,
        description=description,
        metadata=result.metadata,
    )
    return dg.SensorResult(asset_events=[evaluation], cursor=description)
