"""From the rows of a base and of its changes to the prices that they amount to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
from pandas.api.types import union_categoricals

from financial_assets.market.frames import PRICE_COLUMNS, VALUE_COLUMNS, by_ticker_and_date, in_order, renumbered

_compute: Any = pyarrow.compute  # makes its functions when it is imported, which no type checker sees

BAR, GONE, RESCALED = 0, 1, 2
"""Kinds of rows in a change."""

_MANY = 100
"""Tickers from which on the rows of all are read sooner than those of some."""


@dataclass(frozen=True)
class Span:
    """Which tickers and sessions to read; ``None``: all, both ends included."""

    tickers: tuple[str, ...] | None = None
    start: dt.date | None = None
    end: dt.date | None = None

    def covers(self, other: Span) -> bool:
        """Whether it has all of the other's tickers and sessions."""
        has_tickers = self.tickers is None or (other.tickers is not None and {*other.tickers} <= {*self.tickers})
        begins = self.start is None or (other.start is not None and self.start <= other.start)
        return has_tickers and begins and (self.end is None or (other.end is not None and other.end <= self.end))

    def may_include(self, first: dt.datetime, last: dt.datetime) -> bool:
        """Whether any session from ``first`` to ``last`` is asked for."""
        is_begun = self.start is None or last >= pd.Timestamp(self.start)
        return is_begun and (self.end is None or first <= pd.Timestamp(self.end))

    def includes(self, rows: pyarrow.Table) -> pyarrow.ChunkedArray | None:
        """Which rows are asked for, ``None``: all.

        Tickers are left aside where there are so many that it is quicker to look later (``of_span``).
        """
        conditions: list[pyarrow.ChunkedArray] = []
        if self.tickers is not None and len(self.tickers) <= _MANY:
            named = pyarrow.array(self.tickers, pyarrow.string())
            conditions.append(_compute.is_in(rows["ticker"], value_set=named))
        if self.start is not None:
            conditions.append(_compute.greater_equal(rows["date"], pd.Timestamp(self.start)))
        if self.end is not None:
            conditions.append(_compute.less_equal(rows["date"], pd.Timestamp(self.end)))
        whole: pyarrow.ChunkedArray | None = None
        for condition in conditions:
            whole = condition if whole is None else _compute.and_(whole, condition)
        return whole


def with_names(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with tickers as strings."""
    return rows.assign(ticker=rows["ticker"].astype(object))


def of_span(rows: pd.DataFrame, span: Span) -> pd.DataFrame:
    """The rows of the span's tickers."""
    if span.tickers is None:
        return rows
    column = rows["ticker"].cat
    asked = np.append(column.categories.isin(span.tickers), False)
    return rows if asked[:-1].all() and len(asked) > 1 else rows[asked[column.codes.to_numpy()]]


def together(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The parts one after the other, their tickers still categorical."""
    tickers = union_categoricals([part["ticker"] for part in parts])
    rows = pd.concat([part.drop(columns="ticker") for part in parts], ignore_index=True)
    return rows.assign(ticker=tickers)


def _ticker_codes(rows: pd.DataFrame) -> tuple[np.ndarray, pd.Index]:
    """Codes of the rows' tickers in alphabetical order, and the names."""
    column = rows["ticker"].cat
    names = column.categories.sort_values()
    # A row without a ticker has the code -1, the last place.
    return np.append(names.get_indexer(column.categories), -1)[column.codes.to_numpy()], names


def sorted_bars(bars: pd.DataFrame) -> pd.DataFrame:
    """Bars sorted by ticker and date, on a fresh index."""
    codes, date = _ticker_codes(bars)[0], bars["date"].to_numpy()
    if in_order(codes, date):
        return renumbered(bars)
    return renumbered(bars.take(by_ticker_and_date(codes, date)))


def replayed(rows: pd.DataFrame) -> pd.DataFrame:
    """The prices that the base and its changes amount to, sorted by ticker and date."""
    factors = rows[rows["kind"] == RESCALED].sort_values("change", kind="stable")
    bars = rows[rows["kind"] != RESCALED] if len(factors) else rows
    codes, names = _ticker_codes(bars)
    date, change = bars["date"].to_numpy(), bars["change"].to_numpy()
    # Files are in the order of their changes, and the sort keeps it.
    order = by_ticker_and_date(codes, date)
    codes, date = codes[order], date[order]
    # Of several versions of a bar the last one counts.
    superseded = np.append((codes[1:] == codes[:-1]) & (date[1:] == date[:-1]), False)
    kept = ~superseded & (bars["kind"].to_numpy()[order] != GONE)
    order, codes, date = order[kept], codes[kept], date[kept]
    prices = bars[list(PRICE_COLUMNS)].take(order).reset_index(drop=True)
    if factors.empty:
        return prices
    values = prices[list(VALUE_COLUMNS)].to_numpy(copy=True)
    change = change[order]
    place = {str(name): code for code, name in enumerate(names)}
    for ticker, before, number, *factor in factors[["ticker", "date", "change", *VALUE_COLUMNS]].itertuples(
        index=False, name=None
    ):
        code = place.get(str(ticker))
        if code is None:
            continue
        first = int(np.searchsorted(codes, code))
        end = first + int(np.searchsorted(date[first : np.searchsorted(codes, code, "right")], np.datetime64(before)))
        # One factor after the other, as the source published them: their product would round otherwise.
        older = first + np.flatnonzero(change[first:end] < number)
        values[older] *= np.asarray(factor, dtype=np.float64)
    prices[list(VALUE_COLUMNS)] = values
    return prices


def rescaled_rows(factors: Sequence[tuple[str, pd.Timestamp, float, float, float]]) -> pd.DataFrame:
    """Rows of kind ``rescaled``: ticker, first session that keeps its values, factors of prices, volume, adj_close."""
    ticker, before, price, volume, adjusted = zip(*factors, strict=True)
    columns = {"kind": np.int8(RESCALED), "date": pd.DatetimeIndex(before), "ticker": list(ticker)}
    columns |= {name: list(price) for name in ("open", "high", "low", "close")}
    return pd.DataFrame(columns | {"volume": list(volume), "adj_close": list(adjusted)})
