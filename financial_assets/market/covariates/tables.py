"""Dated tables (``COVARIATE_FILES``): fundamentals, macroeconomic figures, sentiment, each row with when it was known.

A row says that ``name`` had ``value`` on ``date``, and that this was known from ``known_at`` on. Only ``known_at``
decides what a session sees: a figure of March that was published in May is not there in April, and a revision does not
reach back.
"""

from __future__ import annotations

import glob
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.errors import MarketDataError

LARGEST_VALUE = 1e15
"""Largest absolute value of a covariate: features square differences, and float32 ends at 3e38."""

_COLUMNS = ("date", "known_at", "name", "value")
_OPTIONAL = ("ticker",)
_TEXTS = (".csv", ".csv.gz", ".csv.zip")
_TABLES = (".parquet", ".pq")
_DAY = r"\d{4}-\d{2}-\d{2}"
_NAME = r"[a-z][a-z0-9_.]{0,39}"
_EARLIEST_ZONE = pd.Timedelta(hours=14)
"""A day begins up to 14 hours before it does in UTC."""


def read_tables(paths: str, zone: str) -> pd.DataFrame:
    """All rows of the files that ``paths`` means: files, folders and globs, separated by commas.

    Parameters
    ----------
    paths
        The setting ``COVARIATE_FILES``.
    zone
        Time zone of the exchange, in which a ``known_at`` without a time ends: such a value is known after that day.

    Returns
    -------
    pandas.DataFrame
        ``name`` (lower case), ``ticker`` (empty: of all tickers), ``date`` (datetime64), ``known`` (UTC instant) and
        ``value`` (float64), sorted by name, ticker, known and date.

    Raises
    ------
    MarketDataError
        A file cannot be read, or a row cannot be: names file, row, column and what is allowed.
    """
    files = _files(paths)
    stamps = [(path, (status := path.stat()).st_mtime_ns, status.st_size) for path in files]
    return _read_all(paths, zone, tuple(stamps))


@lru_cache(maxsize=4)
def _read_all(paths: str, zone: str, stamps: tuple[tuple[Path, int, int], ...]) -> pd.DataFrame:
    """The same, once for as long as the files stay as they are: many steps of a run ask for it."""
    table = pd.concat([_read(path, zone) for path, _, _ in stamps], ignore_index=True)
    keys = ["name", "ticker", "date", "known"]
    repeated = table[table.duplicated(keys)]
    if len(repeated):
        raise MarketDataError(
            f"COVARIATE_FILES={paths}: {_described(repeated.iloc[0])} stands there more than once "
            f"({len(repeated):,} such rows); keep one row of a name, date and known_at"
        )
    both = table.groupby("name")["ticker"].agg(lambda column: len({bool(text) for text in column}) > 1)
    if both.any():
        raise MarketDataError(
            f"COVARIATE_FILES={paths}: {both.index[both][0]} has rows with and without a ticker; "
            "give all of them one, or none"
        )
    return table.sort_values(["name", "ticker", "known", "date"], ignore_index=True)


def known_values(rows: pd.DataFrame, closes: pd.DatetimeIndex, max_age: pd.Timedelta) -> np.ndarray:
    """What was known at each close: float64 ``[session]``, NaN where nothing was, or nothing of the last ``max_age``.

    Of everything known by then, the value of the latest date counts, in its latest revision.

    Parameters
    ----------
    rows
        Of one name and ticker, as ``read_tables`` sorts them.
    closes
        When the sessions close (UTC), in order.
    max_age
        How long a value stays: since it became known.
    """
    dates = rows["date"].to_numpy("datetime64[ns]").astype(np.int64)
    # A revision of an older date says nothing about today.
    current = rows[dates >= np.maximum.accumulate(dates)] if len(rows) else rows
    known = _nanoseconds(pd.DatetimeIndex(current["known"]))
    instants = _nanoseconds(closes)
    place = known.searchsorted(instants, side="right") - 1
    values = np.full(len(closes), np.nan)
    seen = place >= 0
    seen[seen] = instants[seen] - known[place[seen]] <= max_age.value
    values[seen] = current["value"].to_numpy(np.float64)[place[seen]]
    return values


def _nanoseconds(instants: pd.DatetimeIndex) -> np.ndarray:
    return instants.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[ns]").astype(np.int64)


def _files(paths: str) -> list[Path]:
    found: list[Path] = []
    for part in filter(None, (part.strip() for part in paths.split(","))):
        place = Path(part).expanduser()
        inside = sorted(place.iterdir()) if place.is_dir() else sorted(map(Path, glob.glob(str(place))))
        files = [path for path in inside if path.is_file() and path.name.lower().endswith((*_TEXTS, *_TABLES))]
        if not files:
            raise MarketDataError(
                f"COVARIATE_FILES={part}: no file there; give {', '.join((*_TEXTS, *_TABLES))} files, a folder of them "
                "or a glob, separated by commas"
            )
        found += files
    return list(dict.fromkeys(found))


