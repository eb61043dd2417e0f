from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from financial_assets.errors import MarketDataError, PriceDataError
from financial_assets.market.frames import PRICE_COLUMNS, empty_prices, hash_prices
from financial_assets.market.store import PriceStore
from tests.market.dying import die_at_write

# From Python 3.12 on, forking beside pytest-xdist's threads warns; the children here only write files.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

MakePrices = Callable[..., pd.DataFrame]
OHLC = ["open", "high", "low", "close"]
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path) -> PriceStore:
    return PriceStore(tmp_path / "prices")


def test_an_empty_store_reads_empty(store: PriceStore) -> None:
    assert_frame_equal(store.read(), empty_prices())
    assert store.content_hash() == hash_prices(empty_prices())


def test_what_is_stored_is_read(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    report = store.upsert(prices.sample(frac=1.0, random_state=1))
    assert (report.added, report.unchanged, len(report.restated), report.held_back) == (80, 0, 0, {})
    assert_frame_equal(store.read(), prices)
    assert_frame_equal(store.read(["BBB"]), prices[40:].reset_index(drop=True))
    part = store.read(["AAA", "ZZZ"], prices["date"][3].date(), prices["date"][5].date())
    assert_frame_equal(part, prices[3:6].reset_index(drop=True))
    assert store.read([]).empty


def test_again_changes_nothing_not_even_the_file(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    store.upsert(prices)
    before = (store.path.stat().st_ino, store.content_hash())
    report = store.upsert(prices)
    assert (report.added, report.unchanged, len(report.restated)) == (0, 80, 0)
    assert report.corporate_actions.empty
    assert (store.path.stat().st_ino, store.content_hash()) == before


def test_noise_of_float32_is_no_restatement(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    store.upsert(prices)
    noisy = prices.assign(**{name: prices[name].astype("float32").astype("float64") for name in (*OHLC, "adj_close")})
    assert not noisy.equals(prices)
    assert store.upsert(noisy).unchanged == 80
    assert_frame_equal(store.read(), prices)


def test_new_sessions_and_tickers_are_added(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    old = prices[(prices["ticker"] == "AAA") & (prices["date"] < "2020-02-01")]
    store.upsert(old)
    report = store.upsert(prices)
    assert (report.added, report.unchanged) == (80 - len(old), len(old))
    assert_frame_equal(store.read(), prices)


@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), min_size=1, max_size=5))
def test_any_order_of_upserts_gives_the_same_content(
    make_prices: MakePrices, tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int]]
) -> None:
    prices = make_prices()
    one, other = (PriceStore(tmp_path_factory.mktemp("store")) for _ in range(2))
    parts = [prices[min(cut) : max(cut)] for cut in cuts]
    for part in parts:
        one.upsert(part)
    for part in reversed(parts):
        other.upsert(part)
    assert one.content_hash() == other.content_hash()
    assert one.read().equals(other.read())


