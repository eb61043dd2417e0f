"""What the columns of a table mean: one row per bar, or one column per ticker and field."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from financial_assets.errors import SourceError
from financial_assets.market.sources.files.grids import Grid
from financial_assets.market.sources.files.names import (
    ALIASES,
    PRICE_FIELDS,
    Form,
    field_of,
    form_of,
    normalised,
    pick_columns,
)
from financial_assets.market.sources.files.numbers import is_text

WIDE_FORMS = {
    "levels": "yfinance download, or another frame with tickers and fields in column levels",
    "flat": "one column per ticker and field (AAPL_Close, Close AAPL)",
}
_REQUIRED = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Layout:
    """The meaning of a table's columns.

    Attributes
    ----------
    names
        Column names as they stand, for messages.
    form
        Vendor, where it was recognised.
    form_name
        What to call the file's form.
    date
        Position of the column of dates; ``None``: a hive folder names the date.
    ticker
        Position of the column of tickers; ``None``: there is none.
    blocks
        Positions of fields, once for all rows (ticker ``None``) or once per ticker.
    interval
        Positions of columns that say how long a bar is.
    hive_ticker, hive_date
        What the file's folders or its name say.
    incomplete
        Tickers of a wide table that lack a field.
    """

    names: tuple[str, ...]
    form: Form | None
    form_name: str
    date: int | None
    ticker: int | None
    blocks: tuple[tuple[str | None, Mapping[str, int]], ...]
    interval: tuple[int, ...] = ()
    hive_ticker: str | None = None
    hive_date: str | None = None
    incomplete: tuple[str, ...] = field(default=())

    @property
    def is_wide(self) -> bool:
        """Whether each ticker has columns of its own."""
        return self.blocks[0][0] is not None


def find_layout(grid: Grid, keys: Mapping[str, str]) -> Layout:
    """What a table's columns mean.

    Parameters
    ----------
    keys
        Of hive folders; they count where the table has no such column.

    Raises
    ------
    SourceError
        A column is missing or occurs twice.
    """
    names = tuple(next(filter(None, cells), "") for cells in grid.header)
    levels = [_pair(cells) for cells in grid.header]
    if sum(pair is not None for pair in levels) >= len(_REQUIRED):
        dates = [place for place, cells in enumerate(grid.header) if any(field_of(cell) == "date" for cell in cells)]
        shown = tuple(" ".join(filter(None, cells)) for cells in grid.header)
        return _wide(grid.origin, shown, levels, dates[0] if dates else 0, "levels")
    picked = pick_columns(grid.origin, names)
    flat = [_split(name) for name in names]
    if not set(_REQUIRED) <= set(picked) and sum(pair is not None for pair in flat) >= len(_REQUIRED):
        return _wide(grid.origin, names, flat, picked.get("date", 0), "flat")
    return _long(grid, names, picked, keys)


def _is_dates(grid: Grid, place: int) -> bool:
    column = grid.load([place], [])[place]
    return pa.types.is_temporal(column.type) or (
        is_text(column) and bool(re.fullmatch(r"\d{4}-\d{2}-\d{2}.*", str(column[0].as_py())))
    )


def _long(grid: Grid, names: tuple[str, ...], picked: dict[str, int], keys: Mapping[str, str]) -> Layout:
    origin = grid.origin
    hive = {field_of(key): value for key, value in keys.items()}
    unnamed = [place for place, name in enumerate(names) if not name]
    if "date" not in picked and "date" not in hive and unnamed:
        # An index without a name; with tickers in a second one, pandas' usual order is (ticker, date).
        picked["date"] = unnamed[0]
        if len(unnamed) == 2 and "ticker" not in picked:
            first_is_date = _is_dates(grid, unnamed[0]) and not _is_dates(grid, unnamed[1])
            picked["ticker"], picked["date"] = reversed(unnamed) if first_is_date else unnamed
    missing = [name for name in _REQUIRED if name not in picked]
    if "date" not in picked and "date" not in hive:
        missing.insert(0, "date")
    if missing:
        raise SourceError(
            f"{origin}: no column {', '.join(missing)}; it has {', '.join(filter(None, names)) or 'no names'}"
        )
    spelt = [normalised(name) for name in names]
    form = form_of(spelt)
    marks = [place for place, name in enumerate(spelt) if name in ("per", "rtype")]
    return Layout(
        names=names,
        form=form,
        form_name=(form.name if form else "columns by name") + (", hive folders" if keys else ""),
        date=picked.get("date"),
        ticker=picked.get("ticker"),
        blocks=((None, {name: picked[name] for name in PRICE_FIELDS if name in picked}),),
        interval=tuple(marks) if form is not None else (),
        hive_ticker=hive.get("ticker"),
        hive_date=hive.get("date"),
    )


def _wide(origin: str, names: tuple[str, ...], pairs: Sequence[tuple[str, str] | None], date: int, kind: str) -> Layout:
    blocks: dict[str, dict[str, int]] = {}
    for place, pair in enumerate(pairs):
        if pair is None or place == date:
            continue
        ticker, name = pair
        if name in blocks.setdefault(ticker, {}):
            raise SourceError(f"{origin}: more than one column {name} of {ticker}")
        blocks[ticker][name] = place
    complete = {ticker: block for ticker, block in blocks.items() if set(_REQUIRED) <= set(block)}
    if not complete:
        absent = {name for block in blocks.values() for name in set(_REQUIRED) - set(block)}
        raise SourceError(
            f"{origin}: no ticker has all of {', '.join(_REQUIRED)}; missing: "
            f"{', '.join(name for name in _REQUIRED if name in absent)}"
        )
    return Layout(
        names=names,
        form=None,
        form_name=WIDE_FORMS[kind],
        date=date,
        ticker=None,
        blocks=tuple(complete.items()),
        incomplete=tuple(sorted(set(blocks) - set(complete))),
    )


def _pair(cells: Sequence[str]) -> tuple[str, str] | None:
    """Ticker and field of a column with levels; ``None`` if it has not exactly these."""
    filled = [cell for cell in cells if cell]
    fields = [cell for cell in filled if field_of(cell) in PRICE_FIELDS]
    others = [cell for cell in filled if field_of(cell) is None]
    if len(filled) != 2 or len(fields) != 1 or len(others) != 1:
        return None
    return others[0].upper(), str(field_of(fields[0]))


def _split(name: str) -> tuple[str, str] | None:
    """Ticker and field of ``AAPL_Close``, ``Close AAPL`` or ``AAPL.Adj.Close``: the longest field that fits."""
    best: tuple[int, str, str] | None = None
    for match in re.finditer(r"[ _.:|/-]+", name):
        before, after = name[: match.start()], name[match.end() :]
        for ticker, text in ((before, after), (after, before)):
            meaning = field_of(text)
            fits = meaning in PRICE_FIELDS and ticker and normalised(ticker) not in _QUALIFIERS
            if fits and (best is None or len(text) > best[0]):
                best = (len(text), ticker.upper(), str(meaning))
    return best and best[1:]


_QUALIFIERS = frozenset(
    {name for groups in ALIASES.values() for names in groups for name in names}
    | {
        "adj",
        "adjusted",
        "raw",
        "prev",
        "previous",
        "pre",
        "post",
        "split",
        "unadj",
        "unadjusted",
        "avg",
        "mean",
        "total",
    }
)
"""Words beside a field that are no tickers: ``Adj. Open``."""
