"""Which ticker has a stored bar on which day: answered without reading any price."""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.market.frames import ticker_codes


@dataclass(frozen=True, eq=False)
class Coverage:
    """Stored bars by ticker and day.

    Attributes
    ----------
    tickers, days
        The axes, sorted; a ticker or day may be without any bar.
    present
        bool ``[ticker, day]``.
    """

    tickers: tuple[str, ...]
    days: pd.DatetimeIndex
    present: np.ndarray

    @classmethod
    def of(cls, keys: pd.DataFrame) -> Coverage:
        """The bars whose ``date`` and ``ticker`` are given."""
        nothing = cls((), pd.DatetimeIndex([], dtype="datetime64[ns]"), np.zeros((0, 0), dtype=bool))
        return nothing.changed(keys["date"], keys["ticker"], np.ones(len(keys), dtype=bool))

    def changed(self, dates: pd.Series, tickers: pd.Series, present: np.ndarray) -> Coverage:
        """After bars came (``present``) or went; of several rows of one key the last one counts."""
        codes, names = ticker_codes(tickers)
        day_codes, new_days = pd.factorize(dates.to_numpy())
        rows = tuple(sorted({*self.tickers, *map(str, names)}))
        days = self.days.union(pd.DatetimeIndex(new_days))
        grid = np.zeros((len(rows), len(days)), dtype=bool)
        places = pd.Index(rows)
        if rows == self.tickers and days[: len(self.days)].equals(self.days):
            grid[:, : len(self.days)] = self.present
        else:
            grid[np.ix_(places.get_indexer(pd.Index(self.tickers)), days.get_indexer(self.days))] = self.present
        grid[places.get_indexer(names)[codes], days.get_indexer(pd.DatetimeIndex(new_days))[day_codes]] = present
        return Coverage(rows, days, grid)

    def within(
        self,
        tickers: Sequence[str],
        first: dt.date | None,
        last: dt.date | None,
        left_out: Mapping[str, Sequence[str]],
    ) -> Coverage:
        """The bars of ``tickers`` from ``first`` to ``last``, without the days (ISO) of ``left_out``."""
        asked = set(tickers)
        rows = [row for row, name in enumerate(self.tickers) if name in asked]
        begin = 0 if first is None else int(self.days.searchsorted(pd.Timestamp(first)))
        end = len(self.days) if last is None else int(self.days.searchsorted(pd.Timestamp(last), side="right"))
        days, names = self.days[begin:end], tuple(self.tickers[row] for row in rows)
        present = self.present[rows, begin:end]
        for row, name in enumerate(names):
            if name in left_out:
                present[row, days.isin(pd.DatetimeIndex(list(left_out[name])))] = False
        return Coverage(names, days, present)

    @property
    def bars(self) -> int:
        """How many there are."""
        return int(self.present.sum())

    @property
    def sessions(self) -> pd.DatetimeIndex:
        """Days on which any ticker has a bar."""
        return self.days[np.logical_or.reduce(self.present, axis=0)]

    def spans(self) -> pd.DataFrame:
        """``ticker``, ``first`` and ``last`` day, ``bars``; a ticker without bars is absent."""
        first, last = self.first_days(), self.last_days()
        present = self.present if len(first) == len(self.tickers) else self.present[self.present.any(axis=1)]
        columns = {"ticker": first.index, "first": first.to_numpy(), "last": last.to_numpy()}
        return pd.DataFrame({**columns, "bars": present.sum(axis=1)})

    def first_days(self) -> pd.Series:
        """Ticker to its first day with a bar; a ticker without bars is absent."""
        return self._days_at(self.present.argmax(axis=1) if self.present.size else np.empty(0, dtype=np.intp))

    def last_days(self) -> pd.Series:
        """Ticker to its last day with a bar; a ticker without bars is absent."""
        last = np.full(len(self.tickers), len(self.days) - 1)
        # Mostly it is the very last one; the others are looked through from the end.
        gone = np.flatnonzero(~self.present[:, -1]) if self.present.size else last[:0]
        last[gone] -= self.present[gone, ::-1].argmax(axis=1) if len(gone) else 0
        return self._days_at(last if self.present.size else last[:0])

    def _days_at(self, places: np.ndarray) -> pd.Series:
        """Ticker to its day number ``places``, where it has a bar: without any, argmax finds none."""
        held = np.flatnonzero(self.present[np.arange(len(places)), places])
        names = pd.Index(np.array(self.tickers, dtype=object)[held], dtype=object, name="ticker")
        return pd.Series(self.days[places[held]], index=names, name="date")

    def save(self, path: Path, number: int, content_hash: str) -> None:
        """Write to ``path``, atomically, as of the store's change ``number``, after which it had this hash."""
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                tickers=np.array(self.tickers, dtype=np.str_),
                days=self.days.to_numpy("datetime64[ns]").view(np.int64),
                present=np.packbits(self.present, axis=1),
                number=np.array(number),
                content_hash=np.array(content_hash),
            )

    @classmethod
    def load(cls, path: Path) -> tuple[Coverage, int, str] | None:
        """What ``save`` wrote; ``None`` without a file that can be read: all of it can be made anew from the prices."""
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
                tickers = tuple(map(str, held["tickers"]))
                days = pd.DatetimeIndex(held["days"].view("datetime64[ns]"))
                present = np.unpackbits(held["present"], axis=1, count=len(days)).astype(bool)
                number, content_hash = int(held["number"]), str(held["content_hash"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return cls(tickers, days, present.reshape(len(tickers), len(days))), number, content_hash
