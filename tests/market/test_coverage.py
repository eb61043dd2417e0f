"""What the store says of its bars without reading a price is what its prices say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal, assert_series_equal

from financial_assets.market.index.coverage import Coverage
from financial_assets.market.store import PriceStore

MakePrices = Callable[..., pd.DataFrame]


def assert_covers(store: PriceStore) -> None:
    prices, coverage = store.read(), store.coverage()
    spans = prices.groupby("ticker")["date"].agg(first="min", last="max", bars="size").reset_index()
    assert_frame_equal(coverage.spans(), spans, check_dtype=False)
    assert coverage.bars == len(prices)
    assert coverage.sessions.equals(pd.DatetimeIndex(sorted(prices["date"].unique())))
    last = store.last_sessions()
    assert_series_equal(last, prices.groupby("ticker")["date"].max(), check_names=False)
    assert (store.root / "coverage.npz").exists()


def test_it_follows_every_change(make_prices: MakePrices, tmp_path: Path) -> None:
    store, prices = PriceStore(tmp_path), make_prices(("AAA", "CCC"), count=60)
    days = prices["date"].unique()
    assert store.coverage().bars == 0
    assert store.last_sessions().empty
    store.upsert(prices[prices["date"] < days[30]])
    assert_covers(store)
    store.upsert(prices[prices["date"] < days[35]], gone=prices[["ticker", "date"]].iloc[[3, 7]].iloc[:0])
    assert_covers(store)
    store.upsert(prices[(prices["date"] > days[20]) & (prices["date"] < days[40]) & (prices["ticker"] == "CCC")])
    assert_covers(store)
    store.upsert(prices.iloc[[0, 1, 2, 4]], gone=prices[["ticker", "date"]].iloc[[3, 7]])
    assert_covers(store)
    store.upsert(make_prices(("BBB",), count=12, start="2019-12-02"))  # sorted between the others, and earlier
    assert_covers(store)


def test_a_store_of_an_earlier_version_and_one_whose_writer_died(make_prices: MakePrices, tmp_path: Path) -> None:
    store, prices = PriceStore(tmp_path), make_prices(count=60)
    days = prices["date"].unique()
    path = tmp_path / "coverage.npz"
    store.upsert(prices[prices["date"] < days[30]])
    first = path.read_bytes()
    path.unlink()
    assert len(store.coverage().sessions) == 30
    for last in (40, 50):
        store.upsert(prices[prices["date"] < days[last]])
    path.write_bytes(first)
    assert len(store.coverage().sessions) == 50, "what came since is added"
    path.write_bytes(first[:100])
    assert len(store.coverage().sessions) == 50
    path.write_bytes(first)
    (tmp_path / "prices.parquet").unlink()
    assert store.coverage().bars == 0, "the prices are gone"
    store.upsert(make_prices(count=7))
    assert_covers(store)


def test_a_part_of_it(make_prices: MakePrices, tmp_path: Path) -> None:
    store, prices = PriceStore(tmp_path), make_prices(("AAA", "BBB", "CCC"), count=30)
    days = prices["date"].unique()
    store.upsert(prices)
    left_out = {"AAA": (f"{days[5]:%Y-%m-%d}", f"{days[29]:%Y-%m-%d}", "1999-01-04"), "ZZZ": ("2020-01-03",)}
    part = store.coverage().within(["AAA", "CCC", "DDD"], days[3].date(), days[20].date(), left_out)
    assert part.tickers == ("AAA", "CCC")
    assert part.days.equals(pd.DatetimeIndex(days[3:21]))
    assert part.bars == 2 * 18 - 1
    assert part.spans()["bars"].tolist() == [17, 18]
    nothing = store.coverage().within(["DDD"], None, None, {})
    assert (nothing.bars, len(nothing.sessions), len(nothing.spans())) == (0, 0, 0)


def test_of_several_rows_of_a_key_the_last_one_counts() -> None:
    date = pd.Series(pd.DatetimeIndex(["2020-01-02"] * 3))
    coverage = Coverage.of(pd.DataFrame({"date": date[:1], "ticker": "AAA"}))
    gone = coverage.changed(date, pd.Series(["AAA"] * 3), np.array([False, True, False]))
    assert (coverage.bars, gone.bars) == (1, 0)
    assert gone.within(["AAA"], dt.date(2020, 1, 3), None, {}).bars == 0
