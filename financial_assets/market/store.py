"""The price store: everything ever ingested, as one Parquet file that is replaced whole."""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow

from financial_assets.atomic import atomic_path
from financial_assets.errors import MarketDataError, PriceDataError
from financial_assets.locking import exclusive
from financial_assets.market import quality
from financial_assets.market.corporate_actions import explain_restatement, find_corporate_actions
from financial_assets.market.frames import PRICE_COLUMNS, VALUE_COLUMNS, empty_prices, hash_prices, sort_prices

__all__ = ["PriceStore", "UpsertReport", "same_bars"]

RESTATED = 1e-5
"""Relative difference above which a delivered value is another one: Yahoo sends float32 noise below it."""


_SAME = 0.99
"""Share of common bars that must agree in two deliveries of one market; the rest may have been corrected."""


@dataclass(frozen=True)
class UpsertReport:
    """What an upsert did.

    Attributes
    ----------
    added
        Rows whose ticker and session were not stored before.
    unchanged
        Rows that were stored with the same values.
    restated
        Stored rows that the source now delivers with other values: date, ticker, and for each value column
        ``<name>_stored`` and ``<name>_delivered``.
    corporate_actions
        Splits and dividends on the added or restated sessions: see ``find_corporate_actions``.
    held_back
        Tickers whose history was restated, but not from its stored beginning: half of a restated history beside half
        of the old one would be a false jump, so nothing of them was written. Fetch their whole span and upsert again.
    """

    added: int
    unchanged: int
    restated: pd.DataFrame
    corporate_actions: pd.DataFrame
    held_back: tuple[str, ...] = ()

    @property
    def restatements(self) -> pd.DataFrame:
        """Why history was restated, one row per ticker: see ``explain_restatement``."""
        return explain_restatement(self.restated)


class PriceStore:
    """Prices on disk: incremental by session, idempotent, safe under concurrent writers and a death half-way.

    Parameters
    ----------
    root
        Folder of the store; made on the first write.
    lock_timeout
        Longest wait for another writer, in seconds.
    """

    def __init__(self, root: Path, *, lock_timeout: float = 60.0) -> None:
        self.root = root
        self.path = root / "prices.parquet"
        self._lock_timeout = lock_timeout

    def read(
        self,
        tickers: Sequence[str] | None = None,
        start: dt.date | None = None,
        end: dt.date | None = None,
    ) -> pd.DataFrame:
        """Stored prices, sorted by ticker and date; both ends included, ``None``: all.

        Raises
        ------
        MarketDataError
            The file is damaged.
        """
        filters = [("ticker", "in", list(tickers))] if tickers is not None else []
        filters += [("date", ">=", pd.Timestamp(start))] if start is not None else []
        filters += [("date", "<=", pd.Timestamp(end))] if end is not None else []
        if tickers is not None and not tickers:
            return empty_prices()
        try:
            frame = pd.read_parquet(self.path, columns=list(PRICE_COLUMNS), filters=filters or None)
        except FileNotFoundError:
            return empty_prices()
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise MarketDataError(
                f"{self.path} is damaged ({error}); remove it and materialize raw_prices again"
            ) from error
        return frame.astype(empty_prices().dtypes.to_dict())

    def content_hash(self) -> str:
        """SHA-256 of all stored prices: the same content has the same hash wherever and whenever it was stored."""
        return hash_prices(self.read())

    def upsert(self, frame: pd.DataFrame) -> UpsertReport:
        """Add new sessions and replace restated ones; what is stored already changes nothing.

        Parameters
        ----------
        frame
            Checked prices (``check_prices``), in any order.

        Raises
        ------
        PriceDataError
            The frame lacks a column, or has keys twice or values that cannot be.
        MarketDataError
            Another writer holds the store for too long, or the stored file is damaged.
        """
        delivered = _canonical(frame)
        with self._locked():
            stored = self.read()
            report, merged = _merge(stored, delivered)
            if merged is not None:
                with atomic_path(self.path) as temporary:
                    merged.to_parquet(temporary, index=False, row_group_size=250_000)
        return report

    @contextmanager
    def _locked(self) -> Generator[None]:
        lock = self.root / ".lock"
        with exclusive(
            lock, self._lock_timeout, error=MarketDataError, purpose="storing prices", remedy="try again later"
        ):
            # A writer that was killed leaves its temporary file; whoever holds the lock next clears it away.
            for leftover in self.root.glob(f".{self.path.name}.*"):
                leftover.unlink(missing_ok=True)
            yield


