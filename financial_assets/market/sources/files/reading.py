"""One file as bars: which columns are what, read, and put into the columns of a price frame."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa

from financial_assets.errors import SourceError
from financial_assets.market.frames import VALUE_COLUMNS, empty_prices, in_order, joined, ticker_codes
from financial_assets.market.sources.files.cells import BadCellsError, ColumnError, cells_where, distinct
from financial_assets.market.sources.files.contents import Content
from financial_assets.market.sources.files.dates import read_dates
from financial_assets.market.sources.files.grids import Grid, read_grid
from financial_assets.market.sources.files.layouts import Layout, find_layout
from financial_assets.market.sources.files.names import normalised
from financial_assets.market.sources.files.numbers import MISSING, is_text, read_numbers
from financial_assets.market.sources.files.places import hive_keys, ticker_of
from financial_assets.market.sources.files.rules import FileBars, FileRules

_ACTION = re.compile(r"dividend|stock splits?", re.IGNORECASE)
_DAILY = frozenset({"D", "d", "1D", "1d", "1440", "day", "daily", "35", "36"})
"""Intervals of Stooq and Finam (``<PER>``), and Databento's ``rtype`` of daily bars."""

_WEEK = 5
"""Calendar days between two bars that are no longer daily ones."""
_FEW_BARS = 10
"""So few bars do not show an interval."""

_DATABENTO = frozenset({"ts_event", "rtype", "publisher_id", "instrument_id"})
_FIXED_POINT = 1e-9
"""Databento's raw prices are whole numbers of this unit."""
_RAW_FLOOR = 1e6
"""Raw prices are larger (a tenth of a cent), prices in dollars are smaller."""
_UNDEFINED = 2.0**63 - 2048
"""Databento's price of no price, as float64."""


def read_bars(content: Content, rules: FileRules, asked: Collection[str] | None = None) -> FileBars:
    """The bars of a file.

    Parameters
    ----------
    asked
        Tickers of interest; a file that is named after another one is not read beyond its column names. ``None``: all.

    Raises
    ------
    SourceError
        It cannot be read as a whole: names file, column and line, and what to do.
    """
    grid = read_grid(content)
    layout = find_layout(grid, hive_keys(content.name))
    layout = _without_company_names(grid, layout, content)
    if layout.ticker is None and layout.hive_ticker is None and not layout.is_wide:
        layout = replace(layout, hive_ticker=_named_ticker(content, layout, rules))
    own = layout.hive_ticker if layout.ticker is None and not layout.is_wide else None
    if own is not None and asked is not None and own.upper() not in asked:
        return FileBars(grid.origin, layout.form_name, "not read", _no_bars(), {}, grid.notes, (own.upper(),))
    blocks = [_Block(grid, layout, fields, ticker, rules) for ticker, fields in layout.blocks]
    parts = [block.read() for block in blocks]
    adjustment = _adjustment(grid.origin, layout, rules)
    columns = {name: joined([part[name] for part in parts]) for name in ("date", "ticker", *VALUE_COLUMNS)}
    refused = {ticker: reason for block in blocks for ticker, reason in block.refused.items()}
    notes = [*grid.notes, *(note for block in blocks for note in block.notes)]
    if own is not None and own == rules.only_ticker and ticker_of(content.name) is None:
        notes.append(f"names no ticker; taken for {own}, the only one asked for")
    if layout.incomplete:
        notes.append(f"left out {', '.join(layout.incomplete)}: not all of open, high, low, close, volume")
    if not len(columns["date"]) and not refused:
        raise SourceError(f"{grid.origin}: has no rows")
    held = tuple(sorted(map(str, ticker_codes(pd.Series(columns["ticker"]))[1])))
    return FileBars(grid.origin, layout.form_name, adjustment, columns, refused, tuple(notes), held)


def _without_company_names(grid: Grid, layout: Layout, content: Content) -> Layout:
    """A column ``name`` is no ticker where the file is called by another one: AAPL.csv with "Apple Inc."."""
    if layout.ticker is None or normalised(layout.names[layout.ticker]) != "name":
        return layout
    own = ticker_of(content.name)
    names = grid.load([layout.ticker], [])[layout.ticker].cast(pa.string()).unique().to_pylist() if own else []
    is_company = len(names) == 1 and names[0] is not None and re.search(r"[a-z]\S|\s|[^\x00-\x7f]", names[0].strip())
    return replace(layout, ticker=None) if is_company and names[0].strip().upper() != own else layout


def _no_bars() -> dict[str, np.ndarray]:
    frame = empty_prices()
    return {str(name): frame[name].to_numpy() for name in frame}


def _named_ticker(content: Content, layout: Layout, rules: FileRules) -> str:
    ticker = ticker_of(content.name) or rules.only_ticker
    if ticker is None:
        raise SourceError(
            f"{content.origin}: no column ticker, and its name is not a ticker; name the file after its ticker "
            f"(AAPL.csv) or add the column; it has {', '.join(filter(None, layout.names))}"
        )
    return ticker


