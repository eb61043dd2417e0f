"""What column names mean, and which vendors' files are recognised by them.

The tables here are also what ``docs/write_price_files.py`` prints.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from financial_assets.errors import SourceError
from financial_assets.market.frames import PRICE_COLUMNS

PRICE_FIELDS = ("open", "high", "low", "close", "volume", "adj_close")

ALIASES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "date": (
        ("date", "session"),
        ("trade_date", "trading_day", "dtyyyymmdd"),
        ("datetime",),
        ("timestamp", "ts_event", "window_start"),
        ("time",),
        ("index",),
    ),
    "ticker": (("ticker",), ("symbol",), ("tic", "ticker_symbol", "stock_symbol", "act_symbol"), ("stock",), ("name",)),
    "open": (("open", "open_price", "px_open"),),
    "high": (("high", "high_price", "px_high"),),
    "low": (("low", "low_price", "px_low"),),
    "close": (("close", "close_last", "close_price", "price_close"), ("last", "last_price", "px_last", "price")),
    "volume": (("volume", "vol", "px_volume"),),
    "adj_close": (("adj_close", "adjclose", "adjusted_close", "closeadj", "close_adj", "adj_close_price"),),
}
"""Names of each column, as ``normalised`` spells them; of two groups the earlier wins, within a group there is one."""

ONE_LETTER = {"T": "ticker", "t": "timestamp", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
"""Names of Polygon's and Alpaca's JSON; here alone upper and lower case differ."""

_RANKS = {
    alias: (field, rank) for field, groups in ALIASES.items() for rank, names in enumerate(groups) for alias in names
}
# The page finance.yahoo.com shows an explanation behind some names, and copies it along.
_EXPLAINED = (("adj_close_adjusted_close_price", "adj_close"), ("close_close_price_adjusted", "close"))


@dataclass(frozen=True)
class Form:
    """A vendor's files.

    Attributes
    ----------
    name
        What messages call it.
    marks
        Names (``normalised``) that a file of this form has, and others have not.
    adjustment
        What its close usually is where the file has no adjusted close: a value of ``ADJUSTMENT``, as advice only.
    example
        A header line.
    """

    name: str
    marks: frozenset[str]
    adjustment: str | None
    example: str


def _form(name: str, marks: str, adjustment: str | None, example: str) -> Form:
    return Form(name, frozenset(marks.split()), adjustment, example)


FORMS = (
    _form(
        "Alpha Vantage, adjusted",
        "timestamp adjusted_close dividend_amount",
        None,
        "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient",
    ),
    _form(
        "Tiingo",
        "adj_close div_cash split_factor",
        None,
        "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor",
    ),
    _form("Sharadar", "closeadj", None, "ticker,date,open,high,low,close,volume,closeadj,closeunadj,lastupdated"),
    _form(
        "Quandl",
        "adj_close adj_open adj_volume",
        None,
        "Date,Open,High,Low,Close,Volume,Adj. Open,Adj. High,Adj. Low,Adj. Close,Adj. Volume",
    ),
    _form("Nasdaq.com", "close_last", "splits", "Date,Close/Last,Volume,Open,High,Low"),
    _form("Investing.com", "price change_%", "splits", '"Date","Price","Open","High","Low","Vol.","Change %"'),
    _form(
        "Databento",
        "ts_event rtype",
        "none",
        "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol",
    ),
    _form(
        "Polygon flat file",
        "window_start transactions",
        "none",
        "ticker,volume,open,close,high,low,window_start,transactions",
    ),
    _form("Polygon or Alpaca JSON", "o h l c", "splits", "T,v,vw,o,c,h,l,t,n"),
    _form(
        "Stooq or Finam",
        "per date time vol",
        "adjusted",
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
    ),
    _form("MetaTrader", "tickvol", "none", "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"),
    _form(
        "yfinance, Ticker.history",
        "dividends stock_splits",
        "adjusted",
        "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits",
    ),
    _form("columns of a price frame", " ".join(PRICE_COLUMNS), None, ",".join(PRICE_COLUMNS)),
    _form(
        "Yahoo or Kaggle",
        "date open high low close adj_close volume",
        None,
        "Date,Open,High,Low,Close,Adj Close,Volume",
    ),
)
"""Forms by name; any other file is read if its columns have names of ``ALIASES``."""


def form_of(names: Collection[str]) -> Form | None:
    """The first of ``FORMS`` whose marks are all among the column names (``normalised``)."""
    present = set(names)
    return next((form for form in FORMS if form.marks <= present), None)


def normalised(name: str) -> str:
    """``Adj. Close**``, ``<ADJ_CLOSE>``, ``adjClose`` and ``5. adj close`` as ``adj_close``."""
    text = name.strip().strip("<>\"'").strip().rstrip("*").strip()
    text = re.sub(r"^\d+[.)]\s*", "", text)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower()
    text = re.sub(r"[\s._/\-]+", "_", text).strip("_")
    return next((field for start, field in _EXPLAINED if text.startswith(start)), text)


def field_of(name: str) -> str | None:
    """The column of a price frame that a name stands for."""
    return _RANKS.get(normalised(name), (None, 0))[0]


def fields_of(names: Sequence[str]) -> set[str]:
    """The columns of a price frame that a line of names has."""
    return {_RANKS[name][0] for name in (_one_letter(name, names) for name in names) if name in _RANKS}


def pick_columns(origin: str, names: Sequence[str]) -> dict[str, int]:
    """Position of each column of a price frame among ``names``, where it is there.

    Raises
    ------
    SourceError
        Two columns have an equal claim.
    """
    spelt = [_one_letter(name, names) for name in names]
    picked: dict[str, int] = {}
    for field in ALIASES:
        claims = [(_RANKS[name][1], place) for place, name in enumerate(spelt) if _RANKS.get(name, ("", 0))[0] == field]
        best = [place for rank, place in claims if rank == min(claims)[0]]
        if len(best) > 1:
            raise SourceError(
                f"{origin}: more than one column {field}: {', '.join(str(names[place]) for place in best)}; remove or "
                "rename all but one"
            )
        if best:
            picked[field] = best[0]
    return picked


def _one_letter(name: str, names: Sequence[str]) -> str:
    return ONE_LETTER.get(name.strip(), normalised(name)) if {"o", "h", "l", "c"} <= set(names) else normalised(name)
