"""Metrics of the data: what is stored, what was left out or doubted, and when each part of the state was last made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from prometheus_client.core import Metric

from financial_assets.errors import NotMadeYetError
from financial_assets.market.freshness import overdue
from financial_assets.market.index.coverage import Coverage
from financial_assets.market.quality.notes import QualityNote
from financial_assets.monitoring.families import gauge

_OUTCOMES = ("waits", "left out", "suspicious", "repaired")


@dataclass(frozen=True)
class StoredPrices:
    """What the price store says of itself; each function is asked at each scrape.

    Parameters
    ----------
    coverage
        Which bars there are.
    notes
        What the last ingestion noted about bars.
    clock
        The session that is now.
    ingested
        The file that each ingestion writes.
    is_live
        Whether the source has new sessions by itself, so that prices can be overdue.
    """

    coverage: Callable[[], Coverage]
    notes: Callable[[], Sequence[QualityNote]]
    clock: Callable[[], pd.Timestamp]
    ingested: Path
    is_live: bool


def price_metrics(stored: StoredPrices, now: pd.Timestamp) -> Iterator[Metric]:
    """Counts of bars, notes by what became of the rows, and how far prices and clock have come.

    Raises
    ------
    NotMadeYetError
        No prices have been ingested yet.
    FinancialAssetsError
        They cannot be read.
    """
    try:
        ingested = pd.Timestamp(stored.ingested.stat().st_mtime, unit="s", tz="UTC")
    except FileNotFoundError:
        raise NotMadeYetError(f"{stored.ingested} does not exist; `financial-assets run` ingests prices") from None
    coverage, notes = stored.coverage(), stored.notes()
    spans = coverage.spans()
    yield gauge("financial_assets_price_bars", "Stored daily bars of the universe", {(): coverage.bars}, ())
    yield gauge("financial_assets_price_tickers", "Tickers with stored bars", {(): len(spans)}, ())
    # A ticker counts from its first bar to its last: before its listing nothing is missing.
    due = sum(_sessions(coverage, first, last) for first, last in zip(spans["first"], spans["last"], strict=True))
    meaning = "Stored bars over sessions between first and last bar, of all tickers"
    yield gauge("financial_assets_price_completeness_ratio", meaning, {(): coverage.bars / due} if due else {}, ())
    rows = {(outcome,): 0.0 for outcome in _OUTCOMES}
    tickers: dict[str, set[str]] = {outcome: set() for outcome in _OUTCOMES}
    for note in notes:
        rows[note.outcome,] += note.rows
        tickers[note.outcome].add(note.ticker)
    meaning = "by what became of them in the last ingestion"
    yield gauge("financial_assets_price_noted_rows", f"Bars with a quality note, {meaning}", rows, ("outcome",))
    counts = {(outcome,): len(names) for outcome, names in tickers.items()}
    yield gauge("financial_assets_price_noted_tickers", f"Tickers with a quality note, {meaning}", counts, ("outcome",))
    newest = {(): pd.Timestamp(coverage.sessions[-1]).timestamp()}
    meaning = "as the start of its day in UTC"
    yield gauge("financial_assets_newest_bar_timestamp_seconds", f"Newest session with a bar, {meaning}", newest, ())
    clock = {(): stored.clock().timestamp()}
    yield gauge("financial_assets_market_clock_timestamp_seconds", f"Session that is now, {meaning}", clock, ())
    late = len(overdue(ingested, now)) if stored.is_live else 0
    meaning = "Sessions whose prices are overdue by the exchange's calendar; 0 where the source has no new ones"
    yield gauge("financial_assets_overdue_sessions", meaning, {(): late}, ())


def _sessions(coverage: Coverage, first: pd.Timestamp, last: pd.Timestamp) -> int:
    return int(((coverage.sessions >= first) & (coverage.sessions <= last)).sum())


def freshness_metrics(files: Mapping[str, Path]) -> Iterator[Metric]:
    """When each part of the state was last written; a part that does not exist has no series.

    Parameters
    ----------
    files
        Part -> its file, or the folder in which its newest file lies.
    """
    found: dict[tuple[str, ...], float] = {}
    for part, path in files.items():
        written = [each.stat().st_mtime for each in (path.iterdir() if path.is_dir() else (path,)) if each.is_file()]
        if written:
            found[part,] = max(written)
    if not found:
        raise NotMadeYetError("the state folder is empty; `financial-assets run` fills it")
    yield gauge("financial_assets_written_timestamp_seconds", "When a part of the state was written", found, ("part",))
