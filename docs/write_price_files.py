"""Writes ``docs/price-files.md`` from the reader: ``python docs/write_price_files.py > docs/price-files.md``."""

from __future__ import annotations

from collections.abc import Iterable

from financial_assets.market.sources.files.contents import COMPRESSIONS, TABLES, TEXTS
from financial_assets.market.sources.files.dates import EPOCHS
from financial_assets.market.sources.files.layouts import WIDE_FORMS
from financial_assets.market.sources.files.names import ALIASES, FORMS
from financial_assets.market.sources.files.numbers import MISSING
from financial_assets.market.sources.files.rules import ADJUSTMENTS

__all__ = ["price_files_page"]

_INTRODUCTION = """\
# Price files

Written by `python docs/write_price_files.py > docs/price-files.md` from `financial_assets/market/sources/files/`; a
test keeps it up to date, and `tests/market/test_file_forms.py` writes and reads every form.

`PRICE_FILES` is a file, a folder (with its sub-folders) or a glob. See what would be read before a run reads it:

```
.venv/bin/financial-assets prices check bars/
```

The command lists ticker, rows, first and last day, the form that was recognised and the source of the adjusted close,
then what cannot be read and what the checks of prices refuse. It stores nothing.

* Where something can be read in two ways, nothing is guessed: an error shows both readings, and the setting that
  decides.
* A cell that cannot be read keeps its ticker back, and a file that cannot be read every ticker that it may hold. Half a
  history would look like a whole one. The other tickers go on.
* A broken file of tickers that nobody asked for is named in a warning and skipped."""

_TICKERS = """\
## Tickers

From a column, from a hive folder (`ticker=AAPL/`), from column levels, or else from the file's name: `AAPL.csv`,
`aapl.us.txt`, `daily_adjusted_AAPL.csv`, `WIKI-AAPL.csv`, `AAPL Historical Data.csv`, `NASDAQ_AAPL, 1D.csv`,
`%5EGSPC.csv`. A common word (`bars.csv`) is not a ticker. A single file without any ticker is taken for the only
one of `TICKERS`, with a warning. Stooq's `AAPL.US` may be asked for as `AAPL`, and `BRK/B` as `BRK-B`."""

_DATES = """\
## Dates

A column is read in the only way in which all its cells are dates:

* year first, with any separator or none: `2018-01-02`, `2018/1/2`, `20180102`;
* with the name of the month: `02-Jan-2018`, `Jan 2, 2018`, `2 January 2018`, also with the weekday in front;
* day or month first: `31/01/2018`, `1/31/18`, `31.01.2018`. If no cell of the file decides, set `DATE_ORDER`;
* numbers since 1970 in {units}, recognised by their size.

A time behind the date is left out, and with an offset (`2018-01-02 00:00:00-05:00`) the day stands as written. Instants
in UTC (epochs, `Z`) belong to the day that they fall on at the exchange, unless all are midnight UTC. Several times of
one day are intraday bars, and a ticker whose bars are mostly a week or a month apart is not daily: errors."""

_NUMBERS = """\
## Numbers

Decimal points or commas, thousands by comma, point, space or apostrophe, currency signs, and volumes such as `6.90M`.
All columns of a file decide together. If none does (`1.234` between semicolons), set `DECIMAL_MARK`. Without a value
are: {missing}; the checks of prices refuse such bars."""


def price_files_page() -> str:
    """The page."""
    lines = [_INTRODUCTION, "", "## Containers", "", "| what | endings |", "| --- | --- |"]
    lines += [
        f"| text: UTF-8, UTF-16, UTF-32, Windows-1252; cells between `,` `;` tabs or bars | {_codes(TEXTS)} |",
        f"| Parquet (pandas, polars, Spark), Arrow: also with index, column levels, hive folders | {_codes(TABLES)} |",
        f"| any of them packed; a zip may hold many | {_codes(COMPRESSIONS)} |",
    ]
    lines += ["", "## Forms", "", "The first that fits names the form; any other file is read by its column names.", ""]
    lines += ["| form | recognised by | close without an adjusted close is usually |", "| --- | --- | --- |"]
    lines += [f"| {form.name} | {_codes(sorted(form.marks))} | {_advice(form.adjustment)} |" for form in FORMS]
    lines += [f"| {text} | the names of all columns | |" for text in WIDE_FORMS.values()]
    lines += [
        "",
        "## Columns",
        "",
        "Case, blanks, dots, underscores, `<>` and `*` do not matter. Of several, the first counts:",
    ]
    lines += ["`symbol` beside `name` is the ticker.", "", "| column | names |", "| --- | --- |"]
    lines += [
        f"| `{name}` | {_codes([alias for group in groups for alias in group])} |" for name, groups in ALIASES.items()
    ]
    lines += [
        "",
        "## The adjusted close",
        "",
        "Returns are taken from `adj_close`. Files without it need `ADJUSTMENT`:",
        "",
    ]
    lines += ["| `ADJUSTMENT` | meaning |", "| --- | --- |"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in ADJUSTMENTS.items()]
    lines += ["", "A file that has the column is read by it, whatever the setting says.", "", _TICKERS]
    lines += ["", _DATES.format(units=_codes(EPOCHS)), "", _NUMBERS.format(missing=_codes(filter(None, MISSING)))]
    lines += ["", "Damaged files: `python benchmarks/price_files.py` counts what becomes of ten thousand of them."]
    return "\n".join(lines) + "\n"


def _codes(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _advice(adjustment: str | None) -> str:
    return f"`{adjustment}`" if adjustment else ""


if __name__ == "__main__":
    print(price_files_page(), end="")
