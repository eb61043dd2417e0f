"""Trading days: each run keeps its session, one at a time brings a new one, and what was left undone is done again."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from financial_assets.errors import MarketDataError
from financial_assets.market import calendar
from financial_assets.market.clock import HistoricalClock, LiveClock
from financial_assets.market.days import Days, RunClock, TradingRun
from financial_assets.tracking.owners import OWNER_HOST, OWNER_PID, owner_tags

FIRST, SECOND, THIRD = calendar.sessions("2010-06-15", "2010-06-17")


def dead() -> dict[str, str]:
    return owner_tags() | {OWNER_PID: "4194305"}  # above the largest process id of Linux


def at(session: pd.Timestamp) -> Callable[[], pd.Timestamp]:
    return lambda: session


@pytest.fixture
def days(tmp_path: Path) -> Days:
    clock = HistoricalClock(tmp_path / "clock.json")
    clock.start(FIRST)
    return Days(tmp_path / "days.json", clock)


def test_a_run_keeps_its_session_whoever_moves_the_clock(days: Days) -> None:
    one, other = TradingRun("one"), TradingRun("other")
    assert RunClock(days, one).now() == FIRST
    days.move(None, THIRD)
    assert days.clock.now() == THIRD
    assert RunClock(Days(days.path, days.clock), TradingRun("one")).now() == FIRST  # as in another process
    assert RunClock(days, other).now() == THIRD


def test_a_replay_takes_its_own_session_with_it_and_never_moves_the_clock_back(days: Days) -> None:
    slow, quick = TradingRun("slow"), TradingRun("quick")
    days.session_of(slow)
    days.move(quick, THIRD)
    days.move(slow, SECOND)
    assert (days.clock.now(), days.session_of(slow), days.session_of(quick)) == (THIRD, SECOND, THIRD)


def test_the_clock_moves_once_when_the_day_is_complete(days: Days) -> None:
    run = TradingRun("one")
    assert days.begin(run, at(SECOND), is_new=True) == SECOND
    assert days.begin(run, at(THIRD), is_new=True) == SECOND  # the step is tried again
    assert days.clock.now() == FIRST
    days.complete(run, SECOND)
    days.complete(run, SECOND)  # a crash between the clock and the record of the step
    assert days.clock.now() == SECOND
    assert days.begin(TradingRun("two"), at(THIRD), is_new=True) == THIRD


def test_a_run_cannot_bring_a_session_after_it_has_worked_on_another(days: Days) -> None:
    run = TradingRun("one")
    assert days.session_of(run) == FIRST
    with pytest.raises(MarketDataError, match=r"worked on session 2010-06-15 before .* raw_prices must come first"):
        days.begin(run, at(SECOND), is_new=True)
    assert days.begin(run, at(SECOND), is_new=False) == FIRST


@pytest.mark.parametrize("claim", ["day", "replay"])
def test_a_second_one_is_refused_while_the_first_lives(days: Days, claim: str) -> None:
    first = TradingRun("first")
    if claim == "day":
        days.begin(first, at(SECOND), is_new=True)
    else:
        assert days.claim(first)
        assert not days.claim(first)
    before = days.path.read_text()
    with pytest.raises(MarketDataError, match=r"run first \(process \d+ on .*Launch it again") as caught:
        days.begin(TradingRun("second"), at(SECOND), is_new=True)
    assert ("at work on session 2010-06-16" if claim == "day" else "moving the market clock") in str(caught.value)
    with pytest.raises(MarketDataError, match="run first"):
        days.claim(TradingRun("replay"))
    assert days.path.read_text() == before
    assert days.begin(TradingRun("retrain"), at(FIRST), is_new=False) == FIRST  # brings no session: it need not wait
    days.release(TradingRun("second"))
    with pytest.raises(MarketDataError, match="run first"):
        days.claim(TradingRun("replay"))
    days.release(first)
    assert days.claim(TradingRun("replay"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (TradingRun("first", owner=dead), TradingRun("second")),
        (TradingRun("first"), TradingRun("second", has_ended=lambda name: name == "first")),
        (TradingRun("first", owner=dict), TradingRun("second", has_ended=lambda name: name == "first")),
    ],
    ids=["its process is gone", "its record has ended", "its process was never known"],
)
def test_a_claim_ends_with_its_run_and_the_session_is_done_again(
    days: Days, first: TradingRun, second: TradingRun
) -> None:
    days.begin(first, at(SECOND), is_new=True)
    assert days.begin(second, at(SECOND), is_new=True) == SECOND
    with pytest.raises(MarketDataError, match="run first has lost session 2010-06-16, which second is at work on"):
        days.complete(first, SECOND)
    assert days.clock.now() == FIRST
    days.complete(second, SECOND)
    assert days.clock.now() == SECOND


def test_a_claim_of_another_host_ends_after_a_day(days: Days) -> None:
    days.begin(TradingRun("pod", owner=lambda: owner_tags() | {OWNER_HOST: "elsewhere"}), at(SECOND), is_new=True)
    with pytest.raises(MarketDataError, match=r"on elsewhere\)"):
        days.claim(TradingRun("second"))
    state: dict[str, Any] = json.loads(days.path.read_text())
    state["claim"]["since"] = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=25)).isoformat()
    days.path.write_text(json.dumps(state))
    assert days.claim(TradingRun("second"))


def test_a_run_that_repeats_failed_steps_keeps_their_session_and_takes_the_day_over(days: Days) -> None:
    ended = TradingRun("failed")
    days.begin(ended, at(SECOND), is_new=True)
    repeat = TradingRun("repeat", parent="failed", has_ended=lambda name: name == "failed")
    assert days.session_of(repeat) == SECOND
    with pytest.raises(MarketDataError, match="run repeat"):
        days.claim(TradingRun("another", has_ended=lambda name: name == "failed"))
    days.complete(repeat, SECOND)
    assert days.clock.now() == SECOND
    days.move(None, THIRD)
    late = TradingRun("late", parent="failed", has_ended=lambda name: True)
    with pytest.raises(MarketDataError, match="later ones are complete, up to 2010-06-17: launch the job `daily` anew"):
        days.session_of(late)


def test_a_live_clock_moves_by_itself_and_what_is_complete_is_remembered(tmp_path: Path) -> None:
    instant = pd.Timestamp("2010-06-15 21:30", tz="UTC")
    days = Days(tmp_path / "days.json", LiveClock(lambda: instant))
    run = TradingRun("one")
    assert days.completed() is None
    assert days.begin(run, days.clock.now, is_new=True) == FIRST
    instant = pd.Timestamp("2010-06-17 21:30", tz="UTC")  # the run takes two days
    assert days.session_of(run) == FIRST
    days.complete(run, FIRST)
    assert days.completed() == FIRST
    assert days.begin(TradingRun("two"), days.clock.now, is_new=True) == THIRD


def test_only_so_many_runs_are_remembered(days: Days) -> None:
    for number in range(103):
        days.session_of(TradingRun(f"run {number}"))
    kept = json.loads(days.path.read_text())["sessions"]
    assert list(kept) == [f"run {number}" for number in range(3, 103)]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"claim": 7}', '{"sessions": {"a": 1}}', '{"completed": "soon"}'])
def test_a_damaged_file_is_named_with_its_remedy(days: Days, content: str) -> None:
    days.path.write_text(content)
    with pytest.raises(MarketDataError, match=r"days\.json.*remove it"):
        days.session_of(TradingRun("one"))
    assert days.path.read_text() == content
