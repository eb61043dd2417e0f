"""When prices are due: no punctual run is late, over all sessions since 2000, and each missed one is noticed."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest

from financial_assets.market import calendar, freshness
from financial_assets.market.freshness import LATENESS, due, longest_wait, overdue

MINUTE = pd.Timedelta(minutes=1)
SESSIONS = calendar.sessions("2000-01-03", calendar.last_completed_session(pd.Timestamp.now(tz="UTC")))


def test_a_run_that_is_punctual_or_late_within_bounds_never_fails_and_a_missed_session_always_does() -> None:
    # Each gap at its latest moment; a sample beside all those that are longer than a weekend.
    gaps = [pair for place, pair in enumerate(pairwise(SESSIONS)) if place % 20 == 0 or (pair[1] - pair[0]).days > 3]
    assert len(gaps) > 500
    for session, following in gaps:
        latest = due(following) + LATENESS
        assert not len(overdue(due(session), latest)), session
        assert overdue(due(session), latest + MINUTE).tolist() == [following]


@pytest.mark.parametrize("session", ["2001-09-10", "2012-10-26", "2020-12-24", "2026-11-25"])
def test_a_window_by_the_calendar_holds_over_closures_christmas_and_early_closes(session: str) -> None:
    following = calendar.next_session(session)
    year = longest_wait(pd.Timestamp(session).date(), (pd.Timestamp(session) + pd.Timedelta(days=365)).date())
    assert due(following) - calendar.session_close(session) <= year
    assert pd.Timedelta(days=4) < year + LATENESS < pd.Timedelta(days=8)


def test_several_missed_sessions_are_all_named() -> None:
    late = overdue(due(pd.Timestamp("2012-10-25")), due(pd.Timestamp("2012-11-01")) + LATENESS)
    assert [f"{day:%m-%d}" for day in late] == ["10-26", "10-31"]  # no bar is due while Sandy keeps the exchange closed


def test_due_times_are_after_each_close_in_new_york() -> None:
    assert due(pd.Timestamp("2026-07-01")) == pd.Timestamp("2026-07-01 21:30", tz="UTC")
    assert due(pd.Timestamp("2026-12-01")) == pd.Timestamp("2026-12-01 22:30", tz="UTC")
    assert freshness.due_schedule() == ("30 17 * * 1-5", "America/New_York")
