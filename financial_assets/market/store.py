"""The price store: everything ever ingested, and since when it is known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from financial_assets.errors import MarketDataError
from financial_assets.locking import exclusive
from financial_assets.market.frames import empty_prices, hash_prices, ticker_codes
from financial_assets.market.index.coverage import Coverage
from financial_assets.market.log.history import Change
from financial_assets.market.log.replay import BAR, RESCALED, Span
from financial_assets.market.log.upsert import UpsertReport, canonical, prepare
from financial_assets.market.price_log import PriceLog

_BEFORE = dt.timedelta(days=30)
"""Calendar days read before a delivery, for the bar that its first one follows."""

_COVERAGE = "coverage.npz"
"""Kept beside the prices, so that nobody reads them to know which there are."""

_MANY = 100
"""Tickers from which on the rows of all are read sooner than those of some."""


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, eq=False)
class StoredBars:
    """Bars as they were read from a store.

    Attributes
    ----------
    prices
        Price frame, sorted by ticker and date.
    span
        What was read.
    state
        Number of the store's last change at that time, and its hash.
    """

    prices: pd.DataFrame
    span: Span
    state: tuple[int, str]


class PriceStore:
    """Prices on disk: incremental by session, idempotent, safe under concurrent writers and a death half-way.

    Parameters
    ----------
    root
        Folder of the store; made on the first write.
    lock_timeout
        Longest wait for another writer, in seconds.
    now
        Gives the current instant (UTC-aware), which dates what is stored.
    """

    def __init__(self, root: Path, *, lock_timeout: float = 60.0, now: Callable[[], dt.datetime] = _utc_now) -> None:
        self.root = root
        self._log = PriceLog(root)
        self.path = self._log.base
        self._known: tuple[Coverage, int, str] | None = None
        self._lock_timeout = lock_timeout
        self._now = now

    def read(
        self,
        tickers: Sequence[str] | None = None,
        start: dt.date | None = None,
        end: dt.date | None = None,
        *,
        known_at: dt.datetime | None = None,
    ) -> pd.DataFrame:
        """Stored prices, sorted by ticker and date; both ends included, ``None``: all.

        Parameters
        ----------
        known_at
            Prices as this store knew them at that instant (with a time zone); ``None``: as it knows them now. Empty
            before the first were stored.

        Raises
        ------
        MarketDataError
            A file is damaged, or ``known_at`` carries no time zone.
        """
        if tickers is not None and not tickers:
            return empty_prices()
        until = None if known_at is None else self._last_known(known_at)
        return self._log.read(Span(None if tickers is None else tuple(tickers), start, end), until)

    def bars(self, tickers: Sequence[str], start: dt.date | None = None) -> StoredBars:
        """Stored prices from ``start`` on as ``read`` gives them, for an ``upsert`` that follows.

        Raises
        ------
        MarketDataError
            A file is damaged.
        """
        # Before the prices: what another writer stores meanwhile makes them those of no known state.
        state = _state(self.history())
        return StoredBars(self.read(tickers, start), Span(tuple(tickers), start), state)

    def last_sessions(self, tickers: Sequence[str] | None = None) -> pd.Series:
        """Ticker to its last stored session; a ticker without bars is absent."""
        last = self.coverage().last_days()
        return last if tickers is None else last[last.index.isin(list(tickers))]

    def coverage(self) -> Coverage:
        """Which ticker has a stored bar on which day.

        Raises
        ------
        MarketDataError
            A stored file is damaged.
        """
        self._log.require_changes()
        return self._coverage(self.history())[0]

    def _coverage(self, changes: Sequence[Change]) -> tuple[Coverage, bool]:
        """The coverage after the last of ``changes``, and whether it is kept as that."""
        if self._known is not None and self._known[1:] == _state(changes):
            return self._known[0], True
        is_before = self._known is not None and _is_kept_of(self._known, changes)
        kept = self._known if is_before else Coverage.load(self.root / _COVERAGE)
        # Written after a change: a process that died in between has left one of an earlier change.
        if kept is not None and _is_kept_of(kept, changes):
            coverage, number, _ = kept
            if number == len(changes):
                self._known = kept
                return coverage, True
        else:
            coverage, number = Coverage.of(self._log.base_keys()), 1
        return _covering(coverage, self._log.changed_since(number)), False

    def _keep_coverage(self, coverage: Coverage, state: tuple[int, str]) -> None:
        for leftover in self.root.glob(f".{_COVERAGE}.*"):
            leftover.unlink(missing_ok=True)
        coverage.save(self.root / _COVERAGE, *state)
        self._known = (coverage, *state)

    def history(self) -> tuple[Change, ...]:
        """Every change of the store, oldest first: what, when, and the content's hash before and after.

        Raises
        ------
        MarketDataError
            The history is damaged.
        """
        return self._log.changes()

    def changed_since(self, number: int) -> pd.DataFrame:
        """What the changes after the change ``number`` brought: ``kind`` (see ``price_log``), ``date`` and ``ticker``.

        A row of kind ``rescaled`` has the first session that kept its values.
        """
        return self._log.changed_since(number)

    def content_hash(self) -> str:
        """``hash_prices`` of all stored prices: the same content has the same hash wherever and however it came."""
        changes = self.history()
        return changes[-1].new_hash if changes else hash_prices(empty_prices())

    def upsert(
        self, frame: pd.DataFrame, gone: pd.DataFrame | None = None, *, beside: StoredBars | None = None
    ) -> UpsertReport:
        """Add new sessions and replace restated ones; what is stored already changes nothing.

        Parameters
        ----------
        frame
            Checked prices (``check_prices``), in any order.
        gone
            Keys (``ticker``, ``date``) of stored bars to remove, because the source no longer has them.
        beside
            Bars of this store that were read before: they are not read again, unless it has changed since or they do
            not reach far enough.

        Raises
        ------
        PriceDataError
            The frame lacks a column, or has keys twice or values that cannot be.
        MarketDataError
            Another writer holds the store for too long, or a stored file is damaged.
        """
        delivered = canonical(frame)
        with self._locked():
            self._log.tidy()
            changes = self.history()
            coverage, is_kept = self._coverage(changes)
            gone = empty_prices() if gone is None else gone
            stored = self._beside([each for each in (delivered, gone) if len(each)], beside, changes)
            report, rows, change = prepare(
                delivered,
                gone,
                stored,
                first_days=coverage.first_days(),
                changes=changes,
                now=self._now(),
                read=lambda tickers: self._log.read(Span(tickers)),
            )
            if len(rows):
                self._log.append(rows, change)
                coverage, is_kept, changes = _covering(coverage, rows), False, (*changes, change)
            if changes and not is_kept:
                self._keep_coverage(coverage, _state(changes))
        return report

    def _beside(
        self, rows: Sequence[pd.DataFrame], known: StoredBars | None, changes: Sequence[Change]
    ) -> pd.DataFrame:
        """Stored bars of the tickers and the span of ``rows``, and some before it; maybe others."""
        if not rows:
            return empty_prices()
        found = tuple({name: None for each in rows for name in ticker_codes(each["ticker"])[1]})
        first, last = min(each["date"].min() for each in rows), max(each["date"].max() for each in rows)
        span = Span(found, (first - _BEFORE).date(), last.date())
        if known is not None and known.state == _state(changes) and known.span.covers(span):
            return known.prices
        return self._log.read(replace(span, tickers=None) if self.path.exists() and len(found) > _MANY else span)

    def _last_known(self, known_at: dt.datetime) -> int:
        """Number of the last change that was known at an instant; 0 before the first."""
        if known_at.tzinfo is None:
            raise MarketDataError(f"known_at={known_at} carries no time zone; an instant must")
        return sum(entry.known_at <= known_at for entry in self.history())

    @contextmanager
    def _locked(self) -> Generator[None]:
        lock = self.root / ".lock"
        with exclusive(
            lock, self._lock_timeout, error=MarketDataError, purpose="storing prices", remedy="try again later"
        ):
            yield


def _state(changes: Sequence[Change]) -> tuple[int, str]:
    """Number and hash of the last change."""
    return (len(changes), changes[-1].new_hash) if changes else (0, "")


def _covering(coverage: Coverage, rows: pd.DataFrame) -> Coverage:
    """The coverage after the rows of changes."""
    bars = rows[rows["kind"] != RESCALED]
    return coverage.changed(bars["date"], bars["ticker"], (bars["kind"] == BAR).to_numpy())


def _is_kept_of(kept: tuple[Coverage, int, str], changes: Sequence[Change]) -> bool:
    """Whether a coverage was kept after one of the changes: its number, and the store's hash after it."""
    return 0 < kept[1] <= len(changes) and changes[kept[1] - 1].new_hash == kept[2]
