"""Prices from files: CSV, CSV.gz or Parquet; one file, a folder of them, or a glob (setting ``PRICE_FILES``)."""

from __future__ import annotations

import datetime as dt
import glob
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow

from financial_assets.errors import SourceError
from financial_assets.market.frames import PRICE_COLUMNS, VALUE_COLUMNS
from financial_assets.market.sources import FetchResult, deliver

__all__ = ["FilePrices"]

_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".pq")
_ALIASES = {
    "symbol": "ticker",
    "name": "ticker",
    "session": "date",
    "datetime": "date",
    "timestamp": "date",
    "adjclose": "adj_close",
    "adjusted_close": "adj_close",
}


class FilePrices:
    """Bars in files.

    Columns ``date, ticker, open, high, low, close, volume, adj_close`` in any order; upper and lower case, blanks and
    underscores in headers are all the same; further columns are left out. Dates are written YYYY-MM-DD (a time and a
    zone after it are left out: the day stands as written).

    Parameters
    ----------
    paths
        A file, a folder or a glob.
    """

    name: str = "files"
    live: bool = False

    def __init__(self, paths: str) -> None:
        self.paths = paths

    def fetch(self, tickers: Sequence[str], start: dt.date | None = None, end: dt.date | None = None) -> FetchResult:
        """Bars of ``tickers``; see ``PriceSource.fetch``.

        Raises
        ------
        SourceError
            No such file, or one that cannot be read: names file, column and line.
        """
        held = pd.concat([_read(path) for path in self._files()], ignore_index=True)
        return deliver(held, tickers, start, end, origin=f"PRICE_FILES={self.paths}")

    def _files(self) -> list[Path]:
        place = Path(self.paths).expanduser()
        if place.is_dir():
            paths = [path for path in place.iterdir() if path.is_file() and not path.name.startswith(".")]
            paths = [path for path in paths if path.name.lower().endswith(_SUFFIXES)]
        elif place.is_file():
            paths = [place]
        else:
            paths = [Path(name) for name in glob.glob(str(place), recursive=True) if Path(name).is_file()]
        if not paths:
            raise SourceError(
                f"PRICE_FILES={self.paths}: no file there; give a file ({', '.join(_SUFFIXES)}), a folder or a glob"
            )
        return sorted(paths)


def _read(path: Path) -> pd.DataFrame:
    """One file as a price frame."""
    frame = _load(path)
    frame.columns = _headers(path, frame)
    missing = [name for name in PRICE_COLUMNS if name not in frame]
    if missing:
        raise SourceError(f"{path}: no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}")
    frame = frame[list(PRICE_COLUMNS)].dropna(how="all")
    if frame.empty:
        raise SourceError(f"{path}: has no rows")
    is_text = path.name.lower().endswith((".csv", ".csv.gz"))
    frame["date"] = _dates(path, frame["date"], is_text)
    frame["ticker"] = frame["ticker"].astype("string").str.strip().str.upper().astype("object")
    for name in VALUE_COLUMNS:
        frame[name] = _numbers(path, frame[name], is_text)
    return frame


def _load(path: Path) -> pd.DataFrame:
    name = path.name.lower()
    if not name.endswith(_SUFFIXES):
        raise SourceError(f"{path}: not a {', '.join(_SUFFIXES)} file")
    try:
        if name.endswith((".parquet", ".pq")):
            frame = pd.read_parquet(path)
            return frame.reset_index() if any(name is not None for name in frame.index.names) else frame
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas would drop surplus cells
            return pd.read_csv(
                path,
                encoding="utf-8-sig",
                index_col=False,
                skip_blank_lines=False,  # so that row numbers are line numbers
                skipinitialspace=True,
                low_memory=False,
                keep_default_na=False,  # NA is a ticker
                na_values=["", "NaN", "nan", "null", "None"],
            )
    except pd.errors.EmptyDataError as error:
        raise SourceError(f"{path}: is empty") from error
    except (OSError, EOFError, ValueError, zlib.error, pyarrow.ArrowException, pd.errors.ParserWarning) as error:
        raise SourceError(f"{path}: cannot be read: {str(error).strip()}") from error


def _headers(path: Path, frame: pd.DataFrame) -> list[str]:
    names = ["_".join(str(column).strip().lower().replace("_", " ").split()) for column in frame.columns]
    names = [_ALIASES[name] if name in _ALIASES and _ALIASES[name] not in names else name for name in names]
    plain = [re.sub(r"\.\d+$", "", name) for name in names]  # pandas calls a second column Close "Close.1"
    repeated = sorted({name for name in plain if name in PRICE_COLUMNS and plain.count(name) > 1})
    if repeated:
        raise SourceError(f"{path}: more than one column {', '.join(repeated)}: {', '.join(map(str, frame.columns))}")
    return names


def _dates(path: Path, column: pd.Series, is_text: bool) -> pd.Series:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.dt.tz_localize(None).dt.normalize().astype("datetime64[ns]")
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.dt.normalize().astype("datetime64[ns]")
    text = column.astype("string").str.strip()
    text = text.where(text.str.len().eq(10) | text.str.slice(10, 11).isin(["T", " "]))
    days = pd.to_datetime(text.str.slice(0, 10), format="%Y-%m-%d", errors="coerce")
    _refuse(path, column, days.isna(), "is not a date; write YYYY-MM-DD", is_text)
    return days.astype("datetime64[ns]")


def _numbers(path: Path, column: pd.Series, is_text: bool) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    _refuse(path, column, numbers.isna() & column.notna(), "is not a number", is_text)
    return numbers


def _refuse(path: Path, column: pd.Series, wrong: pd.Series, problem: str, is_text: bool) -> None:
    bad = np.flatnonzero(wrong.to_numpy(dtype=bool))
    if len(bad):
        row = int(column.index.to_numpy()[bad[0]])
        held = "" if pd.isna(column.iloc[bad[0]]) else str(column.iloc[bad[0]])
        place = f"line {row + 2}" if is_text else f"row {row + 1}"
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise SourceError(f"{path}, column {column.name}, {place}: {held!r} {problem}{more}")
