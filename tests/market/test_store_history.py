"""The store follows its source, and remembers what it knew when."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from financial_assets.errors import MarketDataError
from financial_assets.market.frames import VALUE_COLUMNS, empty_prices, hash_prices
from financial_assets.market.panel import build_panel
from financial_assets.market.store import PriceStore

MakePrices = Callable[..., pd.DataFrame]
OHLC = ["open", "high", "low", "close"]
START = dt.datetime(2024, 1, 2, 22, tzinfo=dt.UTC)


class Days:
    """A clock that moves one day with each question."""

    def __init__(self) -> None:
        self.count = -1

    def __call__(self) -> dt.datetime:
        self.count += 1
        return START + dt.timedelta(days=self.count)


@pytest.fixture
def store(tmp_path: Path) -> PriceStore:
    return PriceStore(tmp_path / "prices", now=Days())


def day(prices: pd.DataFrame, at: int) -> pd.Timestamp:
    return pd.Timestamp(prices["date"].unique()[at])


def dividend(prices: pd.DataFrame, ticker: str, ex: pd.Timestamp, factor: float) -> pd.DataFrame:
    later = prices.copy()
    later.loc[(later["ticker"] == ticker) & (later["date"] < ex), "adj_close"] *= factor
    return later


def test_a_settled_bar_is_replaced_although_the_delivery_begins_later(
    store: PriceStore, make_prices: MakePrices
) -> None:
    prices = make_prices()
    store.upsert(prices[prices["date"] <= day(prices, 30)])
    settled = prices.copy()
    settled.loc[30, "volume"] *= 1.2
    report = store.upsert(settled[settled["date"] >= day(prices, 20)])
    assert (report.added, len(report.restated), report.held_back) == (2 * 9, 1, {})
    assert report.rescaled.empty
    assert_frame_equal(store.read(), settled)


@pytest.mark.parametrize("overlap", [2, 5, 12])
def test_a_dividend_rescales_the_sessions_before_the_delivery(
    store: PriceStore, make_prices: MakePrices, overlap: int
) -> None:
    prices = make_prices()
    store.upsert(prices[prices["date"] <= day(prices, 30)])
    paid = dividend(prices, "BBB", day(prices, 31), 0.985)
    rounded = paid.assign(adj_close=paid["adj_close"].round(6))
    report = store.upsert(rounded[rounded["date"] >= day(prices, 31 - overlap)])
    assert report.held_back == {}
    assert report.rescaled["ticker"].tolist() == ["BBB"]
    assert report.rescaled["adj_close_factor"].item() == pytest.approx(0.985, rel=1e-6)
    assert (report.rescaled["price_factor"].item(), report.rescaled["volume_factor"].item()) == (1.0, 1.0)
    assert_frame_equal(store.read(), paid, rtol=1e-6)
    assert store.content_hash() == hash_prices(store.read())
    assert store.history()[-1].rescaled == ("BBB",)


def test_a_split_rescales_prices_and_volumes(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    store.upsert(prices[prices["date"] <= day(prices, 30)])
    split = prices.copy()
    split.loc[split["ticker"] == "AAA", [*OHLC, "adj_close"]] /= 4.0
    split.loc[split["ticker"] == "AAA", "volume"] *= 4.0
    report = store.upsert(split[split["date"] >= day(prices, 20)])
    assert report.rescaled[["price_factor", "volume_factor"]].to_numpy().tolist() == [[0.25, 4.0]]
    assert_frame_equal(store.read(), split)


@pytest.mark.parametrize("kind", ["another unit", "no overlap of two", "drifting factor"])
def test_what_is_not_one_factor_is_held_back(store: PriceStore, make_prices: MakePrices, kind: str) -> None:
    prices = make_prices(("AAA",))
    store.upsert(prices[:31])
    other = prices.copy()
    match kind:
        case "another unit":  # prices in cents, the same shares
            other[[*OHLC, "adj_close"]] *= 100.0
        case "no overlap of two":
            other["adj_close"] *= 0.98
        case _:
            other["adj_close"] *= np.linspace(0.9, 1.0, len(other))
    report = store.upsert(other[30 if kind == "no overlap of two" else 20 :])
    assert list(report.held_back) == ["AAA"]
    assert_frame_equal(store.read(), prices[:31])
    assert len(store.history()) == 1


def test_removed_bars_go_and_stay_in_the_past(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    store.upsert(prices)
    report = store.upsert(prices.drop(index=7), gone=prices.loc[[7], ["ticker", "date"]])
    assert_frame_equal(report.removed, prices.loc[[7]].reset_index(drop=True))
    assert_frame_equal(store.read(), prices.drop(index=7).reset_index(drop=True))
    assert_frame_equal(store.read(known_at=START), prices)
    assert store.content_hash() == hash_prices(prices.drop(index=7))
    assert store.upsert(prices).added == 1
    assert_frame_equal(store.read(), prices)


def test_prices_as_they_were_known(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    known = prices[prices["date"] <= day(prices, 30)].reset_index(drop=True)
    store.upsert(known)
    paid = dividend(prices, "BBB", day(prices, 31), 0.985)
    store.upsert(paid[paid["date"] >= day(prices, 20)])
    store.upsert(paid)  # nothing new, no entry
    assert store.read(known_at=START - dt.timedelta(seconds=1)).empty
    assert_frame_equal(store.read(known_at=START), known)
    assert_frame_equal(store.read(known_at=START + dt.timedelta(hours=23)), known)
    assert_frame_equal(store.read(["BBB"], end=day(prices, 5), known_at=START), known[31:37].reset_index(drop=True))
    later = store.read(known_at=START + dt.timedelta(days=1))
    assert_frame_equal(later, store.read())
    assert_frame_equal(later, paid)
    first, second = store.history()
    assert (first.number, first.known_at, first.added, first.replaced) == (1, START, 62, 0)
    assert (second.added, second.replaced, second.removed, second.rescaled) == (18, 11, 0, ("BBB",))
    assert (first.last, second.first, second.last) == (
        day(prices, 30).date(),
        day(prices, 20).date(),
        day(prices, 39).date(),
    )
    assert (first.old_hash, first.new_hash) == (hash_prices(empty_prices()), hash_prices(known))
    assert (second.old_hash, second.new_hash) == (first.new_hash, hash_prices(later))
    with pytest.raises(MarketDataError, match="carries no time zone"):
        store.read(known_at=dt.datetime(2024, 1, 2))


def test_a_clock_that_is_set_back_changes_no_order(tmp_path: Path, make_prices: MakePrices) -> None:
    """The second delivery comes an hour before the first by the machine's clock, the third a day after it."""
    prices = make_prices()
    instants = iter([START, START - dt.timedelta(hours=1), START + dt.timedelta(days=1)])
    store = PriceStore(tmp_path / "prices", now=lambda: next(instants))
    deliveries = [prices[prices["date"] <= day(prices, last)].reset_index(drop=True) for last in (10, 20, 30)]
    for delivery in deliveries:
        store.upsert(delivery)
    assert [change.number for change in store.history()] == [1, 2, 3]
    assert [change.known_at for change in store.history()] == [START, START, START + dt.timedelta(days=1)]
    assert store.read(known_at=START - dt.timedelta(minutes=1)).empty, "known before it was"
    assert_frame_equal(store.read(known_at=START), deliveries[1])
    assert_frame_equal(store.read(), deliveries[2])