def _read(path: Path, zone: str) -> pd.DataFrame:
    where = f"COVARIATE_FILES={path}"
    if not path.stat().st_size:
        raise MarketDataError(f"{where}: is empty; its first line names the columns, {', '.join(_COLUMNS)}")
    try:
        if path.name.lower().endswith(_TABLES):
            raw, first_row = pd.read_parquet(path), 1
        else:
            raw, first_row = _read_csv(path), 2
            if not isinstance(raw.index, pd.RangeIndex):
                raise ValueError(
                    "its rows have more cells than its first line names columns; cells are separated by commas, and "
                    "numbers have a decimal point"
                )
    except (OSError, ValueError) as error:  # pandas' and pyarrow's errors, and UnicodeDecodeError, are ValueErrors
        raise MarketDataError(f"{where} cannot be read: {' '.join(str(error).split())}") from error
    header = [str(name).strip().lower() for name in raw.columns]
    absent = [name for name in _COLUMNS if name not in header]
    unknown = [name for name in header if name not in (*_COLUMNS, *_OPTIONAL)]
    if absent or unknown or len(set(header)) < len(header):
        raise MarketDataError(
            f"{where}: its columns must be {', '.join(_COLUMNS)}, and ticker if a value is of one ticker, each once; "
            f"not {', '.join(header)}. known_at says from when on a value was known; it is never guessed"
        )
    raw.columns = header
    texts = pd.DataFrame({name: _as_text(raw[name]) for name in header})
    filled = (texts != "").any(axis=1)
    texts, rows = texts[filled].reset_index(drop=True), np.flatnonzero(filled) + first_row
    if texts.empty:
        raise MarketDataError(f"{where}: has no rows")
    return _parsed(texts, rows, where, zone)


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, encoding="utf-8-sig", skip_blank_lines=False, keep_default_na=False)


def _as_text(column: pd.Series) -> pd.Series:
    return column.map(lambda value: "" if pd.isna(value) else str(value).strip())


def _parsed(texts: pd.DataFrame, rows: np.ndarray, where: str, zone: str) -> pd.DataFrame:
    def refuse(broken: np.ndarray | pd.Series, column: str, problem: str) -> None:
        places = np.flatnonzero(np.asarray(broken))
        if len(places):
            more = f" ({len(places):,} such rows)" if len(places) > 1 else ""
            text = texts[column].iloc[places[0]]
            raise MarketDataError(f"{where}, row {rows[places[0]]}, {column}: {text!r} {problem}{more}")

    names = texts["name"].str.lower()
    refuse(~names.str.fullmatch(_NAME), "name", "is not a name: a letter, then letters, digits, _ and ., at most 40")
    values = pd.to_numeric(texts["value"], errors="coerce").to_numpy(np.float64)
    refuse(~(np.abs(values) <= LARGEST_VALUE), "value", f"is not a number from -{LARGEST_VALUE:g} to {LARGEST_VALUE:g}")
    days = texts["date"].str.replace(r"[ T]00:00:00(\.0+)?$", "", regex=True)
    dates = pd.to_datetime(days.where(days.str.fullmatch(_DAY)), format="%Y-%m-%d", errors="coerce")
    refuse(dates.isna(), "date", "is not a date; write YYYY-MM-DD")
    known_texts = texts["known_at"].str.replace(r"[ T]00:00:00(\.0+)?$", "", regex=True)
    is_day = known_texts.str.fullmatch(_DAY)
    has_zone = known_texts.str.fullmatch(_DAY + r"[ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)")
    allowed = "write YYYY-MM-DD (known at the end of that day) or a time with its zone, 2020-04-29T08:30:00-04:00"
    refuse(~(is_day | has_zone), "known_at", f"is neither a day nor a time with its zone; {allowed}")
    ends = pd.to_datetime(known_texts.where(is_day), format="%Y-%m-%d", errors="coerce") + pd.Timedelta(days=1)
    known = pd.to_datetime(known_texts.where(has_zone), format="ISO8601", errors="coerce", utc=True)
    # Clocks of some zones (São Paulo's until 2019) go forward at midnight: the day then ends an hour later by name.
    midnights = ends.dt.tz_localize(zone, nonexistent="shift_forward", ambiguous=np.zeros(len(ends), dtype=bool))
    known = known.fillna(midnights.dt.tz_convert("UTC"))
    refuse(known.isna(), "known_at", f"is not a day or time; {allowed}")
    early = (ends <= dates) | (known < dates.dt.tz_localize("UTC") - _EARLIEST_ZONE)
    refuse(early, "known_at", "is before the date that the value is of; a forecast is dated with the day it was made")
    tickers = texts["ticker"].str.upper() if "ticker" in texts else pd.Series("", index=texts.index)
    return pd.DataFrame({"name": names, "ticker": tickers, "date": dates, "known": known, "value": values})


def _described(row: pd.Series) -> str:
    of = f" of {row['ticker']}" if row["ticker"] else ""
    return f"{row['name']}{of} on {row['date']:%Y-%m-%d}, known {re.sub('[+]00:00$', ' UTC', str(row['known']))},"
