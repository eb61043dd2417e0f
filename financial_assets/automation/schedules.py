"""When jobs run on schedule: each XNYS session, after the close."""

from __future__ import annotations

from datetime import UTC

import dagster as dg
import pandas as pd

from financial_assets.automation.dead_runs import end_dead_runs
from financial_assets.automation.jobs import daily
from financial_assets.market.calendar import is_session
from financial_assets.market.freshness import DUE_TIME, EXCHANGE_ZONE

__all__ = ["daily_after_close"]


@dg.schedule(
    job=daily,
    cron_schedule=f"{DUE_TIME.minute} {DUE_TIME.hour} * * 1-5",
    execution_timezone=EXCHANGE_ZONE,
    description="Runs the job daily at 17:30 New York time on each XNYS session: an hour and a half after the close, "
    "when bars are final. Exchange holidays are skipped.",
)
def daily_after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run per session; holidays are skipped. A day beyond the known calendar is an error: it may be a session."""
    if context.instance_ref is not None:
        end_dead_runs(context.instance)  # they would keep today's run waiting in the queue
    local = context.scheduled_execution_time
    session = pd.Timestamp(local.date())
    if not is_session(pd.DatetimeIndex([session]))[0]:
        return dg.SkipReason(f"{session:%Y-%m-%d} is not an XNYS session")
    return dg.RunRequest(
        run_key=f"daily-{session:%Y-%m-%d}",
        tags={"session": f"{session:%Y-%m-%d}", "scheduled_at": local.astimezone(UTC).isoformat()},
    )