def same_bars(stored: pd.DataFrame, delivered: pd.DataFrame) -> bool:
    """Whether two price frames are of one market: they have sessions of a ticker in common, and there the same bars.

    ``adj_close`` is left out, since each dividend changes all of it.
    """
    names = [name for name in VALUE_COLUMNS if name != "adj_close"]
    both = stored.merge(delivered, on=["ticker", "date"], suffixes=("_stored", "_delivered"))
    if both.empty:
        return False
    before, after = (both[[f"{name}_{kind}" for name in names]].to_numpy() for kind in ("stored", "delivered"))
    agree = np.isclose(before, after, rtol=RESTATED, atol=0.0, equal_nan=True).all(axis=1)
    return bool(agree.mean() >= _SAME)


def _canonical(frame: pd.DataFrame) -> pd.DataFrame:
    complaint = "these prices cannot be stored"
    absent = [name for name in PRICE_COLUMNS if name not in frame]
    if absent:
        raise PriceDataError(f"{complaint}: the price frame lacks {', '.join(absent)}", frame.head(0))
    try:
        delivered = sort_prices(frame).astype(empty_prices().dtypes.to_dict())
    except (ValueError, TypeError) as error:
        raise PriceDataError(f"{complaint}: a column is of a wrong type: {error}", frame.head(0)) from error
    quality.require_possible(delivered, complaint)
    return delivered


def _merge(stored: pd.DataFrame, delivered: pd.DataFrame) -> tuple[UpsertReport, pd.DataFrame | None]:
    """What changes, and the store's new content (``None``: nothing changes)."""
    both = delivered.merge(
        stored, on=["ticker", "date"], how="left", suffixes=("_delivered", "_stored"), indicator="_found"
    )
    is_known = (both["_found"] == "both").to_numpy()
    differs = is_known & _differs(both)
    held_back = _partly_restated(stored, delivered, delivered.loc[differs, "ticker"])
    taken = ~delivered["ticker"].isin(held_back).to_numpy()
    columns = [f"{name}_{side}" for name in VALUE_COLUMNS for side in ("stored", "delivered")]
    changed = (~is_known | differs) & taken
    merged = stored
    if changed.any():
        fresh = delivered[changed]
        keys = pd.MultiIndex.from_frame(fresh[["ticker", "date"]])
        kept = stored[~pd.MultiIndex.from_frame(stored[["ticker", "date"]]).isin(keys)]
        merged = sort_prices(pd.concat([kept, fresh]) if len(kept) else fresh)
    report = UpsertReport(
        added=int((~is_known & taken).sum()),
        unchanged=int((is_known & ~differs).sum()),
        restated=both.loc[differs, ["date", "ticker", *columns]].reset_index(drop=True),
        corporate_actions=_actions_on(merged, delivered[changed]),
        held_back=held_back,
    )
    return report, merged if changed.any() else None


def _differs(both: pd.DataFrame) -> np.ndarray:
    differs = np.zeros(len(both), dtype=bool)
    for name in VALUE_COLUMNS:
        new, old = both[f"{name}_delivered"].to_numpy(), both[f"{name}_stored"].to_numpy()
        differs |= np.abs(new - old) > RESTATED * np.abs(old)
    return differs


def _partly_restated(stored: pd.DataFrame, delivered: pd.DataFrame, restated: pd.Series) -> tuple[str, ...]:
    names = sorted(set(restated))
    if not names:
        return ()
    stored_first = stored.groupby("ticker")["date"].min()
    delivered_first = delivered.groupby("ticker")["date"].min()
    return tuple(name for name in names if delivered_first[name] > stored_first[name])


def _actions_on(merged: pd.DataFrame, changed: pd.DataFrame) -> pd.DataFrame:
    touched = merged[merged["ticker"].isin(set(changed["ticker"]))]
    actions = find_corporate_actions(touched)
    keys = pd.MultiIndex.from_frame(changed[["ticker", "date"]])
    return actions[pd.MultiIndex.from_frame(actions[["ticker", "date"]]).isin(keys)].reset_index(drop=True)
