"""The universe as it was: which tickers belonged to it when, so that the past is not made of today's survivors."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from financial_assets.errors import MarketDataError

_COLUMNS = ("ticker", "from", "to", "sector", "currency")


class Membership(BaseModel):
    """One line of a universe file: a ticker belongs to the universe from ``first`` to ``last``, both included.

    ``None`` leaves an end open. Sector and currency are those of that time; empty when not given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    ticker: str = Field(min_length=1, max_length=16, pattern=r"^[A-Z0-9.\-^=]+$")
    first: dt.date | None = Field(default=None, alias="from")
    last: dt.date | None = Field(default=None, alias="to")
    sector: str = ""
    currency: str = Field(default="", pattern=r"^([A-Z]{3})?$")

    @field_validator("first", "last", mode="before")
    @classmethod
    def _iso_date(cls, value: object) -> object:
        # pydantic would take 1514764800 for a date, and its messages do not say how to write one.
        if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
            raise ValueError(f"{value!r} is not a date; write YYYY-MM-DD")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Membership:
        if self.first is not None and self.last is not None and self.first > self.last:
            raise ValueError(f"from {self.first} is after to {self.last}")
        return self

    def covers(self, sessions: pd.DatetimeIndex) -> np.ndarray:
        """Which sessions lie inside: bool ``[session]``."""
        inside = np.ones(len(sessions), dtype=bool)
        if self.first is not None:
            inside &= np.asarray(sessions >= pd.Timestamp(self.first))
        if self.last is not None:
            inside &= np.asarray(sessions <= pd.Timestamp(self.last))
        return inside


@dataclass(frozen=True)
class Universe:
    """Dated memberships.

    Attributes
    ----------
    memberships
        Sorted by ticker and first day; those of one ticker do not overlap.
    """

    memberships: tuple[Membership, ...]

    @property
    def tickers(self) -> tuple[str, ...]:
        """Everybody who ever belonged to it, sorted: also those who left."""
        return tuple(dict.fromkeys(membership.ticker for membership in self.memberships))

    def members(self, tickers: Sequence[str], sessions: pd.DatetimeIndex) -> np.ndarray:
        """Who belongs to it when: bool ``[ticker, session]``; a ticker that is not in the file never does."""
        belongs = np.zeros((len(tickers), len(sessions)), dtype=bool)
        rows = {ticker: row for row, ticker in enumerate(tickers)}
        for membership in self.memberships:
            if membership.ticker in rows:
                belongs[rows[membership.ticker]] |= membership.covers(sessions)
        return belongs

    def sectors(self, session: pd.Timestamp) -> Mapping[str, str]:
        """Ticker to sector for the members on ``session``, of those that have one."""
        day = pd.DatetimeIndex([session])
        return {
            membership.ticker: membership.sector
            for membership in self.memberships
            if membership.sector and membership.covers(day)[0]
        }


def read_universe(path: Path) -> Universe:
    """A universe file: CSV with the columns ``ticker, from, to, sector, currency``; all but the first may be empty.

    Raises
    ------
    MarketDataError
        There is no such file, or a line of it cannot be: names file, line and column.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MarketDataError(f"UNIVERSE_FILE={path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise MarketDataError(f"UNIVERSE_FILE={path} cannot be read: {error}; save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    header = [name.strip().lower() for name in reader.fieldnames or []]
    unknown = [name for name in header if name not in _COLUMNS]
    if "ticker" not in header or unknown or len(header) > len(set(header)):
        raise MarketDataError(
            f"UNIVERSE_FILE={path}: its first line must name the columns {', '.join(_COLUMNS)} (ticker at least, with "
            f"commas between them, each once), not "
            f"{', '.join(header) or 'nothing'}"
        )
    reader.fieldnames = header
    lines: list[tuple[int, Membership]] = []
    for row in reader:
        if None in row:
            raise MarketDataError(f"UNIVERSE_FILE={path}, line {reader.line_num}: more cells than columns")
        values = {name: value.strip() for name, value in row.items() if value is not None and value.strip()}
        if not values:
            continue
        try:
            # As price files are read: BRK/B is BRK-B.
            values |= {"ticker": values.get("ticker", "").upper().replace("/", "-")}
            lines.append((reader.line_num, Membership.model_validate(values)))
        except ValidationError as error:
            problem = error.errors()[0]
            column = ".".join(map(str, problem["loc"])) or "line"
            message = str(problem["msg"]).removeprefix("Value error, ")
            raise MarketDataError(f"UNIVERSE_FILE={path}, line {reader.line_num}, {column}: {message}") from error
    return Universe(_ordered(path, lines))


def _ordered(path: Path, lines: Sequence[tuple[int, Membership]]) -> tuple[Membership, ...]:
    if not lines:
        raise MarketDataError(f"UNIVERSE_FILE={path}: names no ticker")
    ordered = sorted(lines, key=lambda line: (line[1].ticker, line[1].first or dt.date.min))
    for (_, one), (number, other) in pairwise(ordered):
        if one.ticker == other.ticker and (one.last is None or other.first is None or other.first <= one.last):
            raise MarketDataError(
                f"UNIVERSE_FILE={path}, line {number}: {other.ticker} already belongs to the universe from "
                f"{one.first or 'its first day'} to {one.last or 'today'}; end that line before this one begins"
            )
    return tuple(membership for _, membership in ordered)
