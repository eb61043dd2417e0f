"""Laws of ingestion: however prices arrive, the store ends up as if they had come at once, or stays as it was."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from financial_assets.errors import MarketDataError, SourceError
from financial_assets.market import calendar
from financial_assets.market.ingestion import due_again, ingest
from financial_assets.market.schemas import QualityResult
from financial_assets.market.sources import FetchResult, deliver
from financial_assets.market.store import PriceStore

MakePrices = Callable[..., pd.DataFrame]
TICKERS = ("AAA", "BBB")
OVERLAP = 15  # calendar days


class Source:
    """Holds prices, notes what it is asked, and cannot deliver some tickers."""

    name = "test"

    def __init__(self, prices: pd.DataFrame, *, live: bool = True, broken: Sequence[str] = ()) -> None:
        self.prices, self.live, self.broken = prices, live, set(broken)
        self.asked: list[tuple[dt.date | None, dt.date | None]] = []
        self.tickers: list[list[str]] = []

    def fetch(self, tickers: Sequence[str], start: dt.date | None, end: dt.date | None) -> FetchResult:
        self.asked.append((start, end))
        self.tickers.append(list(tickers))
        held = self.prices[~self.prices["ticker"].isin(self.broken)]
        delivered = deliver(held, tickers, start, end, origin="the test")
        return FetchResult(delivered.prices, dict.fromkeys(delivered.failures, "timed out"))


@pytest.fixture
def store(tmp_path: Path) -> PriceStore:
    return PriceStore(tmp_path)


def until(prices: pd.DataFrame, count: int) -> pd.DataFrame:
    """The first ``count`` sessions."""
    return prices[prices["date"].isin(prices["date"].unique()[:count])].reset_index(drop=True)


@settings(max_examples=8, deadline=None)
@given(steps=st.lists(st.integers(2, 60), min_size=1, max_size=4).map(sorted), live=st.booleans())
def test_session_by_session_gives_what_one_fetch_gives(make_prices: MakePrices, steps: list[int], live: bool) -> None:
    prices = make_prices(count=60)
    with tempfile.TemporaryDirectory() as folder:
        store, added = PriceStore(Path(folder)), 0
        for count in [*steps, 60]:
            outcome = ingest(Source(until(prices, count), live=live), store, TICKERS)
            assert outcome.report is not None
            added += outcome.report.added
        assert added == len(prices)
        assert_frame_equal(store.read(), prices)


def test_a_correction_of_old_bars_is_seen_when_the_whole_history_is_fetched_again(
    store: PriceStore, make_prices: MakePrices
) -> None:
    prices = make_prices(count=200)
    ingest(Source(until(prices, 199)), store, TICKERS)
    corrected = prices.copy()
    wrong = (corrected["ticker"] == "BBB") & (corrected["date"] == prices["date"].unique()[20])
    corrected.loc[wrong, "volume"] += 1000.0
    unseen = ingest(Source(corrected), store, TICKERS)
    assert unseen.report is not None
    assert unseen.report.restated.empty, "it lies before the overlap"
    source = Source(corrected)
    seen = ingest(source, store, TICKERS, whole_again=["BBB"])
    assert sorted(zip(source.tickers, source.asked, strict=True)) == [
        (["AAA"], (prices["date"].max().date() - dt.timedelta(days=OVERLAP), None)),
        (["BBB"], (None, None)),
    ]
    assert seen.report is not None
    assert seen.report.restated["date"].tolist() == [prices["date"].unique()[20]]
    assert_frame_equal(store.read(), corrected)


def test_every_ticker_is_due_once_in_so_many_sessions() -> None:
    tickers = [f"T{number}" for number in range(40)]
    closes = [calendar.session_close(day) for day in calendar.sessions("2024-03-01", "2024-03-28")]
    due = [due_again(tickers, len(closes), close) for close in closes]
    assert sorted(name for names in due for name in names) == sorted(tickers)
    assert max(map(len, due)) < len(tickers) / 4, "they are spread over the sessions"
    assert due_again(tickers, 0, closes[0]) == []


def test_a_live_source_resumes_before_the_last_stored_session(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Source(until(prices, 50)), store, TICKERS)
    last = until(prices, 50)["date"].max().date()
    source = Source(prices)
    outcome = ingest(source, store, TICKERS)
    assert source.asked == [(last - dt.timedelta(days=OVERLAP), None)]
    assert outcome.report is not None
    assert outcome.report.added == 2 * 10
    assert outcome.report.unchanged > 0, "the overlap is compared"


@pytest.mark.parametrize(("behind", "requests"), [(20, 1), (45, 2)])
def test_a_ticker_left_behind_is_fetched_apart(
    store: PriceStore, make_prices: MakePrices, behind: int, requests: int
) -> None:
    prices = make_prices(count=60)
    last = prices["date"].unique()[59 - behind]
    ingest(Source(prices[(prices["ticker"] == "AAA") | (prices["date"] <= last)]), store, TICKERS)
    source = Source(prices)
    ingest(source, store, TICKERS)
    starts = sorted(start for start, _ in source.asked if start is not None)
    assert starts[0] == (last - dt.timedelta(days=OVERLAP)).date()
    assert len(source.asked) == requests
    assert_frame_equal(store.read(), prices)


def test_the_configured_start_is_never_undercut(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    start, end = prices["date"].unique()[55].date(), prices["date"].unique()[58].date()
    ingest(Source(until(prices, 57)), store, TICKERS, start=start)
    source = Source(prices)
    ingest(source, store, TICKERS, start=start, end=end)
    assert source.asked == [(start, end)]
    assert store.read()["date"].min().date() == start
    assert store.read()["date"].max().date() == end


def test_one_factor_needs_no_second_download(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Source(until(prices, 50)), store, TICKERS)
    split = prices.assign(adj_close=prices["adj_close"] / 2)
    source = Source(split)
    outcome = ingest(source, store, TICKERS)
    assert len(source.asked) == 1
    assert outcome.report is not None
    assert set(outcome.report.rescaled["ticker"]) == set(TICKERS)
    assert_frame_equal(store.read(), split)


def test_a_settled_volume_needs_no_second_download(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    early = until(prices, 50)
    early.loc[early["date"] == early["date"].max(), "volume"] *= 0.8
    ingest(Source(early), store, TICKERS)
    source = Source(prices)
    outcome = ingest(source, store, TICKERS)
    assert len(source.asked) == 1
    assert outcome.report is not None
    assert (outcome.report.added, len(outcome.report.restated)) == (2 * 10, 2)
    assert_frame_equal(store.read(), prices)


def test_only_restated_tickers_are_fetched_whole(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Source(until(prices, 50)), store, TICKERS)
    other = prices.copy()
    mine = other["ticker"] == "BBB"
    session = np.arange(mine.sum())
    # Two dividends, the first at the beginning of what is fetched again: no one factor explains the difference.
    other.loc[mine, "adj_close"] *= np.select([session < 40, session < 45], [0.95, 0.98], 1.0)
    source = Source(other)
    outcome = ingest(source, store, TICKERS)
    assert source.asked[-1] == (None, None)
    assert source.tickers == [list(TICKERS), ["BBB"]]
    assert outcome.report is not None
    assert (outcome.report.added, set(outcome.report.restated["ticker"])) == (2 * 10, {"BBB"})
    assert_frame_equal(store.read(), other)


def test_restated_by_rounding_only_is_not_restated(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Source(until(prices, 50)), store, TICKERS)
    source = Source(prices.assign(close=prices["close"] * (1 + 1e-7)))
    outcome = ingest(source, store, TICKERS)
    assert len(source.asked) == 1
    assert outcome.report is not None
    assert outcome.report.restated.empty


def test_a_new_ticker_alone_is_fetched_over_its_whole_span(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(("AAA", "BBB", "CCC"), count=60)
    ingest(Source(prices), store, TICKERS)
    source = Source(prices)
    outcome = ingest(source, store, ["AAA", "BBB", "CCC"])
    since = (prices["date"].max() - dt.timedelta(days=OVERLAP)).date()
    assert source.asked == [(since, None), (None, None)]
    assert source.tickers == [["AAA", "BBB"], ["CCC"]]
    assert outcome.report is not None
    assert outcome.report.added == 60
    assert_frame_equal(store.read(), prices)


def test_a_refused_group_is_the_failure_of_its_tickers(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Source(until(prices, 50)), store, TICKERS)
    outcome = ingest(Source(prices), store, [*TICKERS, "NEW"])
    assert outcome.never_delivered == ("NEW",)
    assert "does not have it" in outcome.failures["NEW"] or "NEW" in outcome.failures["NEW"]
    assert_frame_equal(store.read(), prices)


def test_a_bar_that_a_file_no_longer_has_goes(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Source(prices, live=False), store, TICKERS)
    without = prices.drop(index=59).reset_index(drop=True)  # the last bar of AAA
    outcome = ingest(Source(without, live=False), store, TICKERS)
    assert outcome.report is not None
    assert_frame_equal(outcome.report.removed, prices.loc[[59]].reset_index(drop=True))
    (told,) = outcome.source_changes
    assert told.startswith(f"the source no longer has 1 stored bar (AAA {prices['date'][59]:%Y-%m-%d}): removed")
    assert_frame_equal(store.read(), without)
    assert ingest(Source(prices, live=False), store, TICKERS).report.added == 1  # type: ignore[union-attr]


def test_bars_outside_the_asked_span_are_not_missing(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Source(prices, live=False), store, TICKERS)
    days = prices["date"].unique()
    outcome = ingest(Source(prices, live=False), store, TICKERS, days[10].date(), days[40].date())
    assert outcome.missing_at_source.empty
    assert_frame_equal(store.read(), prices)


@pytest.mark.parametrize("live", [True, False])
def test_an_older_file_or_a_hole_of_a_live_source_takes_nothing_away(
    store: PriceStore, make_prices: MakePrices, live: bool
) -> None:
    prices = make_prices(count=60)
    ingest(Source(prices, live=live), store, TICKERS)
    outcome = ingest(Source(until(prices, 58 if live else 50), live=live), store, TICKERS)
    assert outcome.report is not None
    assert outcome.report.removed.empty
    assert len(outcome.missing_at_source) == (4 if live else 20)
    assert set(outcome.doubtful) == (set() if live else set(TICKERS))
    told = " ".join(outcome.source_changes)
    assert ("did not deliver 4 stored bars (AAA 2020" if live else "no longer has 10 of 60 stored bars") in told
    assert_frame_equal(store.read(), prices)


def test_a_rolling_download_is_taken(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    early = until(prices, 50)
    early.loc[49, "volume"] *= 0.8
    ingest(Source(early, live=False), store, TICKERS)
    window = prices[prices["date"] >= prices["date"][30]].reset_index(drop=True)
    outcome = ingest(Source(window, live=False), store, TICKERS)
    assert outcome.report is not None
    assert (outcome.report.added, len(outcome.report.restated)) == (20, 1)
    assert outcome.missing_at_source.empty
    assert_frame_equal(store.read(), prices)


def test_a_ticker_that_fails_now_is_not_one_that_never_came(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    first = ingest(Source(prices, broken=["BBB"]), store, TICKERS)
    assert first.never_delivered == ("BBB",)
    assert dict(first.failures) == {"BBB": "timed out"}
    ingest(Source(until(prices, 50)), store, TICKERS)
    later = ingest(Source(prices, broken=["BBB"]), store, TICKERS)
    assert later.never_delivered == ()
    assert dict(later.failures) == {"BBB": "timed out"}
    assert later.report is not None
    ingest(Source(prices), store, TICKERS)
    assert_frame_equal(store.read(), prices)


def test_a_source_without_anything_is_an_error_and_changes_nothing(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices()
    ingest(Source(prices), store, TICKERS)
    known = store.content_hash()
    with pytest.raises(SourceError):
        ingest(Source(prices, broken=TICKERS), store, TICKERS)
    assert store.content_hash() == known


def harm(prices: pd.DataFrame, kind: str, row: int) -> pd.DataFrame:
    """One row of the second half made impossible."""
    broken = prices.copy()
    match kind:
        case "duplicate":
            return pd.concat([broken, broken.loc[[row]]], ignore_index=True)
        case "gap":
            return broken.drop(index=row).reset_index(drop=True)
        case "order":
            broken.loc[row, "high"] = 0.5 * broken.loc[row, "low"]
        case "negative":
            broken.loc[row, "volume"] = -1.0
        case "missing":
            broken.loc[row, "close"] = np.nan
        case "infinite":
            broken.loc[row, "open"] = np.inf
        case "spike":
            broken.loc[row, "adj_close"] *= 100.0
    return broken


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["duplicate", "gap", "order", "negative", "missing", "infinite", "spike"]),
    session=st.integers(48, 58),
    ticker=st.sampled_from(TICKERS),
    live=st.booleans(),
)
def test_with_strict_no_delivery_with_an_impossible_bar_reaches_the_store(
    make_prices: MakePrices, kind: str, session: int, ticker: str, live: bool
) -> None:
    prices = make_prices(count=60)
    with tempfile.TemporaryDirectory() as folder:
        store = PriceStore(Path(folder))
        ingest(Source(until(prices, 45), live=live), store, TICKERS)
        known = store.content_hash()
        row = int(prices.index[(prices["ticker"] == ticker) & (prices["date"] == prices["date"].unique()[session])][0])
        outcome = ingest(Source(harm(prices, kind, row), live=live), store, TICKERS, policy="strict")
        assert outcome.report is None
        assert store.content_hash() == known
        shown = pd.concat([result.failures for result in outcome.blocking_failures])
        assert ((shown["ticker"] == ticker) & (shown["date"] == prices["date"][row])).any()
        assert ingest(Source(prices, live=live), store, TICKERS).report is not None
        assert_frame_equal(store.read(), prices)


def test_a_warning_does_not_block(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    fallen = (prices["ticker"] == "AAA") & (prices["date"] >= prices["date"].unique()[30])
    prices.loc[fallen, ["open", "high", "low", "close", "adj_close"]] *= 0.48
    outcome = ingest(Source(prices), store, TICKERS)
    assert outcome.report is not None
    assert outcome.blocking_failures == ()
    warned: list[QualityResult] = [result for result in outcome.quality if not result.passed]
    assert [result.name for result in warned] == ["extreme_moves"]


def test_with_strict_a_hole_behind_what_is_stored_blocks_and_names_the_missing_session(
    store: PriceStore, make_prices: MakePrices
) -> None:
    prices = make_prices()
    sessions = prices["date"].drop_duplicates().sort_values().tolist()
    store.upsert(prices[prices["date"] <= sessions[3]])
    before = store.content_hash()
    later = prices[prices["date"] >= sessions[6]]
    outcome = ingest(Source(later), store, sorted(prices["ticker"].unique()), policy="strict")
    assert outcome.report is None
    (gap,) = outcome.blocking_failures
    assert gap.name == "completeness"
    assert set(gap.failures["date"]) == {sessions[4], sessions[5]}
    assert store.content_hash() == before


def test_a_second_ingestion_adds_nothing(store: PriceStore, make_prices: MakePrices) -> None:
    source = Source(make_prices(), live=False)
    first, second = ingest(source, store, TICKERS), ingest(source, store, TICKERS)
    assert first.report is not None
    assert second.report is not None
    assert (first.report.added, first.report.unchanged) == (80, 0)
    assert (second.report.added, second.report.unchanged) == (0, 80)
    assert source.asked == [(None, None)] * 2


def restated(prices: pd.DataFrame) -> pd.DataFrame:
    later = prices.copy()
    old = later["date"] < prices["date"][50]
    later.loc[old, "adj_close"] *= np.linspace(0.9, 0.97, old.sum())  # no common factor
    return later


def test_a_death_between_the_two_fetches_heals_itself(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    known = until(prices, 45)
    ingest(Source(known), store, TICKERS)

    class Dying(Source):
        def fetch(self, tickers: Sequence[str], start: dt.date | None, end: dt.date | None) -> FetchResult:
            if self.asked:
                raise KeyboardInterrupt
            return super().fetch(tickers, start, end)

    with pytest.raises(KeyboardInterrupt):
        ingest(Dying(restated(prices)), store, TICKERS)
    assert_frame_equal(store.read(), known)
    ingest(Source(restated(prices)), store, TICKERS)
    assert_frame_equal(store.read(), restated(prices))


def test_a_start_that_leaves_out_what_was_restated_is_an_error(store: PriceStore, make_prices: MakePrices) -> None:
    prices = make_prices(count=60)
    ingest(Source(prices, live=False), store, TICKERS)
    with pytest.raises(MarketDataError, match=r"AAA: the delivery begins.*INGESTION_START_DATE=2020.*BBB: "):
        ingest(Source(restated(prices), live=False), store, TICKERS, start=prices["date"][10].date())
    assert_frame_equal(store.read(), prices)


def test_messages_about_many_tickers_name_some_and_count_the_rest(store: PriceStore, make_prices: MakePrices) -> None:
    tickers = [f"T{number:02d}" for number in range(12)]
    prices = make_prices(tuple(tickers), count=60)
    ingest(Source(prices, live=False), store, tickers)
    older = ingest(Source(until(prices, 50), live=False), store, tickers)
    assert len(older.source_changes) == 6
    assert older.source_changes[0].startswith("T00: the source, which ends on ")
    assert older.source_changes[-1] == "the same of 7 more tickers: T05, T06, T07, T08, T09, ..."
    window = prices[prices["date"] >= prices["date"].unique()[30]].copy()
    window["close"] *= np.where(window["date"] < window["date"].unique()[10], 1.01, 1.02)
    window["high"] *= 1.1
    with pytest.raises(MarketDataError, match=r"; and 8 more tickers: T04, T05, T06, T07, T08, \.\.\.$"):
        ingest(Source(window, live=False), store, tickers)


def test_a_week_of_bad_bars_from_a_live_source_does_not_hold_a_long_history_back_for_ever(
    make_prices: MakePrices, store: PriceStore
) -> None:
    prices = make_prices(count=240)
    wrong = prices.copy()
    columns = ["open", "high", "low", "close", "adj_close"]
    wrong.loc[200:205, columns] *= 0.01
    ingest(Source(until(wrong, 200)), store, TICKERS)
    during = ingest(Source(until(wrong, 206)), store, TICKERS)
    assert not during.screening.waiting
    assert len(during.screening.quarantined) == 6
    ingest(Source(wrong), store, TICKERS)
    assert_frame_equal(store.read(TICKERS), prices.drop(index=range(200, 206)).reset_index(drop=True))
