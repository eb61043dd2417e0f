"""Sessions of the New York Stock Exchange (XNYS), as tz-naive dates."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

import exchange_calendars
import numpy as np
import pandas as pd

from financial_assets.errors import MarketDataError

__all__ = [
    "CALENDAR_START",
    "as_session",
    "is_session",
    "last_completed_session",
    "last_session",
    "next_session",
    "previous_session",
    "session_close",
    "sessions",
]

CALENDAR_START = "1962-01-02"
"""Where the calendar begins: before the oldest daily bars that free sources carry."""

DateLike = pd.Timestamp | dt.date | str


@lru_cache(maxsize=1)
def _calendar() -> exchange_calendars.ExchangeCalendar:
    # Building it takes a third of a second, hence the cache. It ends a year from now.
    return exchange_calendars.get_calendar("XNYS", start=CALENDAR_START)


@lru_cache(maxsize=1)
def _all_sessions() -> pd.DatetimeIndex:
    return pd.DatetimeIndex(_calendar().sessions.to_numpy(), name="session")


@lru_cache(maxsize=1)
def _all_closes() -> pd.DatetimeIndex:
    return pd.DatetimeIndex(_calendar().closes)


def _as_day(value: DateLike) -> pd.Timestamp:
    day = pd.Timestamp(value)
    if day is pd.NaT:
        raise MarketDataError("a session date is missing (NaT)")
    if day.tzinfo is not None:
        raise MarketDataError(f"{day} carries a time zone; sessions are tz-naive dates")
    if day != day.normalize():
        raise MarketDataError(f"{day} has a time of day; sessions are dates")
    return day


def sessions(start: DateLike, end: DateLike) -> pd.DatetimeIndex:
    """XNYS sessions from ``start`` to ``end``, both included.

    Raises
    ------
    MarketDataError
        The span is reversed, or reaches outside the calendar.
    """
    first, last = _as_day(start), _as_day(end)
    if first > last:
        raise MarketDataError(f"the span {first.date()} to {last.date()} is reversed")
    known = _all_sessions()
    if first < pd.Timestamp(CALENDAR_START) or last > known[-1]:
        raise MarketDataError(
            f"{first.date()} to {last.date()} reaches outside the calendar ({CALENDAR_START} to {known[-1].date()})"
        )
    return known[known.searchsorted(first) : known.searchsorted(last, side="right")]


def last_session() -> pd.Timestamp:
    """The last session that the calendar knows: about a year from now."""
    return _all_sessions()[-1]


def is_session(dates: pd.DatetimeIndex) -> np.ndarray:
    """Which of ``dates`` (tz-naive) are XNYS sessions: a boolean array of the same length."""
    return np.asarray(dates.isin(_all_sessions()))


def as_session(value: DateLike) -> pd.Timestamp:
    """``value`` as a session.

    Raises
    ------
    MarketDataError
        XNYS does not trade that day.
    """
    day = _as_day(value)
    if day not in _all_sessions():
        raise MarketDataError(f"{day.date()} ({day.day_name()}) is no XNYS session")
    return day


def next_session(session: DateLike) -> pd.Timestamp:
    """The first session after ``session`` (any day)."""
    known = _all_sessions()
    position = int(known.searchsorted(_as_day(session), side="right"))
    if position == len(known):
        raise MarketDataError(f"the XNYS calendar ends at {known[-1].date()}: no session after {session} is known")
    return known[position]


def previous_session(session: DateLike) -> pd.Timestamp:
    """The last session before ``session`` (any day)."""
    known = _all_sessions()
    position = int(known.searchsorted(_as_day(session))) - 1
    if position < 0:
        raise MarketDataError(f"the XNYS calendar begins at {known[0].date()}: no session before {session} is known")
    return known[position]


def session_close(session: DateLike) -> pd.Timestamp:
    """The instant (UTC) at which ``session`` closes, early closes included."""
    return _all_closes()[int(_all_sessions().searchsorted(as_session(session)))]


def last_completed_session(now: pd.Timestamp) -> pd.Timestamp:
    """The latest session whose close is not after ``now`` (a UTC-aware instant).

    Raises
    ------
    MarketDataError
        ``now`` carries no time zone, or lies outside the calendar.
    """
    if now.tzinfo is None:
        raise MarketDataError(f"{now} carries no time zone; an instant must")
    closes = _all_closes()
    if now < closes[0] or now > closes[-1]:
        raise MarketDataError(f"{now} lies outside the XNYS calendar ({closes[0].date()} to {closes[-1].date()})")
    position = int(closes.searchsorted(now.tz_convert("UTC"), side="right")) - 1
    return _all_sessions()[position]
