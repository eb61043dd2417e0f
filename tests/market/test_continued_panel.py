"""A panel brought up to date is the panel laid out as a whole, bit for bit, whatever has changed in the store."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from financial_assets.errors import MarketDataError
from financial_assets.market.panel import Members, PricePanel, build_layout
from financial_assets.market.panels import stored as stored_panels
from financial_assets.market.panels.continued import continued
from financial_assets.market.panels.stored import Basis, StoredPanel
from financial_assets.market.store import PriceStore
from tests.market.dying import die_at_write

MakePrices = Callable[..., pd.DataFrame]
NAMES = ("AAA", "BBB", "CCC", "^VIX")
OHLC = ["open", "high", "low", "close"]


class Home:
    """A store, what of it is used, and the panel stored of it."""

    def __init__(self, folder: Path, members: Members | None = None) -> None:
        self.store, self.path, self.members = PriceStore(folder / "prices"), folder / "panel.npz", members
        self.left_out: dict[str, tuple[str, ...]] = {}

    def read(self, tickers: Sequence[str] | None, first: dt.date | None, last: dt.date | None) -> pd.DataFrame:
        prices = self.store.read(tickers, first, last)
        days = prices["date"].dt.strftime("%Y-%m-%d")
        wrong = [day in self.left_out.get(ticker, ()) for ticker, day in zip(prices["ticker"], days, strict=True)]
        return prices[~np.array(wrong, dtype=bool)].reset_index(drop=True)

    def basis(self) -> Basis:
        history = self.store.history()
        return Basis(len(history), history[-1].new_hash, ("XNYS",), dict(self.left_out))

    def whole(self, now: pd.Timestamp) -> StoredPanel:
        return StoredPanel(build_layout(self.read(None, None, None), self.members), self.basis()).until(now)

    def continued(self, now: pd.Timestamp) -> StoredPanel | None:
        stored = StoredPanel.load(self.path)
        assert stored is not None
        return continued(stored, self.store, self.basis(), self.read, self.members, now)


def assert_kept(before: StoredPanel, after: StoredPanel) -> None:
    """What the lineage says to be the same is the same."""
    known = len(before.layout.sessions)
    ancestor = after.lineage.since(before.lineage.name, known)
    assert ancestor is not None
    rows = [row for row, name in enumerate(after.layout.tickers) if name not in ancestor.apart]
    assert ancestor.kept <= known
    for name in ("values", "valid"):
        mine, its = (getattr(one.layout, name)[rows][..., : ancestor.kept] for one in (before, after))
        assert np.array_equal(mine, its, equal_nan=name == "values")


def assert_same(one: StoredPanel, other: StoredPanel) -> None:
    assert one.panel.content_hash() == other.panel.content_hash()
    assert one.panel.version() == other.panel.version()
    assert (one.layout.tickers, one.basis) == (other.layout.tickers, other.basis)
    assert one.layout.sessions.equals(other.layout.sessions)
    both = one.layout, other.layout
    for name in ("values", "adjusted", "growth", "belongs", "valid"):
        mine, its = (layout.adjusted.joined() if name == "adjusted" else getattr(layout, name) for layout in both)
        assert mine.dtype == its.dtype
        assert np.array_equal(mine, its, equal_nan=mine.dtype != bool), name


KINDS = ("nothing", "settle", "dividend", "correct", "old", "gone", "pad", "left out", "halt")


@settings(max_examples=20, deadline=None)
@given(
    events=st.lists(
        st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES), st.integers(0, 79), st.integers(1, 3)),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 1000),
    ahead=st.integers(0, 2),
    most_rows=st.sampled_from([0.0, 0.5, 1.0]),
)
@example(events=[("gone", "AAA", 0, 1), ("nothing", "AAA", 0, 1)], seed=0, ahead=0, most_rows=0.0)
@example(
    events=[("dividend", "AAA", 0, 1), ("old", "BBB", 9, 1), ("settle", "CCC", 0, 1)], seed=1, ahead=0, most_rows=1
)
def test_whatever_has_changed(
    make_prices: MakePrices, events: list[tuple[str, str, int, int]], seed: int, ahead: int, most_rows: float
) -> None:
    source = make_prices(NAMES, count=100, seed=seed)
    days = source["date"].unique()
    source.loc[source["ticker"] == "^VIX", "volume"] = 0.0
    source = source[~((source["ticker"] == "CCC") & (source["date"] < days[60]))]
    end = 79
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(stored_panels, "_MOST_ROWS", most_rows):
        home = Home(Path(folder))
        home.store.upsert(source[source["date"] <= days[end + ahead]])
        states = [home.whole(days[end])]
        states[0].save(home.path)
        for kind, name, at, step in events:
            mine, gone = source["ticker"] == name, None
            end += step
            row = source.index[mine][min(at, int(mine.sum()) - 1)]
            recent = mine & (source["date"] == days[end - 3])
            match kind:
                case "settle":
                    source.loc[recent, "volume"] *= 1.5
                case "dividend":
                    source.loc[mine & (source["date"] < days[end]), "adj_close"] *= 0.99
                case "correct":
                    source.loc[recent, [*OHLC, "adj_close"]] *= 1.01
                case "old":
                    source.loc[row, "volume"] += 5.0e5
                case "gone" if mine.sum() > 30 and source.loc[row, "date"] <= days[end - step]:
                    gone, source = source.loc[[row], ["ticker", "date"]], source.drop(index=row)
                case "pad":
                    close = float(source.loc[mine & (source["date"] == days[end - step]), "close"].iloc[0])
                    padded = mine & (source["date"] > days[end - step]) & (source["date"] <= days[end])
                    source.loc[padded, OHLC], source.loc[padded, "volume"] = close, 0.0
                case "left out":
                    home.left_out[name] = (f"{source.loc[row, 'date']:%Y-%m-%d}",)
                case "halt" if name != "AAA":
                    source = source[~(mine & (source["date"] > days[end - step]) & (source["date"] < days[end]))]
                case _:
                    pass
            if gone is not None and gone["date"].iloc[0] > days[end + ahead]:
                gone = None
            home.store.upsert(source[source["date"] <= days[end + ahead]], gone)
            longer, whole = home.continued(days[end]), home.whole(days[end])
            if longer is not None:
                assert_same(longer, whole)
                for state in states:
                    assert_kept(state, longer)
            states = [*states, longer] if longer is not None else [whole]
            states[-1].save(home.path)
            assert PricePanel.load(home.path).content_hash() == whole.panel.content_hash()
            assert PricePanel.load(home.path).version() == whole.panel.version()
            stored = StoredPanel.load(home.path)
            assert stored is not None
            assert_same(stored, states[-1])
            assert stored.layout.digests.shape == (2, len(whole.layout.sessions)), "none is computed again"


@pytest.fixture
def home(make_prices: MakePrices, tmp_path: Path) -> Home:
    home = Home(tmp_path)
    source = make_prices(tuple(f"T{row:02d}" for row in range(20)), count=80)
    home.store.upsert(source[source["date"] <= source["date"].unique()[70]])
    home.whole(source["date"].max()).save(home.path)
    return home


@pytest.fixture
def source(make_prices: MakePrices) -> pd.DataFrame:
    return make_prices(tuple(f"T{row:02d}" for row in range(20)), count=80)


def upsert(home: Home, prices: pd.DataFrame) -> pd.Timestamp:
    home.store.upsert(prices)
    return pd.Timestamp(home.store.read()["date"].max())


def test_a_new_session_reads_the_last_ones_only(home: Home, source: pd.DataFrame) -> None:
    days = source["date"].unique()
    now, read = upsert(home, source[source["date"] <= days[71]]), list[tuple[object, ...]]()
    everything = home.read

    def watched(tickers: Sequence[str] | None, first: dt.date | None, last: dt.date | None) -> pd.DataFrame:
        read.append((tickers, first, last))
        return everything(tickers, first, last)

    home.read = watched
    longer = home.continued(now)
    assert longer is not None
    assert read == [(None, (days[71] - pd.Timedelta(days=20)).date(), days[71].date())]
    home.read = everything
    assert_same(longer, home.whole(now))


def test_a_dividend_lays_out_its_ticker_alone(home: Home, source: pd.DataFrame) -> None:
    days = source["date"].unique()
    paid = (source["ticker"] == "T07") & (source["date"] < days[71])
    source["adj_close"] *= np.where(paid, 0.98, 1.0)
    now = upsert(home, source[(source["date"] > days[60]) & (source["date"] <= days[71])])
    assert home.store.history()[-1].rescaled == ("T07",)
    longer = home.continued(now)
    assert longer is not None
    assert_same(longer, home.whole(now))
    stored = StoredPanel.load(home.path)
    assert stored is not None
    ancestor = longer.lineage.since(stored.lineage.name, 71)
    assert ancestor is not None
    assert ancestor.apart == ("T07",)
    assert_kept(stored, longer)


def test_the_clock_alone_moves(home: Home, source: pd.DataFrame) -> None:
    days = source["date"].unique()
    home.store.upsert(source)
    home.whole(days[60]).save(home.path)
    names: list[str] = []
    for at in (61, 64, 64, 75):
        longer = home.continued(days[at])
        assert longer is not None
        assert_same(longer, home.whole(days[at]))
        names.append(longer.lineage.name)
        longer.save(home.path)
    assert names[1] == names[2], "nothing has changed"
    assert len(set(names)) == 3
    assert home.continued(days[70]) is None, "a clock never goes back"


def test_a_universe_with_dates(make_prices: MakePrices, tmp_path: Path) -> None:
    source = make_prices(("AAA", "BBB"), count=60)
    days = source["date"].unique()

    def members(tickers: Sequence[str], sessions: pd.DatetimeIndex) -> np.ndarray:
        return np.array([(sessions < days[52]) | (name == "AAA") for name in tickers])

    home = Home(tmp_path, members)
    home.store.upsert(source)
    home.whole(days[50]).save(home.path)
    longer = home.continued(days[55])
    assert longer is not None
    assert_same(longer, home.whole(days[55]))
    home.members = lambda tickers, sessions: np.array([sessions < days[20] for _ in tickers])
    assert home.continued(days[55]) is None, "the past has changed"


def test_what_asks_for_the_whole(home: Home, source: pd.DataFrame) -> None:
    days = source["date"].unique()
    stored = StoredPanel.load(home.path)
    assert stored is not None
    now = upsert(home, source[source["date"] <= days[71]])
    basis, read = home.basis(), home.read
    other = replace(stored, basis=replace(stored.basis, content_hash="0" * 32))
    assert continued(other, home.store, basis, read, None, now) is None, "another store"
    other = replace(stored, basis=replace(stored.basis, settings=("XLON",)))
    assert continued(other, home.store, basis, read, None, now) is None, "other settings"
    first = source[source["date"] == days[0]].assign(volume=1.0)
    now = upsert(home, first)
    assert home.continued(now) is None, "the first session has changed"
    home.whole(now).save(home.path)
    now = upsert(home, source[source["date"] <= days[72]].replace({"ticker": {"T03": "NEW"}}))
    assert home.continued(now) is None, "a new ticker"
    home.whole(now).save(home.path)
    source["volume"] += np.where(source["date"] == days[10], 1000.0, 0.0)
    now = upsert(home, source[source["date"] <= days[72]])
    assert home.continued(now) is None, "too many are to be laid out apart"


def test_what_is_stored_is_not_written_again(home: Home, source: pd.DataFrame) -> None:
    days, tail = source["date"].unique(), home.path.with_name("panel.tail.npz")
    inode, first = home.path.stat().st_ino, home.path.read_bytes()
    for at in (71, 72, 75):
        now = upsert(home, source[source["date"] <= days[at]])
        longer = home.continued(now)
        assert longer is not None
        longer.save(home.path)
        assert PricePanel.load(home.path).content_hash() == home.whole(now).panel.content_hash()
        loaded = StoredPanel.load(home.path)
        assert loaded is not None
        assert_same(loaded, home.whole(now))
        assert loaded.lineage == longer.lineage
    assert home.path.stat().st_ino == inode
    assert tail.stat().st_size < len(first) / 2
    kept = tail.read_bytes()
    tail.write_bytes(kept[:100])
    assert StoredPanel.load(home.path) is None
    with pytest.raises(MarketDataError, match="is not a price panel"):
        PricePanel.load(home.path)
    home.whole(now).save(home.path)
    assert not tail.exists()
    tail.write_bytes(kept)  # the power has failed before it was removed
    assert PricePanel.load(home.path).content_hash() == home.whole(now).panel.content_hash()
    home.whole(now).panel.save(home.path)  # an earlier version
    assert PricePanel.load(home.path).content_hash() == home.whole(now).panel.content_hash()


def pay(home: Home, source: pd.DataFrame, tickers: Sequence[str], at: int) -> pd.Timestamp:
    """Dividends on the session number ``at``, as a live source delivers it."""
    days = source["date"].unique()
    source["adj_close"] *= np.where(source["ticker"].isin(tickers) & (source["date"] < days[at]), 0.98, 1.0)
    return upsert(home, source[(source["date"] > days[at - 12]) & (source["date"] <= days[at])])


def test_dividends_are_written_beside_the_whole(home: Home, source: pd.DataFrame) -> None:
    days, inode = source["date"].unique(), home.path.stat().st_ino
    for at, paying, rows in (
        (71, ("T07",), (7,)),
        (72, ("T03", "T11"), (3, 7, 11)),
        (73, (), (3, 7, 11)),
        (74, ("T07", "T00"), (0, 3, 7, 11)),
    ):
        now = pay(home, source, paying, at)
        longer = home.continued(now)
        assert longer is not None
        assert longer.rows == rows
        ancestor = longer.lineage.ancestors[0]
        assert (ancestor.kept, ancestor.apart) == (at, tuple(sorted(paying))), "nobody else's sessions have changed"
        longer.save(home.path)
        assert home.path.stat().st_ino == inode, "the whole is not written again"
        stored = StoredPanel.load(home.path)
        assert stored is not None
        assert_same(stored, home.whole(now))
        assert (stored.rows, stored.unchanged) == (rows, 71)
        assert PricePanel.load(home.path).content_hash() == home.whole(now).panel.content_hash()
    now = pay(home, source, ("T15",), 75)
    longer = home.continued(now)
    assert longer is not None
    longer.save(home.path)
    assert home.path.stat().st_ino != inode, "more than a fifth of the tickers"
    stored = StoredPanel.load(home.path)
    assert stored is not None
    assert (stored.rows, stored.unchanged) == ((), 76)
    assert_same(stored, home.whole(days[75]))


def test_the_tail_of_an_earlier_version_goes_on(home: Home, source: pd.DataFrame) -> None:
    days, tail = source["date"].unique(), home.path.with_name("panel.tail.npz")
    now = upsert(home, source[source["date"] <= days[72]])
    longer = home.continued(now)
    assert longer is not None
    longer.save(home.path)
    for path in (home.path, tail):  # digests of another kind, levels of the last sessions alone, and no rows
        with np.load(path) as held:
            kept = {name: held[name] for name in held.files if name not in ("session_digests", "rows")}
        digests = np.zeros((16, 73 if path == tail else 71), dtype=np.uint8)
        if path == tail:
            kept["growth"] = kept["growth"][int(kept["first"]) :]
        with path.open("wb") as stream:
            np.savez(stream, allow_pickle=False, digests=digests, **kept)
    stored = StoredPanel.load(home.path)
    assert stored is not None
    assert stored.layout.digests.shape == (2, 0)
    assert_same(stored, home.whole(now))
    now = pay(home, source, ("T07",), 73)
    longer = home.continued(now)
    assert longer is not None
    longer.save(home.path)
    stored = StoredPanel.load(home.path)
    assert stored is not None
    assert_same(stored, home.whole(now))
    assert stored.layout.digests.shape == (2, 74)


def _die_while_saving(panel: StoredPanel, path: Path, at: int) -> None:
    """Killed at the file number ``at`` that it writes, with half of it on the disk."""
    die_at_write(at)
    panel.save(path)


@pytest.mark.parametrize("most_rows", [0.0, 1.0])
@pytest.mark.parametrize("at", range(2))
def test_a_power_cut_half_way_leaves_the_old_or_the_new_panel(
    home: Home, source: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, at: int, most_rows: float
) -> None:
    first = home.continued(pay(home, source, ("T07",), 71))
    assert first is not None
    first.save(home.path)
    now = pay(home, source, ("T07", "T02"), 72)
    longer = home.continued(now)
    assert longer is not None
    monkeypatch.setattr(stored_panels, "_MOST_ROWS", most_rows)
    context = multiprocessing.get_context("fork")
    writer = context.Process(target=_die_while_saving, args=(longer, home.path, at))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL
    states = (first.panel.content_hash(), home.whole(now).panel.content_hash())
    assert PricePanel.load(home.path).content_hash() == states[at]
    again = home.continued(now)
    assert again is not None
    assert_same(again, home.whole(now))


def test_a_file_that_cannot_be_continued(home: Home) -> None:
    stored = StoredPanel.load(home.path)
    assert stored is not None
    content = home.path.read_bytes()
    stored.panel.save(home.path)  # as an earlier version has written it
    assert StoredPanel.load(home.path) is None
    home.path.write_bytes(content[: len(content) // 2])
    assert StoredPanel.load(home.path) is None
    assert StoredPanel.load(home.path.with_name("none.npz")) is None