def _adjustment(origin: str, layout: Layout, rules: FileRules) -> str:
    """Where ``adj_close`` comes from, in words."""
    if all("adj_close" in block for _, block in layout.blocks):
        return "column"
    if rules.adjustment in (None, "adj_close"):
        said = "ADJUSTMENT=adj_close, but " if rules.adjustment else ""
        form = layout.form
        advice = f" {form.name}'s is usually {form.adjustment}." if form is not None and form.adjustment else ""
        raise SourceError(
            f"{origin}: {said}no column adj_close; it has {', '.join(filter(None, layout.names))}\n"
            "Set ADJUSTMENT to what its close is: adjusted (for splits and dividends; yfinance's auto_adjust=True), "
            f"splits (for splits only) or none (as traded).{advice}\n"
            "Or export with an adjusted close (yfinance: auto_adjust=False)"
        )
    return f"ADJUSTMENT={rules.adjustment}"


class _Block:
    """The columns of one ticker, or of all rows where tickers stand in a column; read once."""

    def __init__(
        self, grid: Grid, layout: Layout, fields: Mapping[str, int], ticker: str | None, rules: FileRules
    ) -> None:
        self._grid, self._layout, self._fields, self._rules = grid, layout, fields, rules
        self._ticker = ticker or layout.hive_ticker
        self.refused: dict[str, str] = {}
        self.notes: list[str] = []

    def read(self) -> dict[str, np.ndarray]:
        """Columns of a price frame. What could not be read is in ``refused`` then."""
        layout = self._layout
        keys = [place for place in (layout.date, layout.ticker, *layout.interval) if place is not None]
        cells = self._grid.load(keys, list(self._fields.values()))
        rows = self._bar_rows(cells)
        self._refuse_other_intervals(cells, rows)
        tickers = self._tickers(cells, rows)
        named = ticker_codes(pd.Series(tickers))[0] >= 0
        if not named.all():
            self.notes.append(f"left out {int((~named).sum())} rows without a ticker")
            rows, tickers = rows[named], tickers[named]
        while True:
            try:
                columns = self._columns(cells, rows, tickers)
                self._refuse_intraday(cells, rows, columns)
                return self._without_weekly(columns)
            except BadCellsError as error:
                rows, tickers = self._without_bad(error, rows, tickers)
            except ColumnError as error:
                raise SourceError(f"{self._grid.origin}: {error}") from error

    def _bar_rows(self, cells: Mapping[int, pa.Array]) -> np.ndarray:
        """Rows that are bars: not empty ones, and not the dividends and splits on Yahoo's page."""
        fields = [cells[place] for place in self._fields.values()]
        blank = np.ones(len(fields[0]), dtype=bool)
        keys = (
            []
            if self._layout.is_wide
            else [cells[place] for place in (self._layout.date, self._layout.ticker) if place is not None]
        )
        for column in (*fields, *keys):  # numbers first: they decide most often, and fastest
            if blank.any():
                blank &= _is_missing(column)
        for column in filter(is_text, fields):
            actions = cells_where(column, lambda cell: _ACTION.search(cell) is not None) & ~blank
            if actions.any():
                self.notes.append(f"left out {int(actions.sum())} rows of dividends and splits")
                blank |= actions
        return np.flatnonzero(~blank)

    def _refuse_other_intervals(self, cells: Mapping[int, pa.Array], rows: np.ndarray) -> None:
        for place in self._layout.interval:
            intervals = {str(value).strip() for value in cells[place].take(pa.array(rows)).unique().to_pylist()}
            others = sorted(intervals - _DAILY)
            if others:
                raise SourceError(
                    f"{self._grid.origin}: column {self._name(place)} is {', '.join(others[:3])}; daily bars are needed"
                )

    def _refuse_intraday(
        self, cells: Mapping[int, pa.Array], rows: np.ndarray, columns: Mapping[str, np.ndarray]
    ) -> None:
        codes = ticker_codes(pd.Series(columns["ticker"]))[0]
        if self._layout.date is None or in_order(codes, columns["date"], once=True):
            return
        keys = pd.DataFrame({"ticker": codes, "date": columns["date"]})
        repeated = keys.duplicated(keep=False).to_numpy()
        if not repeated.any():
            return
        # The same moment twice is a duplicate, for the checks to name; two moments of a day are no daily bars.
        moments = cells[self._layout.date].take(pa.array(rows[repeated])).dictionary_encode().indices
        distinct = keys[repeated].assign(moment=moments.to_numpy(zero_copy_only=False)).drop_duplicates()
        if (distinct.groupby(["ticker", "date"]).size() > 1).any():
            raise SourceError(
                f"{self._grid.origin}: column {self._name(self._layout.date)} has several times of one day; daily bars "
                "are needed"
            )

    def _without_weekly(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The bars of tickers whose bars are daily ones; half of all bars a week apart are of another interval."""
        codes, names = ticker_codes(pd.Series(columns["ticker"]))
        order = slice(None) if in_order(codes, columns["date"]) else np.lexsort((columns["date"], codes))
        steps = np.diff(columns["date"][order]) / np.timedelta64(1, "D")
        owner = codes[order]
        inner = owner[1:] == owner[:-1]
        # A median of a week needs half of the steps to be as long.
        long = np.bincount(owner[1:][inner & (steps >= _WEEK)], minlength=len(names))
        suspect = 2 * long >= np.bincount(owner[1:][inner], minlength=len(names))
        inner &= suspect[owner[1:]]
        typical = pd.Series(steps[inner]).groupby(owner[1:][inner]).agg(["median", "size"])
        weekly = typical[(typical["median"] >= _WEEK) & (typical["size"] >= _FEW_BARS)]
        for code, step in zip(weekly.index.to_numpy(), weekly["median"], strict=True):
            self.refused[str(names[code])] = (
                f"{self._grid.origin}: bars of {names[code]} are {int(step)} days apart, as weekly or monthly ones; "
                "daily bars are needed"
            )
        kept = ~np.isin(codes, weekly.index)
        return {name: column[kept] for name, column in columns.items()} if len(weekly) else columns

    def _tickers(self, cells: Mapping[int, pa.Array], rows: np.ndarray) -> np.ndarray:
        if self._layout.ticker is None or self._layout.is_wide:
            return np.full(len(rows), str(self._ticker).upper(), dtype=object)
        encoded = distinct(_taken(cells[self._layout.ticker], rows))
        # TICKERS cannot hold a slash: BRK/B and BTC/USD are asked for with a hyphen.
        names = [
            name.strip().strip('"').strip().upper().replace("/", "-") or None for name in encoded.dictionary.to_pylist()
        ]
        codes = encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
        return np.array([*names, None], dtype=object)[codes]

    def _columns(self, cells: Mapping[int, pa.Array], rows: np.ndarray, tickers: np.ndarray) -> dict[str, np.ndarray]:
        dates = self._dates(cells, rows)
        numbers = {name: _taken(cells[place], rows) for name, place in self._fields.items()}
        values = read_numbers(numbers, self._rules.decimal_mark, separator=self._grid.separator)
        if _DATABENTO & {normalised(name) for name in self._layout.names}:
            values = _pretty(values)
        values.setdefault("adj_close", values["close"])
        return {"date": dates, "ticker": tickers} | values

    def _dates(self, cells: Mapping[int, pa.Array], rows: np.ndarray) -> np.ndarray:
        place = self._layout.date
        column = pa.array([self._layout.hive_date] * len(rows)) if place is None else _taken(cells[place], rows)
        try:
            return read_dates(column, order=self._rules.date_order, zone=self._rules.zone)
        except ColumnError as error:
            raise ColumnError(f"column {'date' if place is None else self._name(place)} {error}") from error

    def _without_bad(
        self, error: BadCellsError, rows: np.ndarray, tickers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the other tickers: one ticker's cell that cannot be read is no reason to refuse them all."""
        column = self._fields.get(error.name, self._layout.date)
        for ticker in dict.fromkeys(tickers[error.bad]):
            bad = np.flatnonzero(error.bad & (tickers == ticker))
            cell = error.column[int(bad[0])].as_py()
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            self.refused[ticker] = (
                f"{self._grid.origin}, column {self._name(column)}, {self._grid.place(int(rows[bad[0]]))}: "
                f"{'' if cell is None else str(cell)!r} {error.problem}{more}"
            )
        kept = np.array([ticker not in self.refused for ticker in tickers], dtype=bool)
        return rows[kept], tickers[kept]

    def _name(self, place: int | None) -> str:
        return "date" if place is None else self._layout.names[place] or "without a name"


def _taken(column: pa.Array, rows: np.ndarray) -> pa.Array:
    """The cells of ``rows``, which are in order and occur once."""
    return column if len(rows) == len(column) else column.take(pa.array(rows))


def _is_missing(column: pa.Array) -> np.ndarray:
    missing = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if is_text(column):
        missing = missing | cells_where(column, lambda cell: cell.strip() in MISSING)
    return np.array(missing, dtype=bool)


def _pretty(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Databento's prices in dollars: raw ones are whole numbers of 1e-9 dollars."""
    prices = {
        name: np.where(values[name] >= _UNDEFINED, np.nan, values[name]) for name in ("open", "high", "low", "close")
    }
    numbers = np.concatenate(list(prices.values()))
    numbers = numbers[~np.isnan(numbers)]
    if len(numbers) and (numbers == np.round(numbers)).all() and numbers.min() >= _RAW_FLOOR:
        prices = {name: np.round(numbers) * _FIXED_POINT for name, numbers in prices.items()}
    return values | prices
