from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from financial_assets.errors import MarketDataError
from financial_assets.market.ingestion import ingest
from financial_assets.market.sources import FetchResult, deliver
from financial_assets.market.store import PriceStore

MakePrices = Callable[..., pd.DataFrame]
TICKERS = ["AAA", "BBB"]


class Served:
    """A source that holds what it is given and notes what it is asked for."""

    name = "served"

    def __init__(self, prices: pd.DataFrame, *, live: bool) -> None:
        self.prices = prices
        self.live = live
        self.asked: list[tuple[dt.date | None, dt.date | None]] = []

    def fetch(self, tickers: Sequence[str], start: dt.date | None, end: dt.date | None) -> FetchResult:
        self.asked.append((start, end))
        return deliver(self.prices, tickers, start, end, origin="the test")


@pytest.fixture
def store(tmp_path: Path) -> PriceStore:
    return PriceStore(tmp_path)


def test_a_first_ingestion_takes_all_and_a_second_adds_nothing(store: PriceStore, make_prices: MakePrices) -> None:
    source = Served(make_prices(), live=False)
    first = ingest(source, store, [*TICKERS, "GONE"])
    assert first.report is not None
    assert first.report.added == 80
    assert first.never_delivered == ("GONE",)
    second = ingest(source, store, TICKERS)
    assert second.report is not None
    assert (second.report.added, second.report.unchanged) == (0, 80)
    assert source.asked == [(None, None)] * 2


def test_a_live_source_is_asked_for_the_end_only(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Served(prices[prices["date"] <= "2020-03-02"], live=True), store, TICKERS)
    source = Served(prices, live=True)
    outcome = ingest(source, store, TICKERS)
    assert source.asked == [(dt.date(2020, 2, 16), None)]
    assert outcome.report is not None
    assert outcome.report.added == (prices["date"] > "2020-03-02").sum()
    assert_frame_equal(store.read(), prices)


def test_a_new_ticker_is_fetched_from_its_beginning(store: PriceStore, make_prices: MakePrices) -> None:
    source = Served(make_prices(count=60), live=True)
    ingest(source, store, ["AAA"])
    ingest(source, store, TICKERS)
    assert source.asked == [(None, None), (None, None)]
    assert_frame_equal(store.read(), source.prices)


def restated(prices: pd.DataFrame) -> pd.DataFrame:
    later = prices.copy()
    later.loc[later["date"] < prices["date"][50], "adj_close"] *= 0.97
    return later


def test_a_restated_history_is_fetched_again_whole(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Served(prices[prices["date"] < prices["date"][45]], live=True), store, TICKERS)
    source = Served(restated(prices), live=True)
    outcome = ingest(source, store, TICKERS)
    assert len(source.asked) == 2
    assert source.asked[1] == (None, None)
    assert outcome.report is not None
    assert outcome.report.held_back == ()
    assert_frame_equal(store.read(), restated(prices))


def test_a_death_between_the_two_fetches_heals_itself(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    known = prices[prices["date"] < prices["date"][45]].reset_index(drop=True)
    ingest(Served(known, live=True), store, TICKERS)

    class Dying(Served):
        def fetch(self, tickers: Sequence[str], start: dt.date | None, end: dt.date | None) -> FetchResult:
            if self.asked:
                raise KeyboardInterrupt
            return super().fetch(tickers, start, end)

    with pytest.raises(KeyboardInterrupt):
        ingest(Dying(restated(prices), live=True), store, TICKERS)
    assert_frame_equal(store.read(), known)
    ingest(Served(restated(prices), live=True), store, TICKERS)
    assert_frame_equal(store.read(), restated(prices))


def test_a_start_that_leaves_out_what_was_restated_is_an_error(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Served(prices, live=False), store, TICKERS)
    with pytest.raises(MarketDataError, match="history of AAA, BBB, but INGESTION_START_DATE leaves out"):
        ingest(Served(restated(prices), live=False), store, TICKERS, start=prices["date"][10].date())
    assert_frame_equal(store.read(), prices)


def test_impossible_prices_stay_out_of_the_store(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    prices.loc[13, "low"] = -1.0
    outcome = ingest(Served(prices, live=False), store, TICKERS)
    assert outcome.report is None
    assert {result.name for result in outcome.blocking_failures} == {"schema", "impossible_values"}
    shown = outcome.blocking_failures[1].failures
    assert shown[["date", "ticker", "problem"]].to_numpy().tolist() == [
        [prices["date"][13], "AAA", "low is not positive"]
    ]
    assert store.read().empty
