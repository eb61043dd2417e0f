"""Rows of the price store's files: of the last sessions, without what lies before them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from financial_assets.market.log.replay import RESCALED, Span

_compute: Any = pyarrow.compute  # makes its functions when it is imported, which no type checker sees

_FEW_GROUPS = 8
"""Row groups up to which one thread reads them sooner than several."""


def read_rows(path: Path, span: Span, columns: list[str] | None) -> pyarrow.Table:
    """Rows of a Parquet file: those of the span, of few tickers no others, and of kind ``rescaled``.

    Most reads are of the last sessions, a few row groups. There the threads and the plan of pyarrow's scanner take
    as long as the reading, on a busy machine several times as long: one thread reads these one after the other.
    """
    with pyarrow.parquet.ParquetFile(path, read_dictionary=["ticker"]) as file:
        groups = [number for number in range(file.num_row_groups) if _is_needed(file.metadata.row_group(number), span)]
        rows = file.read_row_groups(groups, columns=columns, use_threads=len(groups) > _FEW_GROUPS)
    # Without rows, the tickers have no type that names could be compared with.
    included = span.includes(rows) if rows.num_rows else None
    if included is None:
        return rows
    if "kind" in rows.column_names:
        included = _compute.or_(included, _compute.equal(rows["kind"], RESCALED))
    return rows.filter(included)


def _is_needed(group: pyarrow.parquet.RowGroupMetaData, span: Span) -> bool:
    """Whether a row group may hold rows of the span or of kind ``rescaled``; without statistics any may."""
    columns = {column.path_in_schema: column.statistics for column in map(group.column, range(group.num_columns))}
    date, kind = columns.get("date"), columns.get("kind")
    if date is None or not date.has_min_max or not isinstance(date.min, dt.datetime):
        return True
    is_bars = "kind" not in columns or (kind is not None and kind.has_min_max and kind.max < RESCALED)
    return not is_bars or span.may_include(date.min, date.max)
