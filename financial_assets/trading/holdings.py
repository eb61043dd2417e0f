"""What is held, from a file: a table of tickers and shares as spreadsheets and brokers write it."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from financial_assets.errors import HoldingsError, SourceError
from financial_assets.market.sources.files.contents import Content, text_of

SETTING = "HOLDINGS"
_TICKER = ("ticker", "symbol", "instrument")
_QUANTITY = ("quantity", "shares", "position", "qty")
_SEPARATORS = ",;\t|"
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)
_MOST_SHARES = 1e12
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class Holdings:
    """Ticker -> shares (negative: borrowed), and the file they are from, with the first digits of its SHA-256."""

    shares: dict[str, float]
    origin: str


def read_holdings(path: Path, universe: Collection[str], *, short_allowed: bool) -> Holdings:
    """A file of holdings: columns ``ticker`` and ``quantity``, others are left alone.

    Commas, semicolons, tabs and bars may stand between cells; UTF-8, UTF-16 and Windows' encoding are read. Shares are
    whole numbers, or fractions with a decimal point; ``1,000`` could be either and is refused.

    Parameters
    ----------
    path
        The file.
    universe
        Tickers that may be held.
    short_allowed
        Whether negative numbers of shares are: not of a long-only book.

    Raises
    ------
    HoldingsError
        Names the file, the line and what to change.
    """
    where = f"{SETTING}={path}"
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise HoldingsError(f"{where} cannot be read: {error.strerror or error}") from error
    if len(data) > _MOST_BYTES:
        raise HoldingsError(f"{where} has {len(data):,} bytes: not a file of holdings")
    try:
        text = text_of(Content(str(path), PurePosixPath(path.name), data, "text")).decode()
    except SourceError as error:
        raise HoldingsError(f"{SETTING}: {error}") from error
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise HoldingsError(f"{where} is empty; without any holdings, write its header alone: ticker,quantity")
    first = next(line for line in lines if line.strip())
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=separator, skipinitialspace=True)
    header = [name.strip().lower() for name in next(row for row in reader if any(cell.strip() for cell in row))]
    ticker_at, quantity_at = (_column(header, names, where) for names in (_TICKER, _QUANTITY))
    shares: dict[str, float] = {}
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        line = f"{where}, line {reader.line_num}"
        if len(row) != len(header):
            raise HoldingsError(f"{line}: has {len(row)} cells, the header has {len(header)}")
        ticker = row[ticker_at].strip().upper().replace("/", "-")  # as price files are read
        if ticker not in universe:
            raise HoldingsError(
                f"{line}: {ticker or 'an empty cell'} is not in the universe; add it to TICKERS, or take the line out "
                "and manage that position by hand"
            )
        if ticker in shares:
            raise HoldingsError(f"{line}: {ticker} is there twice; give its total in one line")
        shares[ticker] = _shares(row[quantity_at].strip(), f"{line}: quantity of {ticker}", short_allowed)
    digest = hashlib.sha256(data).hexdigest()
    return Holdings({name: held for name, held in sorted(shares.items()) if held}, f"{path.name} {digest[:12]}")


def _column(header: list[str], names: tuple[str, ...], where: str) -> int:
    found = [place for place, name in enumerate(header) if name in names]
    if len(found) != 1:
        fault = "has no column" if not found else "has several columns"
        raise HoldingsError(
            f"{where} {fault} {names[0]} (or {', '.join(names[1:])}); its first line is: {', '.join(header)[:200]}"
        )
    return found[0]


def _shares(cell: str, where: str, short_allowed: bool) -> float:
    if not _NUMBER.fullmatch(cell):
        hint = "; write whole numbers without a mark for thousands, and a decimal point" if "," in cell else ""
        raise HoldingsError(f"{where} must be a number of shares, not {cell[:40]!r}{hint}")
    shares = float(cell)
    if not math.isfinite(shares) or abs(shares) > _MOST_SHARES:
        raise HoldingsError(f"{where} must be at most {_MOST_SHARES:g} shares, not {cell[:40]}")
    if shares < 0 and not short_allowed:
        raise HoldingsError(
            f"{where} is {cell}: a short position does not belong into a long-only book; set ORDERS_MODE=long_short or "
            "neutral, or take the line out"
        )
    return shares
