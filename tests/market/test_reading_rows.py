"""Rows of a file by span: the same whatever the row groups and with or without statistics."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from financial_assets.market.log.reading import read_rows
from financial_assets.market.log.replay import RESCALED, Span

DAYS = pd.bdate_range("2020-01-01", periods=40)
SPANS = (
    Span(),
    Span(start=DAYS[30].date()),
    Span(end=DAYS[5].date()),
    Span(("A", "C"), DAYS[10].date(), DAYS[20].date()),
    Span(("B",)),
    Span(start=dt.date(2021, 1, 1)),
)


def rows(days: pd.DatetimeIndex = DAYS) -> pd.DataFrame:
    """Three tickers on the days, and a row that rescales one of them long before the last."""
    frame = pd.DataFrame({"date": np.repeat(days, 3), "ticker": ["A", "B", "C"] * len(days)})
    frame["kind"] = np.int8(0)
    frame.loc[4, "kind"] = RESCALED
    return frame.assign(close=np.arange(len(frame), dtype=float))


def wanted(frame: pd.DataFrame, span: Span) -> pd.DataFrame:
    """What pandas finds."""
    chosen = np.ones(len(frame), dtype=bool)
    if span.tickers is not None:
        chosen &= frame["ticker"].isin(span.tickers)
    if span.start is not None:
        chosen &= frame["date"] >= pd.Timestamp(span.start)
    if span.end is not None:
        chosen &= frame["date"] <= pd.Timestamp(span.end)
    return frame[chosen | (frame["kind"] == RESCALED)].reset_index(drop=True)


def read(path: Path, span: Span, columns: list[str] | None = None) -> pd.DataFrame:
    return read_rows(path, span, columns).to_pandas().astype({"ticker": object, "date": "datetime64[ns]"})


@pytest.mark.parametrize(
    "options", [{}, {"row_group_size": 7}, {"row_group_size": 7, "write_statistics": False}, {"row_group_size": 3}]
)
@pytest.mark.parametrize("seed", [None, 0])
def test_the_rows_of_a_span_are_read(tmp_path: Path, options: dict[str, Any], seed: int | None) -> None:
    frame = rows() if seed is None else rows().sample(frac=1.0, random_state=seed, ignore_index=True)
    frame.to_parquet(tmp_path / "rows.parquet", index=False, **options)
    for span in SPANS:
        pd.testing.assert_frame_equal(read(tmp_path / "rows.parquet", span), wanted(frame, span))


def test_bars_before_the_span_are_not_looked_at(tmp_path: Path) -> None:
    """With the bytes of earlier row groups destroyed, the last ones are read as they are."""
    frame, path = rows().drop(columns="kind"), tmp_path / "rows.parquet"
    frame.to_parquet(path, index=False, row_group_size=30)
    end = pyarrow.parquet.read_metadata(path).row_group(2).column(0).dictionary_page_offset
    assert end
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(end - 4) + content[end:])
    span = Span(start=DAYS[20].date())
    found = read(path, span)
    pd.testing.assert_frame_equal(found, frame[frame["date"] >= DAYS[20]].reset_index(drop=True))
    with pytest.raises((OSError, pyarrow.ArrowException)):
        read(path, Span())


def test_a_file_without_rows_and_one_that_is_missing(tmp_path: Path) -> None:
    rows().head(0).to_parquet(tmp_path / "none.parquet", index=False)
    for span in SPANS:
        assert read_rows(tmp_path / "none.parquet", span, None).num_rows == 0
        with pytest.raises(FileNotFoundError):
            read_rows(tmp_path / "missing.parquet", span, None)
