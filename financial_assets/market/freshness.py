"""When prices of a session are due, and which sessions are overdue: by the calendar, so that no holiday is late."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import pandas as pd

from financial_assets.market import calendar

__all__ = ["DUE_TIME", "EXCHANGE_ZONE", "LATENESS", "due", "longest_wait", "overdue"]

EXCHANGE_ZONE = "America/New_York"
"""Where the exchange is."""

DUE_TIME = dt.time(17, 30)
"""When the prices of a session are fetched: an hour and a half after a full session's close, bars are final."""

LATENESS = pd.Timedelta(hours=12)
"""How much later a run may end without being missed: a queue, retries, and the run itself."""


def due(session: pd.Timestamp) -> pd.Timestamp:
    """The instant (UTC) at which the prices of ``session`` are fetched."""
    day = calendar.as_session(session)
    local = pd.Timestamp.combine(day.date(), DUE_TIME).tz_localize(EXCHANGE_ZONE)
    return local.tz_convert("UTC")


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
