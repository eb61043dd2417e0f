"""Any market: clock, calendar and checks follow the exchange of MARKET_CALENDAR."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from financial_assets.errors import MarketDataError
from financial_assets.market import calendar
from financial_assets.market.clock import LiveClock
from financial_assets.market.freshness import due, overdue
from financial_assets.market.panel import build_panel
from financial_assets.market.schemas import check_prices
from financial_assets.portfolio.performance import sharpe_ratio
from financial_assets.settings import load_settings

UseCalendar = Callable[[str], None]


def test_every_day_is_a_session_of_crypto_currencies(use_calendar: UseCalendar) -> None:
    use_calendar("24/7")
    assert len(calendar.sessions("2024-12-20", "2025-01-05")) == 17
    assert calendar.session_close("2024-12-25") == pd.Timestamp("2024-12-26", tz="UTC")
    assert due(pd.Timestamp("2024-12-25")) == pd.Timestamp("2024-12-26 01:30", tz="UTC")
    clock = LiveClock(lambda: pd.Timestamp("2024-12-26 00:00", tz="UTC"))
    assert clock.now() == pd.Timestamp("2024-12-25")
    late = overdue(pd.Timestamp("2024-12-24 02:00", tz="UTC"), pd.Timestamp("2024-12-26 14:00", tz="UTC"))
    assert late.tolist() == [pd.Timestamp("2024-12-24"), pd.Timestamp("2024-12-25")]


def test_london_has_its_holidays_and_its_clock(use_calendar: UseCalendar) -> None:
    use_calendar("XLON")
    assert not calendar.is_session(pd.DatetimeIndex(["2024-12-26"]))[0]
    assert due(pd.Timestamp("2024-07-01")) == pd.Timestamp("2024-07-01 17:00", tz="UTC")
    with pytest.raises(MarketDataError, match=r"2024-12-26 \(Thursday\) is not an XLON session"):
        calendar.as_session("2024-12-26")


def test_a_young_calendar_says_where_it_begins(use_calendar: UseCalendar) -> None:
    use_calendar("XTKS")
    assert calendar.first_day() == pd.Timestamp("1997-01-01")
    with pytest.raises(MarketDataError, match=r"outside the XTKS calendar \(1997-01-01 to "):
        calendar.sessions("1990-01-01", "2000-01-01")


def test_a_year_has_the_sessions_of_its_market(use_calendar: UseCalendar) -> None:
    returns = [0.01, -0.005, 0.02, 0.0]
    of_exchange = sharpe_ratio(returns)
    assert calendar.sessions_per_year() == 252
    use_calendar("24/7")
    assert calendar.sessions_per_year() == 365
    assert sharpe_ratio(returns) / of_exchange == pytest.approx((365 / 252) ** 0.5)
    use_calendar("XLON")
    assert calendar.sessions_per_year() == 252


def test_an_unknown_calendar_is_named(use_calendar: UseCalendar, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MarketDataError, match="MARKET_CALENDAR: 'NYC' is not a calendar"):
        use_calendar("NYC")
    monkeypatch.setenv("MARKET_CALENDAR", "NYC")
    with pytest.raises(Exception, match="did you mean NYFE, NYSE or XNYS"):
        load_settings()
    monkeypatch.setenv("MARKET_CALENDAR", "24/7")
    assert load_settings().market_calendar == "24/7"


def test_prices_of_every_day_fit_a_calendar_of_every_day(use_calendar: UseCalendar) -> None:
    use_calendar("24/7")
    days = pd.date_range("2024-12-20", "2025-01-05")
    close = pd.Series(range(100, 117), dtype="float64")
    prices = pd.DataFrame(
        {"date": days, "ticker": "BTC-USD", "open": close, "high": close, "low": close, "close": close}
    ).assign(volume=1.0, adj_close=close)
    assert all(result.passed for result in check_prices(prices) if result.blocking)
    assert build_panel(prices).valid.all()
    (gap,) = [result for result in check_prices(prices.drop(index=5)) if not result.passed and result.blocking]
    assert gap.failures["problem"].tolist() == ["no bar on this 24/7 session"]


def test_bars_before_the_calendar_say_so(use_calendar: UseCalendar) -> None:
    use_calendar("XTKS")
    early = pd.DataFrame({"date": [pd.Timestamp("1996-06-03")], "ticker": ["7203.T"], "close": 1.0, "volume": 1.0})
    prices = early.assign(open=1.0, high=1.0, low=1.0, adj_close=1.0)
    problems = [problem for result in check_prices(prices) for problem in result.failures["problem"]]
    assert problems == ["the XTKS calendar begins at 1997-01-01: set INGESTION_START_DATE"]
