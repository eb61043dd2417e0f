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

from financial_assets.experiment.log_schema import UtcInstant

__all__ = ["read_frame"]


def read_frame(
    connection: Connection, table: sa.Table, where: Sequence[sa.ColumnElement[bool]], order: Sequence[str]
) -> pd.DataFrame:
    """The rows of ``table`` for which all of ``where`` hold, ordered.

    Returns
    -------
    pandas.DataFrame
        Sessions as ``datetime64[ns]``, instants as ``datetime64[ns, UTC]``, numbers as ``float64``, ids, epochs and
        attempts as ``int64``, ``model_version`` as nullable ``Int64``, text as strings or ``None``.
    """
    query = sa.select(table).where(*where).order_by(*(table.c[name] for name in order))
    cursor: Any = connection.execute(query).cursor
    columns = list(zip(*cursor.fetchall(), strict=True)) or [()] * len(table.columns)
    return pd.DataFrame(
        {column.name: _typed(column, values) for column, values in zip(table.columns, columns, strict=True)}
    )


def _typed(column: sa.Column[Any], values: Sequence[Any]) -> Any:
    kind = column.type
    if isinstance(kind, UtcInstant):
        return pd.to_datetime(pd.Series(values, dtype=object), utc=True, format="ISO8601").astype("datetime64[ns, UTC]")
    if isinstance(kind, sa.Date):
        codes, sessions = pd.factorize(np.array(values, dtype=object))  # few sessions, many rows
        return pd.DatetimeIndex(pd.to_datetime(sessions)).astype("datetime64[ns]")[codes]
    if isinstance(kind, sa.Float):
        return np.array(values, dtype=np.float64)
    if isinstance(kind, sa.Integer):
        return np.array(values, dtype=np.int64) if not column.nullable else pd.array(values, dtype="Int64")
    return pd.Series(values, dtype=object)
