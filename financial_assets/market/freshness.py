"""When prices of a session are due, and which sessions are overdue: by the calendar, so that no holiday is late."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import pandas as pd

from financial_assets.market import calendar

DELAY = pd.Timedelta(minutes=90)
"""How long after a full session's close its prices are fetched. Volumes may still settle: the next fetch corrects
them."""

LATENESS = pd.Timedelta(hours=12)
"""How much later a run may end without being missed: a queue, retries, and the run itself."""


def due(session: pd.Timestamp) -> pd.Timestamp:
    """The instant (UTC) at which the prices of ``session`` are fetched."""
    return _due(calendar.as_session(session)).tz_convert("UTC")


def _due(day: pd.Timestamp) -> pd.Timestamp:
    """The same in the exchange's zone, for any day."""
    after_midnight = calendar.regular_close() + DELAY
    # By the clock on the wall: the day on which summer time begins has an hour less.
    return (day + after_midnight).tz_localize(calendar.zone(), nonexistent="shift_forward", ambiguous=False)


def due_schedule() -> tuple[str, str]:
    """When prices are due, as a cron expression and its time zone."""
    days, time = divmod(calendar.regular_close() + DELAY, pd.Timedelta(days=1))
    weekdays = sorted((day + 1 + days) % 7 for day, is_open in enumerate(calendar.trading_weekdays()) if is_open == "1")
    listed = (
        f"{weekdays[0]}-{weekdays[-1]}"
        if weekdays == [*range(weekdays[0], weekdays[-1] + 1)]
        else (",".join(map(str, weekdays)))
    )
    minutes = int(time / pd.Timedelta(minutes=1))
    return f"{minutes % 60} {minutes // 60} * * {'*' if len(weekdays) == 7 else listed}", calendar.zone()


def session_due(local: dt.datetime) -> pd.Timestamp:
    """The day whose prices are due at ``local``, a time of the schedule in the exchange's zone; it need not trade."""
    midnight = pd.Timestamp(local.date())
    return midnight - pd.Timedelta(days=(calendar.regular_close() + DELAY).days)


def overdue(updated: pd.Timestamp, now: pd.Timestamp) -> pd.DatetimeIndex:
    """Sessions that have closed since prices were last updated and whose update is more than ``LATENESS`` late.

    Parameters
    ----------
    updated, now
        Instants (with a time zone): of the last update, and the current one.

    Raises
    ------
    MarketDataError
        An instant carries no time zone, or lies outside the calendar.
    """
    covered, closed = calendar.last_completed_session(updated), calendar.last_completed_session(now)
    if closed <= covered:
        return pd.DatetimeIndex([])
    missing = calendar.sessions(covered, closed)[1:]
    while len(missing) and due(missing[-1]) + LATENESS >= now:
        missing = missing[:-1]
    return missing


def longest_wait(first: dt.date, last: dt.date) -> pd.Timedelta:
    """The longest time from a session's close until the next session's prices are due, between two days."""
    sessions = calendar.sessions(first, last)
    return max(due(later) - calendar.session_close(earlier) for earlier, later in pairwise(sessions))
