"""The daily schedule: every XNYS session after its close, and no other day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
import pytest
from dagster._utils.schedules import cron_string_iterator

from financial_assets.automation.schedules import make_daily_schedule
from financial_assets.errors import MarketDataError
from financial_assets.market import calendar

NEW_YORK = ZoneInfo("America/New_York")
daily_after_close = make_daily_schedule()


def tick(day: str) -> dg.RunRequest | dg.SkipReason:
    """What the schedule does at its time on ``day``."""
    at = dt.datetime.combine(dt.date.fromisoformat(day), dt.time(17, 30), NEW_YORK)
    found = daily_after_close(dg.build_schedule_context(scheduled_execution_time=at))
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found


def ticks(start: str, count: int) -> list[dt.datetime]:
    begin = dt.datetime.combine(dt.date.fromisoformat(start), dt.time(), NEW_YORK).timestamp()
    moments = cron_string_iterator(begin, daily_after_close.cron_schedule, daily_after_close.execution_timezone)
    return [next(moments) for _ in range(count)]


@pytest.mark.parametrize("day", ["2026-11-25", "2026-11-27", "2026-12-24", "2026-04-02"])
def test_a_session_is_run_once_by_its_date(day: str) -> None:
    request = tick(day)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == f"daily-{day}"
    assert request.tags["session"] == day


@pytest.mark.parametrize(
    "day",
    ["2026-11-26", "2026-04-03", "2026-12-25", "2027-01-01", "2026-07-03"],
    ids=["Thanksgiving", "Good Friday", "Christmas", "New Year", "Independence Day, observed"],
)
def test_a_holiday_is_skipped_and_says_so(day: str) -> None:
    skipped = tick(day)
    assert isinstance(skipped, dg.SkipReason)
    assert day in str(skipped.skip_message)
    assert "not a session of XNYS" in str(skipped.skip_message)


def test_weekdays_at_half_past_five_in_new_york() -> None:
    assert daily_after_close.execution_timezone == "America/New_York"
    moments = ticks("2026-11-16", 10)
    assert [f"{moment:%Y-%m-%d}" for moment in moments] == [
        f"{day:%Y-%m-%d}" for day in pd.bdate_range("2026-11-16", periods=10)
    ]
    assert {(moment.hour, moment.minute) for moment in moments} == {(17, 30)}


@pytest.mark.parametrize("start", ["2026-03-02", "2026-10-26", "2026-12-21"])
def test_every_tick_of_a_session_comes_after_its_close_in_summer_and_winter(start: str) -> None:
    for moment in ticks(start, 10):
        session = pd.Timestamp(moment.date())
        if calendar.is_session(pd.DatetimeIndex([session]))[0]:
            assert pd.Timestamp(moment) - calendar.session_close(session) >= pd.Timedelta(hours=1.5)


def test_the_time_of_the_tick_is_kept_in_utc() -> None:
    summer, winter = tick("2026-07-01"), tick("2026-12-01")
    assert isinstance(summer, dg.RunRequest)
    assert isinstance(winter, dg.RunRequest)
    assert summer.tags["scheduled_at"] == "2026-07-01T21:30:00+00:00"
    assert winter.tags["scheduled_at"] == "2026-12-01T22:30:00+00:00"


@pytest.mark.parametrize("day", ["1961-12-29", "2199-01-02"])
def test_a_day_that_the_calendar_does_not_know_is_an_error_not_a_holiday(day: str) -> None:
    with pytest.raises(MarketDataError, match="outside the XNYS calendar"):
        tick(day)


@pytest.mark.parametrize(
    ("name", "cron", "zone", "tick_at", "session"),
    [
        ("XLON", "0 18 * * 1-5", "Europe/London", "2026-07-01T18:00", "2026-07-01"),
        ("XTKS", "0 17 * * 1-5", "Asia/Tokyo", "2026-07-01T17:00", "2026-07-01"),
        ("24/7", "30 1 * * *", "UTC", "2026-07-05T01:30", "2026-07-04"),
    ],
)
def test_any_exchange_has_its_zone_and_its_time(
    use_calendar: Callable[[str], None], name: str, cron: str, zone: str, tick_at: str, session: str
) -> None:
    use_calendar(name)
    schedule = make_daily_schedule()
    assert (schedule.cron_schedule, schedule.execution_timezone) == (cron, zone)
    at = dt.datetime.fromisoformat(tick_at).replace(tzinfo=ZoneInfo(zone))
    request = schedule(dg.build_schedule_context(scheduled_execution_time=at))
    assert isinstance(request, dg.RunRequest)
    assert request.tags["session"] == session
    assert pd.Timestamp(at) - calendar.session_close(session) == pd.Timedelta(hours=1.5)
