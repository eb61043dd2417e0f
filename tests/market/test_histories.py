"""Bars ticker by ticker beside the price store: the same bars, read without those of anybody else."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from financial_assets.market import price_log
from financial_assets.market.frames import hash_prices
from financial_assets.market.index.histories import Histories, load_histories, save_histories
from financial_assets.market.price_log import PriceLog
from financial_assets.market.store import PriceStore
from tests.market.dying import die_at_write

MakePrices = Callable[..., pd.DataFrame]
NAMES = tuple(f"T{row:02d}" for row in range(12))


@pytest.fixture
def prices(make_prices: MakePrices) -> pd.DataFrame:
    prices = make_prices(NAMES, count=30)
    return prices.drop(index=prices.index[40:47]).reset_index(drop=True)


def kept(path: Path, prices: pd.DataFrame) -> Histories:
    save_histories(path, prices, hash_prices(prices))
    held = load_histories(path, hash_prices(prices))
    assert held is not None
    return held


@pytest.mark.parametrize("seed", [None, 0])
def test_some_tickers_have_the_bars_that_were_written(prices: pd.DataFrame, tmp_path: Path, seed: int | None) -> None:
    given = prices if seed is None else prices.sample(frac=1.0, random_state=seed)
    held = kept(tmp_path / "histories.npy", given)
    for asked in (("T03", "T01"), ("T11",), NAMES, ("T02", "none"), ("none",)):
        found = held.read(asked)
        assert found is not None
        wanted = prices[prices["ticker"].isin(asked)].reset_index(drop=True)
        assert found["ticker"].dtype == "category"
        pd.testing.assert_frame_equal(found.astype({"ticker": object}), wanted)


def test_another_base_or_a_damaged_file_is_not_read(prices: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "histories.npy"
    assert load_histories(path, "") is None
    kept(path, prices)
    assert load_histories(path, "0" * 32) is None
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    assert load_histories(path, hash_prices(prices)) is None
    path.write_bytes(content[:-4] + bytes(byte ^ 1 for byte in content[-4:]))
    held = load_histories(path, hash_prices(prices))
    assert held is not None
    assert held.read(("T11",)) is None, "the last bar has changed"
    assert held.read(("T10",)) is not None


@pytest.fixture
def source(make_prices: MakePrices) -> pd.DataFrame:
    return make_prices(NAMES, count=80)


def dividend(source: pd.DataFrame, ticker: str, day: pd.Timestamp) -> None:
    source["adj_close"] *= np.where((source["ticker"] == ticker) & (source["date"] < day), 0.98, 1.0)


def test_a_dividend_reads_its_ticker_alone(
    source: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_log, "_ROWS_PER_GROUP", 100)
    days = source["date"].unique()
    store, plain = PriceStore(tmp_path / "prices"), PriceStore(tmp_path / "plain")
    for each in (store, plain):
        each.upsert(source[source["date"] <= days[60]])
    plain.root.joinpath("histories.npy").unlink()
    for at, ticker in ((61, "T03"), (64, "T07"), (70, "T03")):
        dividend(source, ticker, days[at])
        delivered = source[(source["date"] > days[at - 15]) & (source["date"] <= days[at])]
        for each in (store, plain):
            assert list(each.upsert(delivered).rescaled["ticker"]) == [ticker]
            each.root.joinpath("histories.npy").unlink() if each is plain else None
        assert store.content_hash() == plain.content_hash() == hash_prices(store.read())
        for asked in (("T03",), ("T03", "T07"), ("T00",)):
            for end in (None, days[30].date()):
                pd.testing.assert_frame_equal(store.read(asked, None, end), plain.read(asked, None, end))
            for change in store.history():
                mine = store.read(asked, known_at=change.known_at)
                whole = store.read(known_at=change.known_at)
                pd.testing.assert_frame_equal(mine, whole[whole["ticker"].isin(asked)].reset_index(drop=True))
    read = list[Path]()
    everything = PriceLog._load

    def watched(log: PriceLog, path: Path, *given: object) -> pd.DataFrame:
        read.append(path)
        return everything(log, path, *given)

    monkeypatch.setattr(PriceLog, "_load", watched)
    store.read(("T03",))
    assert store.path not in read
    store.read(NAMES)
    assert store.path in read


def test_the_store_of_an_earlier_version_gets_one_with_its_next_dividend(
    source: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_log, "_ROWS_PER_GROUP", 100)
    days, store = source["date"].unique(), PriceStore(tmp_path)
    store.upsert(source[source["date"] <= days[60]])
    path = tmp_path / "histories.npy"
    first = path.read_bytes()
    path.unlink()
    store.upsert(source[source["date"] <= days[61]])
    assert not path.exists()
    dividend(source, "T03", days[62])
    store.upsert(source[source["date"].between(days[50], days[62])])
    assert path.read_bytes() == first
    assert store.content_hash() == hash_prices(store.read())


def _die_while_writing(root: Path, prices: pd.DataFrame, at: int) -> None:
    """Killed at the file number ``at`` that an upsert writes, with half of it on the disk."""
    die_at_write(at)
    PriceStore(root).upsert(prices)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("at", range(8))
def test_a_power_cut_half_way_leaves_old_or_new_prices(
    source: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, is_new: bool
) -> None:
    monkeypatch.setattr(price_log, "_ROWS_PER_GROUP", 100)
    days, store, path = source["date"].unique(), PriceStore(tmp_path), tmp_path / "histories.npy"
    before, delivered = 0, source[source["date"] <= days[60]]
    if not is_new:  # with a dividend, and without the file, which is to be written again
        store.upsert(delivered)
        path.unlink()
        before = 1
        dividend(source, "T03", days[61])
        delivered = source[source["date"].between(days[50], days[61])]
    writer = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=(tmp_path, delivered, at))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL
    assert len(store.history()) in (before, before + 1)
    left = store.read()
    assert store.content_hash() == hash_prices(left)
    for name in NAMES:
        pd.testing.assert_frame_equal(store.read((name,)), left[left["ticker"] == name].reset_index(drop=True))
    store.upsert(delivered)
    assert len(store.history()) == before + 1
    assert store.history()[-1].rescaled == (() if is_new else ("T03",))
    assert store.content_hash() == hash_prices(store.read())
    assert not list(tmp_path.glob(".histories*"))
    if path.exists():
        assert load_histories(path, store.history()[0].new_hash) is not None


def test_a_small_store_has_none(source: pd.DataFrame, tmp_path: Path) -> None:
    PriceStore(tmp_path).upsert(source)
    assert not (tmp_path / "histories.npy").exists()
