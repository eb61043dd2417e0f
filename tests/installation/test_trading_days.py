"""The market clock as a run of a replay sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from financial_assets.errors import MarketDataError
from financial_assets.installation.trading_days import TradingDays
from financial_assets.market import calendar
from financial_assets.market.clock import HistoricalClock
from financial_assets.market.days import TradingRun

FIRST, SECOND, THIRD = calendar.sessions("2010-06-15", "2010-06-17")


def days_of(home: Path, run: str) -> TradingDays:
    found = TradingDays(home=str(home), price_source="sample")
    found._run = TradingRun(run)
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    HistoricalClock(tmp_path / "clock.json").start(FIRST)
    return tmp_path


def test_a_run_whose_replay_another_has_done_goes_on_where_that_one_has_come_to(home: Path) -> None:
    """Two runs of everything at once: the later one sends nothing, and evaluates no session that has been left."""
    one, other = days_of(home, "one"), days_of(home, "other")
    assert one.clock().now() == other.clock().now() == FIRST
    with one.moving_clock(until=THIRD):
        one.move_clock(SECOND)
        one.move_clock(THIRD)
        with pytest.raises(MarketDataError, match="run one"), other.moving_clock(until=THIRD):
            pass
        assert other.clock().now() == FIRST, "a run that is refused keeps its session"
    with other.moving_clock(until=THIRD):
        assert other.clock().now() == THIRD
    assert HistoricalClock(home / "clock.json").now() == THIRD


def test_a_run_that_replays_nothing_keeps_its_session(home: Path) -> None:
    one, other = days_of(home, "one"), days_of(home, "other")
    assert other.clock().now() == FIRST
    with one.moving_clock(until=SECOND):
        one.move_clock(SECOND)
    with other.moving_clock(until=FIRST):
        assert other.clock().now() == FIRST