def test_a_store_of_an_earlier_version_opens_and_goes_on(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    store.root.mkdir()
    prices[:50].to_parquet(store.path, index=False, row_group_size=250_000)
    inode = store.path.stat().st_ino
    assert_frame_equal(store.read(), prices[:50])
    (adopted,) = store.history()
    assert (adopted.added, adopted.new_hash) == (50, hash_prices(prices[:50]))
    assert "before this history begins" in adopted.note
    assert store.upsert(prices).added == 30
    assert_frame_equal(store.read(), prices)
    assert [entry.number for entry in store.history()] == [1, 2]
    assert store.path.stat().st_ino == inode, "what was stored is never rewritten"


def test_an_earlier_version_may_write_again(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    store.upsert(prices[:50])
    store.upsert(prices[:60])
    corrected = prices.assign(volume=prices["volume"] + 1.0)
    corrected.to_parquet(store.path, index=False, row_group_size=250_000)  # the earlier version rewrites it whole
    assert_frame_equal(store.read(), corrected)
    assert len(store.history()) == 1
    store.upsert(prices[:1])
    assert_frame_equal(store.read(), pd.concat([prices[:1], corrected[1:]]))


def test_whoever_removes_the_prices_gets_a_new_store(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    store.upsert(prices[:50])
    store.upsert(prices)
    store.path.unlink()
    assert store.read().empty
    assert store.history() == ()
    store.upsert(prices[:50])
    assert_frame_equal(store.read(), prices[:50])
    assert len(store.history()) == 1


@pytest.mark.parametrize("file", ["history.json", "changes/000002-000002.parquet"])
def test_damaged_files_are_named(store: PriceStore, make_prices: MakePrices, file: str) -> None:
    prices = make_prices()
    store.upsert(prices[:50])
    store.upsert(prices)
    path = store.root / file
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(MarketDataError, match=f"{file} is damaged.*; remove {store.root} and materialize raw_prices"):
        store.read()
    path.unlink()
    if file != "history.json":
        with pytest.raises(MarketDataError, match="is damaged"):
            store.read()


def test_a_session_a_day_is_appended_and_files_stay_few(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=44)
    days = prices["date"].unique()
    store.upsert(prices[prices["date"] < days[20]])
    inode = store.path.stat().st_ino
    for session in days[20:]:
        store.upsert(prices[prices["date"] == session])
    assert_frame_equal(store.read(), prices)
    assert_frame_equal(store.read(start=days[42]), prices[prices["date"] >= days[42]].reset_index(drop=True))
    assert store.path.stat().st_ino == inode
    assert len(store.history()) == 25
    assert len(list((store.root / "changes").iterdir())) <= 5
    assert store.content_hash() == hash_prices(prices)


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[str, int, int, float]]:
    """What happens at the source, one thing per day: kind, first row of the delivery, row concerned, factor."""
    kinds = st.sampled_from(["append", "settle", "dividend", "split", "correct", "gone", "whole"])
    return draw(
        st.lists(st.tuples(kinds, st.integers(8, 25), st.integers(0, 25), st.floats(0.5, 0.99)), min_size=1, max_size=6)
    )


@settings(max_examples=8, deadline=None)
@given(events=deliveries(), seed=st.integers(0, 1000))
def test_store_restate_panel(make_prices: MakePrices, events: list[tuple[str, int, int, float]], seed: int) -> None:
    """However a source restates its bars, the store ends up with them, its past stays, and the panel follows."""
    source = make_prices(count=30 + len(events), seed=seed)
    days = source["date"].unique()
    known: list[tuple[dt.datetime, pd.DataFrame]] = []
    with tempfile.TemporaryDirectory() as folder:
        clock = Days()
        store = PriceStore(Path(folder), now=clock)
        store.upsert(source[source["date"] < days[30]])
        for number, (kind, first, at, factor) in enumerate(events):
            mine = (source["ticker"] == "AAA").rename(None)
            row = source.index[mine][at] if at < mine.sum() else source.index[mine][0]
            start, gone = (days[first], None) if kind != "whole" else (days[0], None)
            match kind:
                case "settle":
                    source.loc[source.index[mine & (source["date"] == days[29 + number])], "volume"] *= 1.5
                case "dividend":
                    source.loc[mine & (source["date"] < days[30 + number]), "adj_close"] *= factor
                case "split":
                    source.loc[mine, [*OHLC, "adj_close"]] *= factor
                    source.loc[mine, "volume"] /= factor
                case "correct":
                    start = days[0]
                    source.loc[row, "volume"] += 5.0e5
                case "gone" if mine.sum() > 20 and days[29] > source.loc[row, "date"]:
                    start, gone = days[0], source.loc[[row], ["ticker", "date"]]
                    source = source.drop(index=row)
            delivered = source[(source["date"] >= start) & (source["date"] <= days[30 + number])]
            report = store.upsert(delivered, gone)
            assert report.held_back == {}
            expected = source[source["date"] <= days[30 + number]].reset_index(drop=True)
            assert_frame_equal(store.read(), expected, rtol=1e-4)
            assert store.content_hash() == hash_prices(store.read())
            known.append((START + dt.timedelta(days=clock.count), store.read()))
        for instant, prices in known:
            assert_frame_equal(store.read(known_at=instant), prices, check_exact=True)
        panel, restated = build_panel(expected), build_panel(store.read())
    assert panel.sessions.equals(restated.sessions)
    assert (panel.valid == restated.valid).all()
    np.testing.assert_allclose(panel.values, restated.values, rtol=1e-4)
    assert np.isfinite(restated.values[:, :, -1]).all()


def test_the_hash_is_a_sum_of_rows(make_prices: MakePrices) -> None:
    prices = make_prices()
    assert hash_prices(prices) == hash_prices(prices[::-1])
    for name in VALUE_COLUMNS:
        assert hash_prices(prices) != hash_prices(prices.assign(**{name: np.nextafter(prices[name], np.inf)}))
    swapped = prices.copy()
    swapped.loc[[0, 1], "open"] = swapped.loc[[1, 0], "open"].to_numpy()
    assert hash_prices(prices) != hash_prices(swapped)


@pytest.mark.parametrize(
    "damage",
    [
        lambda root: (root / "history.json").unlink(),
        lambda root: (root / "history.json").write_text("{}"),
        lambda root: (root / "history.json").write_text(
            re.sub(r'"files": \[.*?\]', '"files": []', (root / "history.json").read_text(), flags=re.DOTALL)
        ),
        lambda root: shutil.copy(root / "prices.parquet", next((root / "changes").glob("*.parquet"))),
        lambda root: shutil.rmtree(root / "changes"),
    ],
    ids=["no history", "empty history", "no files named", "a foreign file", "no changes"],
)
def test_a_store_that_lacks_its_changes_is_never_read_as_older_prices(
    store: PriceStore, make_prices: MakePrices, damage: Callable[[Path], object]
) -> None:
    prices = make_prices()
    store.upsert(prices[prices["date"] <= day(prices, 30)])
    store.upsert(prices)
    damage(store.root)
    for call in (store.read, lambda: store.upsert(prices), lambda: store.last_sessions(["AAA"])):
        with pytest.raises(MarketDataError, match=rf"is damaged \(.*\); remove {store.root} and mat") as raised:
            call()
        assert "\n" not in str(raised.value)
