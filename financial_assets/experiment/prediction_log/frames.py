"""Reading the prediction log into typed frames, fast.

Rows are fetched from the driver's cursor: SQLAlchemy's per-value conversion would take most of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from financial_assets.errors import LogError
from financial_assets.experiment.prediction_log.schema import UtcInstant

_BATCH = 2000


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
    values = _columns(connection.execute(query).cursor, len(selected))
    return pd.DataFrame({column.name: _typed(column, cells) for column, cells in zip(selected, values, strict=True)})


def _columns(cursor: Any, count: int) -> list[list[Any]]:
    """The rows as columns, built in batches: a million tuples at once would not fit into any processor cache."""
    columns: list[list[Any]] = [[] for _ in range(count)]
    while rows := cursor.fetchmany(_BATCH):
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(cells)
    return columns


def _typed(column: sa.Column[Any], values: Sequence[Any]) -> Any:
    kind = column.type
    if isinstance(kind, UtcInstant):
        if all(type(value) is str for value in values):  # as SQLite keeps them, in UTC and without saying so
            return pd.DatetimeIndex(np.array(values, dtype="datetime64[us]").astype("datetime64[ns]"), tz="UTC")
        return pd.to_datetime(pd.Series(values, dtype=object), utc=True, format="ISO8601").astype("datetime64[ns, UTC]")
    if isinstance(kind, sa.Date):
        # Few sessions, many rows: convert each session once.
        codes, sessions = pd.factorize(np.array(values, dtype=object))
        return pd.DatetimeIndex(pd.to_datetime(sessions)).astype("datetime64[ns]")[codes]
    if isinstance(kind, sa.Float):
        return np.array(values, dtype=np.float64)
    if isinstance(kind, sa.Integer):
        return np.array(values, dtype=np.int64) if not column.nullable else pd.array(values, dtype="Int64")
    # Few models, many rows: with one object per distinct text, later comparisons and hashes of the column are faster.
    distinct: dict[str | None, str | None] = {value: value for value in set(values)}
    return pd.Series(np.fromiter(map(distinct.__getitem__, values), dtype=object, count=len(values)))
