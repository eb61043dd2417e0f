"""When jobs run on schedule: each session of the exchange, after the close."""

from __future__ import annotations

from datetime import UTC

import dagster as dg
import pandas as pd

from financial_assets.automation.dead_runs import end_dead_runs
from financial_assets.automation.jobs import daily
from financial_assets.market import calendar
from financial_assets.market.freshness import DELAY, due_schedule, session_due


def make_daily_schedule() -> dg.ScheduleDefinition:
    """The schedule ``daily_after_close`` for the exchange of ``MARKET_CALENDAR``."""
    cron, zone = due_schedule()
    minute, hour, *_ = cron.split()

    @dg.schedule(
        name="daily_after_close",
        job=daily,
        cron_schedule=cron,
        execution_timezone=zone,
        description=f"Runs the job daily at {int(hour):02}:{int(minute):02} {zone.replace('_', ' ')} time for each "
        f"{calendar.name()} session: {DELAY / pd.Timedelta(minutes=1):.0f} minutes after a full session's close. "
        "Volumes that settle later are corrected by the next run. Exchange holidays are skipped.",
    )
    def daily_after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """One run per session; holidays are skipped. A day beyond the known calendar is an error: it may trade."""
        if context.instance_ref is not None:
            end_dead_runs(context.instance)  # they would keep today's run waiting in the queue
        local = context.scheduled_execution_time
        session = session_due(local)
        if not calendar.is_session(pd.DatetimeIndex([session]))[0]:
            return dg.SkipReason(f"{session:%Y-%m-%d} is not a session of {calendar.name()}")
        return dg.RunRequest(
            run_key=f"daily-{session:%Y-%m-%d}",
            tags={"session": f"{session:%Y-%m-%d}", "scheduled_at": local.astimezone(UTC).isoformat()},
        )

    return daily_after_close
