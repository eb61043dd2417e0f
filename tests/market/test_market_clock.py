from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from financial_assets.errors import MarketDataError
from financial_assets.market import calendar, clock
from financial_assets.market.clock import ClockGap, HistoricalClock, LiveClock, PinnedSession

# From Python 3.12 on, forking beside pytest-xdist's threads warns; the children here only write files.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

DAY = pd.Timestamp("2010-06-15")
NEXT = pd.Timestamp("2010-06-16")


def test_a_live_clock_shows_the_last_completed_session() -> None:
    moment = pd.Timestamp("2020-06-15 20:00", tz="UTC")
    assert LiveClock(lambda: moment).now() == pd.Timestamp("2020-06-15")
    assert LiveClock(lambda: moment - pd.Timedelta(seconds=1)).now() == pd.Timestamp("2020-06-12")
    assert LiveClock().now() in calendar.sessions("2020-01-02", calendar.last_session())


def test_a_historical_clock_outlives_the_process_and_starts_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "clock.json"
    assert not HistoricalClock(path).started
    HistoricalClock(path).start(DAY)
    HistoricalClock(path).start(NEXT)
    assert HistoricalClock(path).now() == DAY


def test_a_clock_that_never_started_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MarketDataError, match="never started; run `financial-assets run`"):
        HistoricalClock(tmp_path / "clock.json").now()
    with pytest.raises(MarketDataError, match="never started"):
        HistoricalClock(tmp_path / "clock.json").advance_to(DAY)


def test_it_only_moves_forward(tmp_path: Path) -> None:
    historical = HistoricalClock(tmp_path / "clock.json")
    historical.start(DAY)
    historical.advance_to(DAY)
    historical.advance_to(NEXT)
    with pytest.raises(MarketDataError, match="stands at 2010-06-16 and cannot go back to 2010-06-15"):
        historical.advance_to(DAY)
    assert historical.now() == NEXT


def test_it_stands_on_sessions_only(tmp_path: Path) -> None:
    historical = HistoricalClock(tmp_path / "clock.json")
    with pytest.raises(MarketDataError, match="Saturday"):
        historical.start(pd.Timestamp("2010-06-19"))
    assert not historical.started
    historical.start(DAY)
    with pytest.raises(MarketDataError, match="Saturday"):
        historical.advance_to(pd.Timestamp("2010-06-19"))
    assert historical.now() == DAY


def test_next_looks_without_moving_and_ends_with_the_data(tmp_path: Path) -> None:
    historical = HistoricalClock(tmp_path / "clock.json")
    historical.start(DAY)
    data = calendar.sessions("2010-06-10", "2010-06-16")
    assert historical.next(data) == NEXT
    assert historical.now() == DAY
    historical.advance_to(NEXT)
    assert historical.next(data) is None


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"as_of": 7}', '{"as_of": "soon"}', '{"as_of": "2010-06-19"}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "clock.json"
    path.write_text(content)
    with pytest.raises(MarketDataError, match=r"clock\.json.*remove"):
        HistoricalClock(path).now()
    with pytest.raises(MarketDataError, match=r"clock\.json.*remove"):
        HistoricalClock(path).start(DAY)
    assert path.read_text() == content


def test_a_write_that_dies_leaves_the_old_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    historical = HistoricalClock(tmp_path / "clock.json")
    historical.start(DAY)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        historical.advance_to(NEXT)
    monkeypatch.undo()
    assert historical.now() == DAY
    historical.advance_to(NEXT)


def test_pins_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "training.json"
    cutoff, other = PinnedSession(path, "data_cutoff"), PinnedSession(path, "other")
    assert cutoff.get() is None
    cutoff.set(DAY)
    other.set(NEXT)
    assert (cutoff.get(), other.get()) == (DAY, NEXT)
    assert json.loads(path.read_text()) == {"data_cutoff": "2010-06-15", "other": "2010-06-16"}
    with pytest.raises(MarketDataError, match="Saturday"):
        cutoff.set(pd.Timestamp("2010-06-19"))


def test_the_clock_beside_the_newest_bar_in_words() -> None:
    def said(clock: str, newest: str) -> str:
        return ClockGap(pd.Timestamp(clock), pd.Timestamp(newest)).sentence

    assert said("2012-07-18", "2013-03-01") == (
        "Market clock: 2012-07-18. Newest bar: 2013-03-01, 154 sessions later. `financial-assets replay` or the "
        "`daily` job moves the clock on."
    )
    assert said("2013-03-01", "2013-03-01") == ""
    assert "2001-09-17, 1 session later." in said("2001-09-10", "2001-09-17")
    assert "2001-09-10, 1 session earlier. The `daily` job fetches" in said("2001-09-17", "2001-09-10")
    assert ClockGap(pd.Timestamp("2012-10-26"), pd.Timestamp("2012-10-31")).fields == {
        "market_clock": "2012-10-26",
        "newest_bar": "2012-10-31",
        "sessions_to_newest_bar": 1,
    }


def test_a_held_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_LOCK_SECONDS", 0.05)
    with FileLock(tmp_path / ".clock.json.lock"), pytest.raises(MarketDataError, match="held by another process"):
        HistoricalClock(tmp_path / "clock.json").start(DAY)


def _set_many(path: Path, key: str, count: int) -> None:
    for session in calendar.sessions("2010-01-04", "2010-12-31")[:count]:
        PinnedSession(path, key).set(session)


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pins.json"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_set_many, args=(path, key, 20)) for key in ("a", "b", "c")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    twentieth = calendar.sessions("2010-01-04", "2010-12-31")[19]
    assert [PinnedSession(path, key).get() for key in ("a", "b", "c")] == [twentieth] * 3
