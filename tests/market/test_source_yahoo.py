"""Frames in the shapes that yfinance has returned over its versions; no network."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from financial_assets.errors import SourceError
from financial_assets.market.schemas import check_prices
from financial_assets.market.sources import yahoo
from financial_assets.market.sources.yahoo import YahooPrices, parse_download

MakePrices = Callable[..., pd.DataFrame]
FIELDS = {
    "adj_close": "Adj Close",
    "close": "Close",
    "high": "High",
    "low": "Low",
    "open": "Open",
    "volume": "Volume",
}
AFTERWARDS = pd.Timestamp("2020-06-01", tz="UTC")


def as_downloaded(prices: pd.DataFrame) -> pd.DataFrame:
    """The shape of yfinance 1.x: columns (Price, Ticker), index Date."""
    wide = prices.rename(columns=FIELDS).pivot(index="date", columns="ticker", values=list(FIELDS.values()))
    return wide.rename_axis(columns=["Price", "Ticker"]).rename_axis(index="Date")


class Yahoo:
    """Answers from a script; the last answer repeats. Notes what it was asked."""

    def __init__(self, *answers: pd.DataFrame | Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[tuple[str, ...], dt.date, dt.date]] = []
        self.waited: list[float] = []

    def download(self, tickers: Sequence[str], start: dt.date, end: dt.date) -> pd.DataFrame | None:
        self.asked.append((tuple(tickers), start, end))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def source(self, now: pd.Timestamp = AFTERWARDS, attempts: int = 4) -> YahooPrices:
        return YahooPrices(
            attempts=attempts, backoff=1.0, download=self.download, sleep=self.waited.append, instant=lambda: now
        )


@pytest.fixture
def prices(make_prices: MakePrices) -> pd.DataFrame:
    return make_prices(count=10)


def test_field_and_ticker_columns_either_way_round(prices: pd.DataFrame) -> None:
    wide = as_downloaded(prices)
    assert_frame_equal(parse_download(wide, ["AAA", "BBB"]), prices)
    assert_frame_equal(parse_download(wide.swaplevel(axis=1).sort_index(axis=1), ["BBB", "AAA"]), prices)
    unnamed = wide.rename_axis(columns=[None, None])
    assert_frame_equal(parse_download(unnamed, ["AAA", "BBB"]), prices)


def test_a_single_ticker_with_plain_columns(prices: pd.DataFrame) -> None:
    one = prices[prices["ticker"] == "AAA"]
    plain = as_downloaded(one).droplevel("Ticker", axis=1)
    assert_frame_equal(parse_download(plain, ["AAA"]), one)
    with pytest.raises(SourceError, match="does not say which of AAA, BBB"):
        parse_download(plain, ["AAA", "BBB"])


def test_missing_and_all_nan_tickers_are_left_out(prices: pd.DataFrame) -> None:
    wide = as_downloaded(prices)
    wide.loc[:, wide.columns.get_level_values("Ticker") == "BBB"] = np.nan
    parsed = parse_download(wide, ["AAA", "BBB", "CCC"])
    assert set(parsed["ticker"]) == {"AAA"}


@pytest.mark.parametrize("raw", [None, pd.DataFrame(), pd.DataFrame({"Close": []})])
def test_an_empty_frame_has_no_bars(raw: pd.DataFrame | None) -> None:
    assert parse_download(raw, ["AAA"]).empty


@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
def test_an_index_with_a_time_zone_keeps_its_days(prices: pd.DataFrame, zone: str) -> None:
    wide = as_downloaded(prices)
    wide.index = pd.DatetimeIndex(wide.index).tz_localize(zone)
    assert_frame_equal(parse_download(wide, ["AAA", "BBB"]), prices)


def test_midnights_of_new_york_told_in_utc_keep_their_days(prices: pd.DataFrame) -> None:
    wide = as_downloaded(prices)
    wide.index = pd.DatetimeIndex(wide.index).tz_localize("America/New_York").tz_convert("UTC")
    assert_frame_equal(parse_download(wide, ["AAA", "BBB"]), prices)


def test_rows_before_a_listing_vanish_and_half_a_bar_stays(prices: pd.DataFrame) -> None:
    later = prices.drop(index=[10, 11])
    wide = as_downloaded(later)
    assert_frame_equal(parse_download(wide, ["AAA", "BBB"]), later.reset_index(drop=True))
    wide.loc[wide.index[5], ("Adj Close", "AAA")] = np.nan
    broken = parse_download(wide, ["AAA", "BBB"])
    assert {r.name for r in check_prices(broken) if not r.passed} == {"schema", "impossible_values"}


def test_an_adjusted_download_is_refused(prices: pd.DataFrame) -> None:
    wide = as_downloaded(prices).drop(columns="Adj Close", level=0)
    with pytest.raises(SourceError, match="AAA lacks Adj Close"):
        parse_download(wide, ["AAA", "BBB"])
    with pytest.raises(SourceError, match="a field Close was expected"):
        parse_download(wide.rename(columns={"Close": "Last"}), ["AAA"])


def test_one_batched_download_when_all_goes_well(prices: pd.DataFrame) -> None:
    service = Yahoo(as_downloaded(prices))
    found = service.source().fetch(["AAA", "BBB"], dt.date(2020, 1, 2), dt.date(2020, 1, 10))
    assert service.asked == [(("AAA", "BBB"), dt.date(2020, 1, 2), dt.date(2020, 1, 10))]
    assert service.waited == []
    assert found.prices["date"].max() == pd.Timestamp("2020-01-10")
    assert not found.failures
    assert service.source().live


def test_errors_are_retried_with_growing_pauses(prices: pd.DataFrame) -> None:
    service = Yahoo(ConnectionError("reset"), None, TimeoutError("slow"), as_downloaded(prices))
    assert len(service.source().fetch(["AAA", "BBB"]).prices) == 20
    assert service.waited == [1.0, 2.0, 4.0]


def test_only_missing_tickers_are_asked_for_again_and_then_reported(prices: pd.DataFrame) -> None:
    aaa, bbb = (as_downloaded(prices[prices["ticker"] == ticker]) for ticker in ("AAA", "BBB"))
    service = Yahoo(aaa, bbb, pd.DataFrame())
    found = service.source().fetch(["AAA", "BBB", "GONE"])
    assert [asked[0] for asked in service.asked] == [("AAA", "BBB", "GONE"), ("BBB", "GONE"), ("GONE",), ("GONE",)]
    assert_frame_equal(found.prices, prices)
    assert list(found.failures) == ["GONE"]
    assert "unknown or delisted" in found.failures["GONE"]


def test_when_every_ticker_fails_the_reason_is_told() -> None:
    service = Yahoo(ConnectionError("no route"))
    with pytest.raises(SourceError, match=r"AAA: .*ConnectionError: no route.*; BBB: "):
        service.source(attempts=2).fetch(["AAA", "BBB"])
    assert len(service.asked) == 2


def test_an_interrupt_is_not_retried() -> None:
    def interrupt(*_: object) -> pd.DataFrame:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        YahooPrices(download=interrupt, instant=lambda: AFTERWARDS).fetch(["AAA"])


def test_a_wrong_shape_is_not_retried(prices: pd.DataFrame) -> None:
    service = Yahoo(as_downloaded(prices).drop(columns="Adj Close", level=0))
    with pytest.raises(SourceError, match="Adj Close"):
        service.source().fetch(["AAA", "BBB"])
    assert len(service.asked) == 1


def test_the_bar_of_a_session_under_way_is_left_out(prices: pd.DataFrame) -> None:
    last = prices["date"].max()
    before, after = (last.tz_localize("UTC") + pd.Timedelta(hours=hour) for hour in (20, 22))
    assert Yahoo(as_downloaded(prices)).source(before).fetch(["AAA"]).prices["date"].max() < last
    assert Yahoo(as_downloaded(prices)).source(after).fetch(["AAA"]).prices["date"].max() == last
    future = Yahoo(as_downloaded(prices))
    assert future.source(before).fetch(["AAA"], end=dt.date(2020, 12, 31)).prices["date"].max() < last
    assert future.asked[0][2] < last.date()


def test_an_empty_span_and_no_tickers_are_errors(prices: pd.DataFrame) -> None:
    source = Yahoo(as_downloaded(prices)).source()
    with pytest.raises(SourceError, match="nothing to fetch"):
        source.fetch(["AAA"], dt.date(2021, 1, 4))
    with pytest.raises(SourceError, match="0 tickers"):
        source.fetch([])
    with pytest.raises(SourceError, match="at least one attempt"):
        YahooPrices(attempts=0)


def test_the_download_asks_for_unadjusted_bars_and_an_inclusive_end(monkeypatch: pytest.MonkeyPatch) -> None:
    import yfinance

    asked: dict[str, object] = {}

    def download(tickers: list[str], **options: object) -> None:
        asked.update(options, tickers=tickers)

    monkeypatch.setattr(yfinance, "download", download)
    yahoo.download_from_yahoo(["AAA", "BBB"], dt.date(2020, 1, 2), dt.date(2020, 1, 31))
    assert asked["tickers"] == ["AAA", "BBB"]
    assert (asked["start"], asked["end"]) == ("2020-01-02", "2020-02-01")
    assert asked["auto_adjust"] is False
