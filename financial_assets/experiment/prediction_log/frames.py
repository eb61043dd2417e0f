"""Reading the prediction log into typed frames, fast.

Rows are fetched from the driver's cursor: SQLAlchemy's per-value conversion would take most of the time. Each batch
becomes arrays at once: a million rows of Python objects would be several times as large, and take longer to hold than
to read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from financial_assets.errors import LogError
from financial_assets.experiment.prediction_log.schema import UtcInstant

_BATCH = 500  # more would leave the cache of a processor core between being read and being put into arrays


def driver_rows(connection: Connection, query: sa.Executable) -> list[tuple[Any, ...]]:
    """All rows as the driver gives them: dates and instants are text in SQLite, objects in PostgreSQL."""
    cursor: Any = connection.execute(query).cursor
    return cursor.fetchall()


def read_frame(
    connection: Connection,
    table: sa.Table,
    where: Sequence[sa.ColumnElement[bool]],
    order: Sequence[str],
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The rows of ``table`` for which all of ``where`` hold, ordered; all columns or the named ones.

    Returns
    -------
    pandas.DataFrame
        Sessions as ``datetime64[ns]``, instants as ``datetime64[ns, UTC]``, numbers as ``float64``, ids, epochs and
        attempts as ``int64``, ``model_version`` as nullable ``Int64``, text as strings or ``None``.

    Raises
    ------
    LogError
        For a column that the table does not have.
    """
    unknown = sorted(set(columns or ()) - set(table.c.keys()))
    if unknown:
        raise LogError(f"{table.name} has no columns {', '.join(unknown)}; it has {', '.join(table.c.keys())}")
    selected = [table.c[name] for name in (columns or table.c.keys())]
    query = sa.select(*selected).where(*where).order_by(*(table.c[name] for name in order))
    cells = [_builder(column) for column in selected]
    for batch in _batches(connection.execute(query).cursor):
        for column, values in zip(cells, zip(*batch, strict=True), strict=True):
            column.add(values)
    return pd.DataFrame({column.name: built.whole() for column, built in zip(selected, cells, strict=True)})


def _batches(cursor: Any) -> Iterator[list[tuple[Any, ...]]]:
    while rows := cursor.fetchmany(_BATCH):
        yield rows


class _Cells(Protocol):
    """A column that is put together from batches of its cells."""

    def add(self, cells: Sequence[Any]) -> None:
        """Append a batch."""
        ...

    def whole(self) -> Any:
        """All cells, as a frame holds them."""
        ...


def _builder(column: sa.Column[Any]) -> _Cells:
    kind = column.type
    if isinstance(kind, UtcInstant):
        return _Instants()
    if isinstance(kind, sa.Float):
        return _Numbers(np.dtype(np.float64))
    if isinstance(kind, sa.Integer) and not column.nullable:
        return _Numbers(np.dtype(np.int64))
    return _Distinct(kind)


class _Numbers:
    """Numbers of one type; what is missing is NaN."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype, self._parts = dtype, list[np.ndarray]()

    def add(self, cells: Sequence[Any]) -> None:
        try:
            # A quarter of the time that NumPy takes to look at each object.
            packed = struct.pack(f"{len(cells)}{self._dtype.char}", *cells)
            self._parts.append(np.frombuffer(packed, self._dtype))
        except struct.error:  # some are missing
            self._parts.append(np.array(cells, dtype=self._dtype))

    def whole(self) -> np.ndarray:
        return np.concatenate([np.empty(0, self._dtype), *self._parts])


class _Instants:
    """Instants; what is missing is NaT."""

    def __init__(self) -> None:
        self._parts = list[pd.DatetimeIndex]()

    def add(self, cells: Sequence[Any]) -> None:
        if all(type(cell) is str for cell in cells):  # as SQLite keeps them, in UTC and without saying so
            instants = np.array(cells, dtype="datetime64[us]").astype("datetime64[ns]")
            self._parts.append(pd.DatetimeIndex(instants, tz="UTC"))
        else:
            found = pd.to_datetime(pd.Series(cells, dtype=object), utc=True, format="ISO8601")
            self._parts.append(pd.DatetimeIndex(found.astype("datetime64[ns, UTC]")))

    def whole(self) -> pd.DatetimeIndex:
        nothing = pd.DatetimeIndex([], dtype="datetime64[ns, UTC]")
        return pd.DatetimeIndex(nothing.append(self._parts))


class _Distinct:
    """Dates, texts and numbers of versions, of which few differ: each is kept and converted once.

    With one object per distinct text, later comparisons and hashes of the column are faster.
    """

    def __init__(self, kind: sa.types.TypeEngine[Any]) -> None:
        self._kind, self._places, self._parts = kind, _Places(), list[np.ndarray]()

    def add(self, cells: Sequence[Any]) -> None:
        self._parts.append(np.fromiter(map(self._places.__getitem__, cells), np.int64, len(cells)))

    def whole(self) -> Any:
        places = np.concatenate([np.empty(0, np.int64), *self._parts])
        if isinstance(self._kind, sa.Date):
            return pd.DatetimeIndex(pd.to_datetime([*self._places])).astype("datetime64[ns]")[places]
        if isinstance(self._kind, sa.Integer):
            return pd.array([*self._places], dtype="Int64")[places]
        distinct = np.empty(len(self._places), dtype=object)
        distinct[:] = [*self._places]
        return pd.Series(distinct[places], dtype=object)


class _Places(dict[Any, int]):
    """Value -> how many others came before it."""

    def __missing__(self, value: Any) -> int:
        self[value] = len(self)
        return self[value]
