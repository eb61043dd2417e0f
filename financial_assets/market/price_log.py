"""The files of the price store: a base, the changes after it, and a small history that says what changed when.

Nothing that was ever stored is rewritten. ``prices.parquet`` keeps what was stored first; each change appends one file
to ``changes/``, and then an entry to ``history.json``, which alone makes the change count. A process that dies before
has changed nothing. Prices as of any entry are the base with the changes up to it:

* a row of kind ``bar`` replaces the bar of that ticker and session, or adds it;
* ``gone`` removes it;
* ``rescaled`` multiplies all earlier sessions' prices, volume and adjusted closes by the factors in its columns.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
from pydantic import TypeAdapter, ValidationError

from financial_assets.atomic import atomic_path, atomic_write_bytes
from financial_assets.errors import MarketDataError
from financial_assets.market.frames import PRICE_COLUMNS, VALUE_COLUMNS, empty_prices, hash_prices
from financial_assets.market.index.histories import load_histories, save_histories
from financial_assets.market.log.history import Change, ChangesFile, History
from financial_assets.market.log.reading import read_rows
from financial_assets.market.log.replay import (
    BAR,
    Span,
    of_span,
    replayed,
    sorted_bars,
    together,
    with_names,
)

_ROWS_PER_GROUP = 65_536
"""Rows of a Parquet row group: some dozen sessions of a large universe. A read of the last days skips the rest."""

_APART = 0.25
"""Share of the tickers up to which all sessions of some are read from the file that has them ticker by ticker."""

_DAMAGED = (OSError, ValueError, KeyError, pyarrow.ArrowException)
_READS = 5
"""A reader takes no lock: files that a writer has merged meanwhile are looked up again this many times."""


_HISTORY = TypeAdapter(History)
_T = TypeVar("_T")


class PriceLog:
    """Base and changes of one price store. It locks nothing: ``PriceStore`` lets one writer in at a time.

    Parameters
    ----------
    root
        Folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "prices.parquet"
        self.folder = root / "changes"
        self.path = root / "history.json"
        self.histories = root / "histories.npy"

    def changes(self) -> tuple[Change, ...]:
        """The history, oldest first; a store of an earlier version has one entry, dated by its file.

        Raises
        ------
        MarketDataError
            The history is damaged.
        """
        return self._history().changes

    def read(self, span: Span, until: int | None = None) -> pd.DataFrame:
        """Prices of ``span`` after the change number ``until`` (``None``: the last), sorted by ticker and date.

        Raises
        ------
        MarketDataError
            A file is damaged.
        """
        return self._read_whole(lambda history: self._replay(history, span, until))

    def _read_whole(self, read: Callable[[History | None], _T]) -> _T:
        for attempt in range(_READS):
            try:
                return read(self._written())
            except FileNotFoundError as error:
                if attempt == _READS - 1:
                    path = Path(str(error.filename or error))
                    raise self._damaged(path, "it is missing, and the history names it") from error
        raise AssertionError("unreachable")

    def changed_since(self, number: int) -> pd.DataFrame:
        """``kind``, ``date`` and ``ticker`` of the rows of all changes after the change ``number`` >= 1.

        Raises
        ------
        MarketDataError
            A file is damaged.
        """
        return self._read_whole(lambda history: self._rows_since(history, number))

    def require_changes(self) -> None:
        """Look whether every file of changes is there, without reading its rows.

        Raises
        ------
        MarketDataError
            One is missing or holds something else.
        """
        self._read_whole(self._require_changes)

    def _require_changes(self, history: History | None) -> None:
        for file in () if history is None else history.files:
            path = self.folder / file.name
            try:
                names = pyarrow.parquet.read_schema(path).names
            except FileNotFoundError:
                raise
            except _DAMAGED as error:
                raise self._damaged(path, error) from error
            if not {"kind", "change"} <= set(names):
                raise self._damaged(path, "it holds no changes")

    def base_keys(self) -> pd.DataFrame:
        """``date`` and ``ticker`` of the bars that were stored first, in any order.

        Raises
        ------
        MarketDataError
            The file is damaged.
        """
        keys = ["date", "ticker"]
        return empty_prices()[keys] if self._written() is None else with_names(self._load(self.base, None, keys))

    def append(self, rows: pd.DataFrame, change: Change) -> None:
        """Write one change; once this returns, it survives a power cut.

        Parameters
        ----------
        rows
            ``kind`` and the price columns; see the module's text.
        change
            The entry; its number follows the last one.
        """
        history = self._history()
        if not history.changes:
            # By date: a read of the last sessions skips all earlier row groups.
            order = np.argsort(rows["date"].to_numpy(), kind="stable")
            bars = pd.DataFrame({name: rows[name].to_numpy()[order] for name in PRICE_COLUMNS}, copy=False)
            # A history left of prices that were removed must not meet the new ones.
            self.path.unlink(missing_ok=True)
            self._write(self.base, bars)
            self._write_histories(rows, change.new_hash)
            history = History(self.base.stat().st_size, (), (change,))
        else:
            rows = rows.assign(change=np.int32(change.number))
            files = [*history.files]
            first, count = change.number, len(rows)
            # Like the digits of a counter: files of similar size become one, so that there are few of them and a row
            # is copied a logarithmic number of times. The base is never touched.
            while files and files[-1].rows <= count:
                merged = files.pop()
                rows = pd.concat([with_names(self._changes_in(merged)), rows])
                first, count = merged.first, count + merged.rows
            new = ChangesFile(f"{first:06d}-{change.number:06d}.parquet", first, change.number, count)
            self._write(self.folder / new.name, rows)
            if change.rescaled and load_histories(self.histories, history.changes[0].new_hash) is None:
                # An earlier version has written none, and where one ticker pays a dividend, others will.
                self._write_histories(with_names(self._load(self.base, None)), history.changes[0].new_hash)
            history = replace(history, files=(*files, new), changes=(*history.changes, change))
        self._commit(history)
        self.tidy()

    def tidy(self) -> None:
        """Adopt a base without history, and remove files that no history names; for a writer only.

        Such files are merged ones, and those that a killed writer has left.
        """
        history = self._written()
        if history is not None and not history.changes:
            self._commit(self._history())
        named = set() if history is None else {file.name for file in history.files}
        leftovers = [*self.root.glob(f".{self.base.name}.*"), *self.root.glob(f".{self.path.name}.*")]
        leftovers += list(self.root.glob(f".{self.histories.name}.*"))
        leftovers += [path for path in self.folder.glob("*") if path.name not in named]
        leftovers += list(self.folder.glob(".*.parquet"))
        for path in leftovers:
            path.unlink(missing_ok=True)

    def _commit(self, history: History) -> None:
        atomic_write_bytes(self.path, _HISTORY.dump_json(history, indent=1) + b"\n")

    def _written(self) -> History | None:
        """The entry of the base in ``history.json``; ``None`` without a base."""
        try:
            size = self.base.stat().st_size
        except FileNotFoundError:
            return None  # whoever removes the prices wants them anew: their changes lead nowhere
        try:
            history = _HISTORY.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            # Without it nobody knows which changes count, and the base alone would be old prices.
            if any(self.folder.glob("[0-9]*.parquet")):
                raise self._damaged(self.path, "it is missing, and there are changes") from None
            return History(size)
        except ValidationError as error:
            raise self._damaged(self.path, error.errors()[0]["msg"]) from error
        except OSError as error:
            raise self._damaged(self.path, error) from error
        if not history.is_whole():
            raise self._damaged(self.path, "its files and its changes do not belong together")
        # An earlier version rewrites the base as a whole; the changes belong to the base that it has replaced.
        return history if history.base_bytes == size else History(size)

    def _history(self) -> History:
        """The same with at least one entry, if there are prices: a base without history is adopted."""
        history = self._written()
        if history is None or history.changes:
            return history or History()
        rows = with_names(self._load(self.base, None))
        days = rows["date"]
        change = Change(
            number=1,
            known_at=dt.datetime.fromtimestamp(self.base.stat().st_mtime, dt.UTC),
            added=len(rows),
            replaced=0,
            removed=0,
            rescaled=(),
            first=days.min().date() if len(days) else None,
            last=days.max().date() if len(days) else None,
            old_hash=hash_prices(empty_prices()),
            new_hash=hash_prices(rows),
            note="stored before this history begins; known_at is the time of the file",
        )
        return replace(history, changes=(change,))

    def _replay(self, history: History | None, span: Span, until: int | None) -> pd.DataFrame:
        if history is None or until == 0:
            return empty_prices()
        base = self._base_of(history, span)
        parts = [self._changes_in(file, span) for file in history.files if until is None or file.first <= until]
        rows = together([base.assign(kind=np.int8(BAR), change=np.int32(0)), *parts]) if parts else base
        if until is not None and parts:
            rows = rows[rows["change"] <= until]
        return with_names(replayed(rows) if parts else sorted_bars(base))

    def _base_of(self, history: History, span: Span) -> pd.DataFrame:
        """Rows of the base; of some tickers from their first session on, no others are read."""
        if span.tickers is not None and span.start is None and history.changes:
            histories = load_histories(self.histories, history.changes[0].new_hash)
            if histories is not None and len(span.tickers) <= _APART * len(histories.tickers):
                found = histories.read(span.tickers)
                if found is not None:
                    return found if span.end is None else found[found["date"] <= pd.Timestamp(span.end)]
        return of_span(self._load(self.base, span), span)

    def _write_histories(self, bars: pd.DataFrame, content_hash: str) -> None:
        # A base of one row group is read as a whole in any case.
        if len(bars) > _ROWS_PER_GROUP:
            save_histories(self.histories, bars, content_hash)

    def _rows_since(self, history: History | None, number: int) -> pd.DataFrame:
        files = [] if history is None else [file for file in history.files if file.last > number]
        parts = [with_names(rows[rows["change"] > number]) for rows in map(self._changes_in, files)]
        columns = ["kind", "date", "ticker"]
        if not parts:
            return empty_prices().assign(kind=np.int8(BAR))[columns]
        return pd.concat([part[columns] for part in parts], ignore_index=True)

    def _changes_in(self, file: ChangesFile, span: Span | None = None) -> pd.DataFrame:
        rows = self._load(self.folder / file.name, span)
        if not {"kind", "change"} <= set(rows):
            raise self._damaged(self.folder / file.name, "it holds no changes")
        return rows if span is None else of_span(rows, span)

    def _load(
        self,
        path: Path,
        span: Span | None,
        wanted: Sequence[str] = PRICE_COLUMNS,
    ) -> pd.DataFrame:
        """Rows of a file, those of ``span`` at least, and whatever rescales others.

        The tickers are a categorical column, which is sorted and looked through by its codes.
        """
        try:
            only = None if wanted == PRICE_COLUMNS else list(wanted)
            frame = read_rows(path, Span() if span is None else span, only).to_pandas()
            columns = [name for name in ("kind", "change", *wanted) if name in frame or name in wanted]
            # Each of these steps would copy all values, whether it changes anything or not.
            frame = frame if list(frame) == columns else frame[columns]
            types = empty_prices().dtypes[list(wanted)].drop("ticker")
            others = types[[frame[name].dtype != kind for name, kind in types.items()]].to_dict()
            if not isinstance(frame["ticker"].dtype, pd.CategoricalDtype):  # a file without rows
                others["ticker"] = pd.CategoricalDtype()
            return frame.astype(others, copy=False) if others else frame
        except FileNotFoundError:
            raise
        except _DAMAGED as error:
            raise self._damaged(path, error) from error

    def _damaged(self, path: Path, error: Exception | str) -> MarketDataError:
        what = path if path == self.base else self.root
        reason = " ".join(str(error).split())[:200]  # Arrow's errors list the columns of a file line by line
        return MarketDataError(f"{path} is damaged ({reason}); remove {what} and materialize raw_prices again")

    def _write(self, path: Path, rows: pd.DataFrame) -> None:
        with atomic_path(path) as temporary:
            # Keys repeat, and values hardly do: looking for repeats among them took most of the time.
            keys = [name for name in rows if name not in VALUE_COLUMNS]
            rows.to_parquet(temporary, index=False, row_group_size=_ROWS_PER_GROUP, use_dictionary=keys)
