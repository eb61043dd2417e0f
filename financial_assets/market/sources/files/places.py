"""Which files a path means, and what their names say: tickers, and the keys of hive folders."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from financial_assets.errors import SourceError
from financial_assets.market.sources.files.contents import COMPRESSIONS, TABLES, TEXTS, is_readable_name

GENERIC = frozenset(
    {
        "BARS",
        "PRICES",
        "PRICE",
        "DATA",
        "TABLE",
        "DOWNLOAD",
        "HISTORY",
        "HISTORICALDATA",
        "HISTORICAL",
        "QUOTES",
        "QUOTE",
    }
    | {"OHLCV", "OHLC", "EXPORT", "STOCKS", "STOCK", "DAILY", "EOD", "ARCHIVE", "FILE", "PART", "ALL", "TEST", "TRAIN"}
    | {"OUTPUT", "RESULT"}
)
"""Names of files that are no tickers."""

_TICKER = re.compile(r"[A-Z0-9^][A-Z0-9.\-^=]{0,15}")
_PREFIX = re.compile(
    r"^(?:time_series_daily_adjusted|daily_adjusted|daily|wiki|eod|sep|sharadar_sep)[-_]", re.IGNORECASE
)
_SUFFIX = re.compile(
    r"(?:[ _-](?:us_d|historical[ _-]data|historical[ _-]prices|history|daily|1d|d|ohlcv|prices?|stock|data|max|hist"
    r"|eod)|[ _-]?\(\d+\)|[ _-]\d{4}(?:-?\d{2}-?\d{2})?)+$",
    re.IGNORECASE,
)

_TRADINGVIEW = re.compile(r"^[A-Z]+(?:_DLY)?_(?P<ticker>[^ ,]+), 1?D(?:_[0-9a-f]+)?(?: \(\d+\))?$")
"""``NASDAQ_AAPL, 1D.csv``."""


def find_files(paths: str) -> list[tuple[Path, PurePosixPath]]:
    """The files that ``paths`` (a file, a folder or a glob) means, with their names below it.

    Folders are searched with their sub-folders; hidden files and those that Spark writes beside its data are left out.

    Raises
    ------
    SourceError
        There are none.
    """
    place = Path(paths).expanduser()
    try:
        if place.is_dir():
            files = [(path, PurePosixPath(path.relative_to(place))) for path in _below(place) if path.is_file()]
            files = [(path, name) for path, name in files if _is_data(name.name) and is_readable_name(name.name)]
        elif place.is_file():
            if not is_readable_name(place.name):
                raise SourceError(
                    f"{place}: not a {', '.join(TEXTS + TABLES)} file, packed or not ({', '.join(COMPRESSIONS)})"
                )
            files = [(place, PurePosixPath(*place.parts[-3:]))]
        else:
            # A hive key may stand in any of the folders that a glob matches.
            matches = [Path(name) for name in glob.glob(str(place), recursive=True)]
            files = [(path, PurePosixPath(*path.parts[-4:])) for path in matches if path.is_file()]
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(place) else ""
        raise SourceError(
            f"PRICE_FILES={paths}: cannot be read: {error.strerror or error}{where}; make it readable"
        ) from error
    if not files:
        raise SourceError(
            f"PRICE_FILES={paths}: no file there; give a file ({', '.join(TEXTS + TABLES)}, packed or not), a folder "
            "or a glob"
        )
    return sorted(files)


def _below(place: Path) -> Iterator[Path]:
    """All files below a folder; a sub-folder that cannot be listed is an error, for it may hold half a history."""

    def refuse(error: OSError) -> None:
        raise error

    for folder, subfolders, names in os.walk(place, onerror=refuse):
        subfolders[:] = [name for name in subfolders if _is_data(name)]
        yield from (Path(folder, name) for name in names)


def _is_data(name: str) -> bool:
    # lost+found lies at the top of every mounted volume, and only root may list it.
    return not name.startswith((".", "_")) and name != "lost+found"


def hive_keys(name: PurePosixPath) -> dict[str, str]:
    """Keys of the folders above a file, by lower-case name: ``ticker=AAPL/year=2018/part-0.parquet``."""
    pairs = [part.partition("=") for part in name.parts[:-1] if "=" in part]
    return {key.lower(): unquote(value) for key, _, value in pairs if value != "__HIVE_DEFAULT_PARTITION__"}


def ticker_of(name: PurePosixPath) -> str | None:
    """The ticker that a file is called by: ``AAPL.csv``, ``aapl.us.txt``, ``daily_adjusted_AAPL.csv``.

    ``None`` where the name is a common word (``bars.csv``) or no ticker.
    """
    stem = unquote(name.name)
    for suffix in (*COMPRESSIONS, *TEXTS, *TABLES, ".snappy"):
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
    tradingview = _TRADINGVIEW.match(stem)
    bare = tradingview["ticker"] if tradingview else _SUFFIX.sub("", stem)
    bare = _PREFIX.sub("", bare) or bare
    ticker = bare.strip().upper().replace("_", "-")
    if not _TICKER.fullmatch(ticker) or ticker in GENERIC or ticker.startswith(("PART-", "HISTORICALDATA")):
        return None
    # Asian tickers are numbers (7203.T, 600519), and so are years, months and days (2018, 2018-01, 20180102).
    is_number = re.fullmatch(r"[\d.\-]+", ticker) is not None
    is_ticker = re.fullmatch(r"(?!19|20)\d{4,6}", ticker) is not None
    return None if is_number and not is_ticker else ticker
