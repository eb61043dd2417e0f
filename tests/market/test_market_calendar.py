from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import MarketDataError
from financial_assets.market import calendar


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def test_sessions_are_naive_days_without_weekends_and_holidays() -> None:
    found = calendar.sessions("2001-09-07", dt.date(2001, 9, 18))
    # The exchange stayed closed for four sessions after the 11th.
    assert [day.date().isoformat() for day in found] == ["2001-09-07", "2001-09-10", "2001-09-17", "2001-09-18"]
    assert found.tz is None
    assert found.freq is None


def test_the_calendar_begins_before_any_data() -> None:
    assert calendar.sessions("1962-01-02", "1962-01-31")[0] == pd.Timestamp("1962-01-02")
    assert len(calendar.sessions("2000-03-01", "2013-03-01")) == 3270


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2020-02-01", "2020-01-01", "reversed"),
        ("1950-01-01", "2020-01-01", "outside the XNYS calendar"),
        ("2020-01-01", "2999-01-01", "outside the XNYS calendar"),
        (pd.NaT, "2020-01-01", "missing"),
        (pd.Timestamp("2020-01-01", tz="UTC"), "2020-01-01", "time zone"),
        ("2020-01-01 10:00", "2020-01-02", "time of day"),
    ],
)
def test_impossible_spans_are_refused(start: pd.Timestamp, end: str, message: str) -> None:
    with pytest.raises(MarketDataError, match=message):
        calendar.sessions(start, end)


def test_neighbours() -> None:
    assert calendar.next_session("2012-10-26") == pd.Timestamp("2012-10-31")  # hurricane Sandy
    assert calendar.next_session("2012-10-28") == pd.Timestamp("2012-10-31")
    with pytest.raises(MarketDataError, match="ends at"):
        calendar.next_session(calendar.last_session())


@given(st.dates(dt.date(1962, 1, 10), dt.date(2024, 12, 20)))
def test_nothing_lies_between_a_day_and_the_next_session(day: dt.date) -> None:
    after = calendar.next_session(day)
    assert pd.Timestamp(day) < after
    from_day = set(calendar.sessions(day, after))
    assert from_day <= {pd.Timestamp(day), after}
    assert (pd.Timestamp(day) in from_day) == bool(calendar.is_session(pd.DatetimeIndex([day]))[0])


def test_no_session_is_named_with_its_weekday() -> None:
    assert calendar.as_session("2020-01-03") == pd.Timestamp("2020-01-03")
    with pytest.raises(MarketDataError, match=r"2020-01-04 \(Saturday\)"):
        calendar.as_session("2020-01-04")


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2020-06-15 19:59:59", "2020-06-12"),  # Monday, a second before the close in summer time
        ("2020-06-15 20:00:00", "2020-06-15"),
        ("2020-12-15 20:30:00", "2020-12-14"),  # winter time closes an hour later
        ("2020-12-15 21:00:00", "2020-12-15"),
        ("2020-11-27 18:00:00", "2020-11-27"),  # early close after Thanksgiving
        ("2020-06-14 12:00:00", "2020-06-12"),  # Sunday
        ("2020-12-25 23:00:00", "2020-12-24"),  # holiday
    ],
)
def test_the_last_completed_session_turns_at_the_close(now: str, last: str) -> None:
    assert calendar.last_completed_session(utc(now)) == pd.Timestamp(last)
    assert calendar.session_close(last) <= utc(now)


def test_an_instant_of_another_zone_is_the_same_instant() -> None:
    tokyo = pd.Timestamp("2020-06-16 05:00", tz="Asia/Tokyo")
    assert calendar.last_completed_session(tokyo) == pd.Timestamp("2020-06-15")


def test_instants_without_a_zone_or_outside_are_refused() -> None:
    with pytest.raises(MarketDataError, match="no time zone"):
        calendar.last_completed_session(pd.Timestamp("2020-06-15"))
    with pytest.raises(MarketDataError, match="outside"):
        calendar.last_completed_session(utc("1950-01-01"))
    with pytest.raises(MarketDataError, match="outside"):
        calendar.last_completed_session(utc("2999-01-01"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda day: calendar.is_session(pd.DatetimeIndex(["2020-01-02", day])),
        calendar.as_session,
        calendar.next_session,
        calendar.session_close,
        lambda day: calendar.sessions_later(min(day, "2020-01-02"), max(day, "2020-01-02")),
    ],
    ids=["is_session", "as_session", "next_session", "session_close", "sessions_later"],
)
@pytest.mark.parametrize("day", ["1961-12-29", "2199-01-02"], ids=["before its beginning", "beyond its end"])
def test_outside_the_calendar_nothing_is_known_and_that_is_said(ask: Callable[[str], object], day: str) -> None:
    with pytest.raises(MarketDataError, match=rf"{day} lies outside the XNYS calendar \(1962-01-02 to "):
        ask(day)
    assert calendar.outside(pd.DatetimeIndex([day, "2020-01-04"])).tolist() == [True, False]


def test_a_process_that_lives_long_gets_a_longer_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    today = dt.date(2030, 5, 14)
    monkeypatch.setattr(calendar, "_today", lambda: today)
    assert calendar.as_session("2031-05-14") == pd.Timestamp("2031-05-14")
    with pytest.raises(MarketDataError, match="outside"):
        calendar.as_session("2031-09-15")
    today = dt.date(2030, 9, 14)  # the same process, four months later
    assert calendar.as_session("2031-09-12") == pd.Timestamp("2031-09-12")
    assert calendar.last_session() == pd.Timestamp("2031-09-30")
    monkeypatch.undo()
    with pytest.raises(MarketDataError, match="outside"):
        calendar.as_session("2031-09-12")


@pytest.mark.parametrize(
    ("session", "other", "count"),
    [
        ("2001-09-10", "2001-09-17", 1),  # closed after the attacks
        ("2012-10-26", "2012-10-31", 1),  # Sandy
        ("2012-10-26", "2012-10-30", 0),  # and a day of it
        ("2020-12-24", "2020-12-28", 1),  # Christmas, early close before it
        ("2020-11-25", "2020-11-30", 2),  # Thanksgiving: the early close of the 27th is a session
        ("2020-11-30", "2020-11-25", -2),
        ("2012-07-18", "2013-03-01", 154),
    ],
)
def test_sessions_are_counted_not_weekdays(session: str, other: str, count: int) -> None:
    assert calendar.sessions_later(session, other) == count


def test_sessions_that_have_closed_between_two_instants() -> None:
    answered = utc("2001-09-10 21:30")
    assert calendar.sessions_closed(answered, utc("2001-09-17 19:59")) == 0
    assert calendar.sessions_closed(answered, utc("2001-09-17 20:00")) == 1
    assert calendar.sessions_closed(utc("2020-11-27 17:59"), utc("2020-11-27 18:00")) == 1  # early close
    assert calendar.sessions_closed(utc("2020-12-24 18:00"), utc("2020-12-28 20:59")) == 0
