"""Sessions of the New York Stock Exchange (XNYS), as tz-naive dates.

The calendar begins on ``CALENDAR_START`` and ends a year ahead of today, in long-lived processes too. Nothing is known
of days outside it: whoever asks about one gets an error, never "no session".
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
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
    "outside",
    "session_close",
    "sessions",
    "sessions_closed",
    "sessions_later",
]

CALENDAR_START = "1962-01-02"
"""Where the calendar begins: before the oldest daily bars that free sources carry."""

DateLike = pd.Timestamp | dt.date | str


@dataclass(frozen=True)
class _Calendar:
    """Sessions and their closes (UTC), known from ``first`` to ``last``, which need not be sessions."""

    first: pd.Timestamp
    last: pd.Timestamp
    sessions: pd.DatetimeIndex
    closes: pd.DatetimeIndex

    @property
    def span(self) -> str:
        return f"the XNYS calendar ({self.first.date()} to {self.last.date()}, a year from now)"


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def _known() -> _Calendar:
    """The calendar of today: a process that lives for years gets a longer one each month."""
    today = _today()
    return _built(today.year, today.month)


@lru_cache(maxsize=1)
def _built(year: int, month: int) -> _Calendar:
    # Building it takes a third of a second, hence the cache.
    last = pd.Timestamp(year, month, 1) + pd.DateOffset(months=13, days=-1)
    calendar = exchange_calendars.get_calendar("XNYS", start=CALENDAR_START, end=last)
    return _Calendar(
        first=pd.Timestamp(CALENDAR_START),
        last=last,
        sessions=pd.DatetimeIndex(calendar.sessions.to_numpy(), name="session"),
        closes=pd.DatetimeIndex(calendar.closes),
    )


def _as_day(value: DateLike) -> pd.Timestamp:
    day = pd.Timestamp(value)
    if day is pd.NaT:
        raise MarketDataError("a session date is missing (NaT)")
    if day.tzinfo is not None:
        raise MarketDataError(f"{day} carries a time zone; sessions are tz-naive dates")
    if day != day.normalize():
        raise MarketDataError(f"{day} has a time of day; sessions are dates")
    return day


def _inside(value: DateLike, known: _Calendar) -> pd.Timestamp:
    day = _as_day(value)
    if not known.first <= day <= known.last:
        raise MarketDataError(f"{day.date()} lies outside {known.span}: whether it is a session is not known")
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
    known = _known()
    if first < known.first or last > known.last:
        raise MarketDataError(f"{first.date()} to {last.date()} reaches outside {known.span}")
    return known.sessions[known.sessions.searchsorted(first) : known.sessions.searchsorted(last, side="right")]


def last_session() -> pd.Timestamp:
    """The last session that the calendar knows: about a year from now."""
    return _known().sessions[-1]


def outside(dates: pd.DatetimeIndex) -> np.ndarray:
    """Which of ``dates`` (tz-naive) lie outside the calendar: a boolean array of the same length."""
    known = _known()
    return np.asarray((dates < known.first) | (dates > known.last))


def is_session(dates: pd.DatetimeIndex) -> np.ndarray:
    """Which of ``dates`` (tz-naive) are XNYS sessions: a boolean array of the same length.

    Raises
    ------
    MarketDataError
        One of them lies outside the calendar.
    """
    known = _known()
    unknown = outside(dates)
    if unknown.any():
        _inside(dates[unknown][0].normalize(), known)
    return np.asarray(dates.isin(known.sessions))


def as_session(value: DateLike) -> pd.Timestamp:
    """``value`` as a session.

    Raises
    ------
    MarketDataError
        XNYS does not trade that day, or the day lies outside the calendar.
    """
    known = _known()
    day = _inside(value, known)
    if day not in known.sessions:
        raise MarketDataError(f"{day.date()} ({day.day_name()}) is no XNYS session")
    return day


def next_session(session: DateLike) -> pd.Timestamp:
    """The first session after ``session`` (any day of the calendar).

    Raises
    ------
    MarketDataError
        The day lies outside the calendar, or is its last session.
    """
    known = _known()
    position = int(known.sessions.searchsorted(_inside(session, known), side="right"))
    if position == len(known.sessions):
        raise MarketDataError(
            f"the XNYS calendar ends at {known.sessions[-1].date()}: no session after {session} is known"
        )
    return known.sessions[position]


def sessions_later(session: DateLike, other: DateLike) -> int:
    """How many sessions after ``session`` the day ``other`` is: those after the one, up to and including the other.

    Negative when ``other`` comes first.

    Raises
    ------
    MarketDataError
        One of the days lies outside the calendar.
    """
    known = _known()
    first, last = (int(known.sessions.searchsorted(_inside(day, known), side="right")) for day in (session, other))
    return last - first


def session_close(session: DateLike) -> pd.Timestamp:
    """The instant (UTC) at which ``session`` closes, early closes included."""
    known = _known()
    return known.closes[int(known.sessions.searchsorted(as_session(session)))]


def sessions_closed(since: pd.Timestamp, until: pd.Timestamp) -> int:
    """How many sessions have closed after the instant ``since``, up to the instant ``until`` (both carry a time zone).

    Raises
    ------
    MarketDataError
        An instant carries no time zone, or lies outside the calendar.
    """
    return _closed(until) - _closed(since)


def last_completed_session(now: pd.Timestamp) -> pd.Timestamp:
    """The latest session whose close is not after ``now`` (a UTC-aware instant).

    Raises
    ------
    MarketDataError
        ``now`` carries no time zone, or lies outside the calendar.
    """
    return _known().sessions[_closed(now) - 1]


def _closed(now: pd.Timestamp) -> int:
    """How many sessions of the calendar have closed at the instant ``now``."""
    if now.tzinfo is None:
        raise MarketDataError(f"{now} carries no time zone; an instant must")
    known = _known()
    if now < known.closes[0] or now > known.closes[-1]:
        raise MarketDataError(f"{now} lies outside {known.span}")
    return int(known.closes.searchsorted(now.tz_convert("UTC"), side="right"))