def test_the_hash_is_of_content(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    assert hash_prices(prices) == hash_prices(prices.sample(frac=1.0, random_state=3))
    for column in PRICE_COLUMNS:
        other = prices.copy()
        other.loc[5, column] = {"date": pd.Timestamp("1999-01-04"), "ticker": "X"}.get(column, 1.5)
        assert hash_prices(other) != hash_prices(prices)
    assert hash_prices(prices.replace({"ticker": {"BBB": "CCC"}})) != hash_prices(prices)  # in the same order
    store.upsert(prices)
    assert store.content_hash() == hash_prices(prices)


def split_in_two(prices: pd.DataFrame) -> pd.DataFrame:
    """What a split-adjusted source says of the same history after a 2:1 split of AAA."""
    later = prices.copy()
    mine = later["ticker"] == "AAA"
    later.loc[mine, [*OHLC, "adj_close"]] /= 2.0
    later.loc[mine, "volume"] *= 2.0
    return later


def test_a_split_restates_history_and_is_told(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    store.upsert(prices)
    report = store.upsert(split_in_two(prices))
    assert (report.added, report.unchanged, len(report.restated)) == (0, 40, 40)
    assert report.held_back == {}
    told = report.restatements.iloc[0]
    assert (told["ticker"], told["kind"], told["rows"]) == ("AAA", "split", 40)
    assert told["close_ratio"] == pytest.approx(0.5)
    assert_frame_equal(store.read(), split_in_two(prices))
    row = report.restated.iloc[0]
    assert row["close_delivered"] == pytest.approx(row["close_stored"] / 2)


def test_a_dividend_restates_earlier_adjusted_closes_and_is_told(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    store.upsert(prices[prices["date"] < prices["date"][30]])
    later = prices.copy()
    later.loc[(later["ticker"] == "BBB") & (later["date"] < later["date"][30]), "adj_close"] *= 0.98
    report = store.upsert(later)
    assert (report.added, report.unchanged, len(report.restated)) == (20, 30, 30)
    assert report.restatements[["ticker", "kind"]].to_numpy().tolist() == [["BBB", "dividend"]]
    assert report.restatements["adj_close_ratio"].item() == pytest.approx(0.98)
    action = report.corporate_actions.iloc[0]
    assert (action["ticker"], action["kind"], action["date"]) == ("BBB", "dividend", prices["date"][30])
    assert action["detail"] == f"about {0.02 * prices['close'][69]:.2f} USD"


def test_a_corrected_bar_is_a_correction(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    store.upsert(prices)
    corrected = prices.copy()
    corrected.loc[7, "volume"] *= 3
    corrected.loc[9, "high"] *= 1.01
    report = store.upsert(corrected)
    assert report.restated["date"].tolist() == prices["date"][[7, 9]].tolist()
    assert report.restatements["kind"].tolist() == ["correction"]
    assert_frame_equal(store.read(), corrected)


def test_half_a_restated_history_is_held_back(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    known = prices[prices["date"] < prices["date"][35]]
    store.upsert(known)
    fresh = split_in_two(prices)
    fresh.loc[26, "close"] *= 1.001  # no longer one factor
    report = store.upsert(fresh[fresh["date"] >= fresh["date"][25]])
    assert list(report.held_back) == ["AAA"]
    assert "begins on 2020-02-07, later than the store (2020-01-02)" in report.held_back["AAA"]
    assert "10 of 10 overlapping bars differ by more than one common factor" in report.held_back["AAA"]
    assert len(report.restated) == 10
    assert report.added == 5  # of BBB, whose history stands
    assert_frame_equal(store.read(["AAA"]), known[known["ticker"] == "AAA"])
    whole = store.upsert(fresh)
    assert whole.held_back == {}
    assert_frame_equal(store.read(), fresh)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns="adj_close"), "lacks adj_close"),
        (lambda f: pd.concat([f, f[:1]]), "2 impossible rows, the first AAA on 2020-01-02: this ticker"),
        (lambda f: f.assign(close=-1.0), "close is not positive"),
        (lambda f: f.assign(close=np.nan), "close is missing"),
        (lambda f: f.assign(close="dear"), "wrong type"),
        (lambda f: f.assign(date="someday"), "wrong type"),
        (lambda f: f.assign(date=pd.NaT), "80 impossible rows, the first AAA on a missing date: date is missing"),
        (lambda f: f.assign(ticker=None), "the first None on 2020-01-02: ticker is missing"),
    ],
)
def test_impossible_prices_never_enter(
    store: PriceStore, make_prices: MakePrices, spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    prices = make_prices()
    store.upsert(prices[:10])
    with pytest.raises(PriceDataError, match=message):
        store.upsert(spoil(prices))
    assert_frame_equal(store.read(), prices[:10])


@pytest.mark.parametrize("start", [0, 12, 28])
@pytest.mark.parametrize("is_overtaken", [False, True])
def test_bars_that_were_read_before_are_as_good_as_those_of_the_store(
    tmp_path: Path, make_prices: MakePrices, start: int, is_overtaken: bool
) -> None:
    """They reach far enough, or they do not; another writer has stored something since, or has not."""
    prices = make_prices(count=60)
    days = prices["date"].unique()
    ours, theirs = PriceStore(tmp_path / "a"), PriceStore(tmp_path / "b")
    for store in (ours, theirs):
        store.upsert(prices[prices["date"] < days[50]])
    beside = ours.bars(["AAA", "BBB"], days[start].date())
    corrected = prices[prices["date"].isin(days[43:50])].copy()
    corrected.loc[corrected["date"] == days[48], OHLC] *= 1.01
    for store in (ours, theirs) if is_overtaken else ():
        PriceStore(store.root).upsert(corrected)
    delivery = prices[(prices["date"] >= days[40]) & (prices["date"] < days[55])].copy()
    delivery.loc[(delivery["ticker"] == "AAA") & (delivery["date"] < days[52]), "adj_close"] *= 0.99
    reports = [ours.upsert(delivery, beside=beside), theirs.upsert(delivery)]
    assert "dividend" in set(reports[0].corporate_actions["kind"])
    assert reports[0].added == reports[1].added == 10
    for name in ("restated", "corporate_actions", "rescaled", "removed"):
        assert_frame_equal(getattr(reports[0], name), getattr(reports[1], name))
    assert_frame_equal(ours.read(), theirs.read())
    assert ours.content_hash() == theirs.content_hash() == hash_prices(ours.read())


def test_an_empty_upsert_changes_nothing(store: PriceStore, make_prices: MakePrices) -> None:
    assert store.upsert(empty_prices()).added == 0
    store.upsert(make_prices())
    assert store.upsert(empty_prices()).added == 0
    assert len(store.read()) == 80


def test_a_damaged_file_is_named(store: PriceStore, make_prices: MakePrices) -> None:
    store.upsert(make_prices())
    store.path.write_bytes(store.path.read_bytes()[:-100])
    with pytest.raises(MarketDataError, match=r"prices\.parquet is damaged"):
        store.read()
    with pytest.raises(MarketDataError, match=r"prices\.parquet is damaged"):
        store.upsert(make_prices())


def test_a_busy_store_is_named(tmp_path: Path, make_prices: MakePrices) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(MarketDataError, match=r"held by another process.*storing prices"):
        PriceStore(tmp_path, lock_timeout=0.05).upsert(make_prices())


def _upsert_parts(root: Path, parts: list[pd.DataFrame]) -> None:
    for part in parts:
        PriceStore(root).upsert(part)


def test_concurrent_writers_lose_nothing(tmp_path: Path, make_prices: MakePrices) -> None:
    prices = make_prices()
    parts = [prices[at : at + 5] for at in range(0, 80, 5)]
    writers = [FORK.Process(target=_upsert_parts, args=(tmp_path, parts[at::2])) for at in range(2)]
    for writer in writers:
        writer.start()
    seen: list[int] = []
    while any(writer.is_alive() for writer in writers):
        seen.append(len(PriceStore(tmp_path).read()))  # readers take no lock and never see half a file
        time.sleep(0.01)
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert seen == sorted(seen)
    assert_frame_equal(PriceStore(tmp_path).read(), prices)


def _die_while_writing(root: Path, prices: pd.DataFrame, at: int) -> None:
    """Killed at the file number ``at`` that an upsert writes, with half of it on the disk."""
    die_at_write(at)
    PriceStore(root).upsert(prices)


@pytest.mark.parametrize("stored", [0, 10])
@pytest.mark.parametrize("at", range(6))
def test_a_power_cut_half_way_leaves_old_or_new_prices_and_no_litter(
    tmp_path: Path, make_prices: MakePrices, stored: int, at: int
) -> None:
    prices, store = make_prices(), PriceStore(tmp_path)
    if stored:
        store.upsert(prices[:stored])
    corrected = prices.copy()
    corrected.loc[3, "volume"] += 1000.0
    writer = FORK.Process(target=_die_while_writing, args=(tmp_path, corrected, at))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL
    left = store.read()
    assert left.equals(prices[:stored]) or left.equals(corrected)
    assert store.content_hash() == hash_prices(left)
    assert store.upsert(corrected).added == len(prices) - len(left)
    assert_frame_equal(store.read(), corrected)
    assert store.content_hash() == hash_prices(corrected)
    files = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    changes = ["000002-000002.parquet"] if stored else []
    assert files == [".lock", *changes, "coverage.npz", "history.json", "prices.parquet"]
    assert store.coverage().bars == len(corrected)
