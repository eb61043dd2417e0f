"""Sessions of the market's exchange, as tz-naive dates: of New York (XNYS), unless ``use`` names another calendar.

A process works on one market, so the calendar is one per process: the setting ``MARKET_CALENDAR``. It begins with
``first_day`` and ends a year ahead of today, in long-lived processes too. Nothing is known of days outside it: whoever
asks about one gets an error, never "no session".
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache

import exchange_calendars
import numpy as np
import pandas as pd

from financial_assets.errors import MarketDataError

DEFAULT = "XNYS"
"""New York Stock Exchange."""

CALENDAR_START = "1962-01-02"
"""Where calendars begin, if they reach back so far: before the oldest daily bars that free sources carry."""

DateLike = pd.Timestamp | dt.date | str


@dataclass(frozen=True)
class _Calendar:
    """Sessions and their closes (UTC), known from ``first`` to ``last``, which need not be sessions.

    ``zone`` is the exchange's, ``regular_close`` the time there after midnight of the session's day at which a full
    session ends, and ``weekdays`` has a 1 for each day of the week, from Monday on, that can be a session.
    """

    name: str
    first: pd.Timestamp
    last: pd.Timestamp
    sessions: pd.DatetimeIndex
    closes: pd.DatetimeIndex
    zone: str
    regular_close: pd.Timedelta
    weekdays: str

    @property
    def span(self) -> str:
        return f"the {self.name} calendar ({self.first.date()} to {self.last.date()}, a year from now)"


_active = DEFAULT


def use(calendar: str) -> None:
    """Work on another exchange from now on, in this process.

    Parameters
    ----------
    calendar
        Any name of exchange_calendars: ``XNYS``, ``XLON``, ``24/7`` (every day, for crypto currencies).

    Raises
    ------
    MarketDataError
        exchange_calendars does not know the name.
    """
    global _active
    if calendar not in exchange_calendars.get_calendar_names(include_aliases=True):
        raise MarketDataError(f"MARKET_CALENDAR: {calendar!r} is not a calendar of exchange_calendars")
    _active = calendar


def name() -> str:
    """The calendar in use, as exchange_calendars calls it."""
    return _active


def first_day() -> pd.Timestamp:
    """The first day that the calendar knows."""
    return _present().first


def zone() -> str:
    """Time zone of the exchange, e.g. ``America/New_York``."""
    return _present().zone


def regular_close() -> pd.Timedelta:
    """When a full session ends: time since midnight, in the exchange's zone, of the session's day (24 h: the next)."""
    return _present().regular_close


def trading_weekdays() -> str:
    """Seven digits from Monday on, 1 where the exchange can have a session: ``1111100``."""
    return _present().weekdays


def sessions_per_year() -> int:
    """Sessions by which figures are annualised: 365 where every day is one, else 252, as is usual at exchanges."""
    return 365 if trading_weekdays() == "1111111" else 252


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def _present() -> _Calendar:
    """The calendar of today: a process that lives for years gets a longer one each month."""
    today = _today()
    return _built(_active, today.year, today.month)


@lru_cache(maxsize=4)
def _built(name: str, year: int, month: int) -> _Calendar:
    # Building it takes a third of a second, hence the cache.
    first, last = pd.Timestamp(CALENDAR_START), pd.Timestamp(year, month, 1) + pd.DateOffset(months=13, days=-1)
    if name != DEFAULT:
        # Some calendars know fewer years. The default span (twenty years) is always among them.
        known = exchange_calendars.get_calendar(name)
        first, last = max(filter(None, (first, known.bound_min()))), min(filter(None, (last, known.bound_max())))
        if last < pd.Timestamp(year, month, 1):
            raise MarketDataError(f"MARKET_CALENDAR={name}: exchange_calendars knows its sessions until {last.date()}")
    calendar = exchange_calendars.get_calendar(name, start=first, end=last)
    closes_at = calendar.close_times[-1][1]
    return _Calendar(
        name=name,
        first=first,
        last=last,
        sessions=pd.DatetimeIndex(calendar.sessions.to_numpy(), name="session"),
        closes=pd.DatetimeIndex(calendar.closes),
        zone=str(calendar.tz),
        regular_close=pd.Timedelta(days=calendar.close_offset, hours=closes_at.hour, minutes=closes_at.minute),
        weekdays=calendar.weekmask,
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


def _inside(value: DateLike, calendar: _Calendar) -> pd.Timestamp:
    day = _as_day(value)
    if not calendar.first <= day <= calendar.last:
        raise MarketDataError(f"{day.date()} lies outside {calendar.span}: whether it is a session is not known")
    return day


def sessions(start: DateLike, end: DateLike) -> pd.DatetimeIndex:
    """Sessions from ``start`` to ``end``, both included.

    Raises
    ------
    MarketDataError
        The span is reversed, or reaches outside the calendar.
    """
    first, last = _as_day(start), _as_day(end)
    if first > last:
        raise MarketDataError(f"the span {first.date()} to {last.date()} is reversed")
    calendar = _present()
    if first < calendar.first or last > calendar.last:
        raise MarketDataError(f"{first.date()} to {last.date()} reaches outside {calendar.span}")
    return calendar.sessions[calendar.sessions.searchsorted(first) : calendar.sessions.searchsorted(last, side="right")]


def last_session() -> pd.Timestamp:
    """The last session that the calendar knows: about a year from now."""
    return _present().sessions[-1]


def outside(dates: pd.DatetimeIndex) -> np.ndarray:
    """Which of ``dates`` (tz-naive) lie outside the calendar: a boolean array of the same length."""
    calendar = _present()
    return np.asarray((dates < calendar.first) | (dates > calendar.last))


def is_session(dates: pd.DatetimeIndex) -> np.ndarray:
    """Which of ``dates`` (tz-naive) are sessions: a boolean array of the same length.

    Raises
    ------
    MarketDataError
        One of them lies outside the calendar.
    """
    calendar = _present()
    unknown = outside(dates)
    if unknown.any():
        _inside(dates[unknown][0].normalize(), calendar)
    return np.asarray(dates.isin(calendar.sessions))


def as_session(value: DateLike) -> pd.Timestamp:
    """``value`` as a session.

    Raises
    ------
    MarketDataError
        The exchange does not trade that day, or the day lies outside the calendar.
    """
    calendar = _present()
    day = _inside(value, calendar)
    if day not in calendar.sessions:
        raise MarketDataError(f"{day.date()} ({day.day_name()}) is not {_article(calendar.name)} session")
    return day


def _article(name: str) -> str:
    """``an XNYS``, ``a 24/7``: by the sound of the first letter."""
    return f"{'an' if name[0] in 'AEFHILMNORSX' else 'a'} {name}"


def next_session(session: DateLike) -> pd.Timestamp:
    """The first session after ``session`` (any day of the calendar).

    Raises
    ------
    MarketDataError
        The day lies outside the calendar, or is its last session.
    """
    calendar = _present()
    position = int(calendar.sessions.searchsorted(_inside(session, calendar), side="right"))
    if position == len(calendar.sessions):
        raise MarketDataError(
            f"the {calendar.name} calendar ends at {calendar.sessions[-1].date()}: no session after {session} is known"
        )
    return calendar.sessions[position]


def sessions_later(session: DateLike, other: DateLike) -> int:
    """How many sessions after ``session`` the day ``other`` is: those after the one, up to and including the other.

    Negative when ``other`` comes first.

    Raises
    ------
    MarketDataError
        One of the days lies outside the calendar.
    """
    calendar = _present()
    first, last = (
        int(calendar.sessions.searchsorted(_inside(day, calendar), side="right")) for day in (session, other)
    )
    return last - first


def session_close(session: DateLike) -> pd.Timestamp:
    """The instant (UTC) at which ``session`` closes, early closes included."""
    calendar = _present()
    return calendar.closes[int(calendar.sessions.searchsorted(as_session(session)))]


def session_closes(sessions: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """The instants (UTC) at which ``sessions`` close, early closes included.

    Raises
    ------
    MarketDataError
        One of them is not a session of the calendar.
    """
    calendar = _present()
    places = calendar.sessions.get_indexer(sessions)
    if (places < 0).any():
        as_session(sessions[places < 0][0])
    return calendar.closes[places]


def session_count(until: pd.Timestamp) -> int:
    """How many sessions of the calendar have closed up to an instant (which carries a time zone).

    Raises
    ------
    MarketDataError
        The instant carries no time zone, or lies outside the calendar.
    """
    return _closed(until)


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
    return _present().sessions[_closed(now) - 1]


def _closed(now: pd.Timestamp) -> int:
    """How many sessions of the calendar have closed at the instant ``now``."""
    if now.tzinfo is None:
        raise MarketDataError(f"{now} carries no time zone; an instant must")
    calendar = _present()
    if now < calendar.closes[0] or now > calendar.closes[-1]:
        raise MarketDataError(f"{now} lies outside {calendar.span}")
    return int(calendar.closes.searchsorted(now.tz_convert("UTC"), side="right"))
