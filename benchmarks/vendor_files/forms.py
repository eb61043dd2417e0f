"""Writers of every common form of price files, each from one true price frame."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

from financial_assets.market.sources.files import FileRules

__all__ = ["DATE_STYLES", "FORMS", "SampleForm", "true_prices"]

VALUES = ["open", "high", "low", "close", "adj_close", "volume"]
Write = Callable[[pd.DataFrame, Path], Path]


@dataclass(frozen=True)
class SampleForm:
    """A form of file.

    Attributes
    ----------
    name
        For messages.
    write
        Writes a true price frame into an empty folder; returns what ``PRICE_FILES`` names.
    adjustment
        ``ADJUSTMENT`` that the form needs; ``None``: it has an adjusted close.
    """

    name: str
    write: Write
    adjustment: str | None = field(default=None)

    @property
    def rules(self) -> FileRules:
        """Settings under which the form can be read."""
        return FileRules(adjustment=self.adjustment)

    def expected(self, prices: pd.DataFrame) -> pd.DataFrame:
        """The price frame that it then gives."""
        return prices if self.adjustment is None else prices.assign(adj_close=prices["close"])


def true_prices(rng: np.random.Generator, tickers: tuple[str, ...] = ("AAPL", "MSFT"), count: int = 45) -> pd.DataFrame:
    """Bars in cents, with volumes that survive being written as 6.90M."""
    days = pd.bdate_range("2018-01-02", periods=count).as_unit("ns")
    parts: list[pd.DataFrame] = []
    for ticker in tickers:
        close = np.round(rng.uniform(20, 1500) * np.exp(np.cumsum(0.02 * rng.standard_normal(count))), 2)
        opening = np.round(close * np.exp(0.01 * rng.standard_normal(count)), 2)
        bars = pd.DataFrame({"date": days, "ticker": ticker, "open": opening, "close": close})
        bars["high"] = np.round(np.maximum(opening, close) * 1.01 + 0.01, 2)
        bars["low"] = np.round(np.minimum(opening, close) * 0.99 - 0.01, 2)
        bars["volume"] = rng.integers(10, 9000, count) * 10_000.0
        bars["adj_close"] = np.round(0.9 * close, 2)
        parts.append(bars)
    columns = ["date", "ticker", "open", "high", "low", "close", "volume", "adj_close"]
    return pd.concat(parts, ignore_index=True)[columns]


def _text(prices: pd.DataFrame, **changes: object) -> str:
    return str(prices.to_csv(index=False, **changes))  # pyright: ignore[reportCallIssue, reportArgumentType]


def _put(folder: Path, content: str | bytes, name: str = "bars.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _csv(prices: pd.DataFrame, folder: Path, name: str = "bars.csv", **changes: object) -> Path:
    return _put(folder, _text(prices, **changes), name)


def _per_ticker(prices: pd.DataFrame, folder: Path, columns: dict[str, str], name: str, **changes: object) -> Path:
    """One file per ticker, with ``columns`` (price frame's name: the vendor's), named ``name`` with ``{}``."""
    for ticker, bars in prices.groupby("ticker"):
        absent = [column for column in columns if column not in bars]
        bars = bars.assign(**dict.fromkeys(absent, 0))[list(columns)].rename(columns=columns)
        _csv(bars, folder, name.format(ticker), **changes)
    return folder


def _names(*words: str) -> dict[str, str]:
    """``open`` as ``Open``."""
    return {word.lower().replace(" ", "_"): word for word in words}


_YAHOO = _names("Date", "Open", "High", "Low", "Close", "Adj Close", "Volume")


def _wide(prices: pd.DataFrame, fields: dict[str, str] = _YAHOO, *, ticker_first: bool = False) -> pd.DataFrame:
    values = {name: label for name, label in fields.items() if name != "date"}
    wide = prices.rename(columns=values).pivot(index="date", columns="ticker", values=list(values.values()))
    wide.index.name, wide.columns.names = "Date", ["Price", "Ticker"]
    return wide.swaplevel(axis=1).sort_index(axis=1) if ticker_first else wide


def _dated(style: Callable[[pd.Series], pd.Series]) -> Write:
    return lambda prices, folder: _csv(prices.assign(date=style(prices["date"])), folder)


def _midnight(prices: pd.Series, zone: str = "America/New_York") -> pd.Series:
    return prices.dt.tz_localize(zone).dt.tz_convert("UTC")


def _epoch(unit: Literal["s", "ms", "us", "ns"], zone: str = "America/New_York") -> Callable[[pd.Series], pd.Series]:
    return lambda dates: pd.Series(
        pd.DatetimeIndex(_midnight(dates, zone)).as_unit(unit).astype("int64"), index=dates.index
    )


def _strftime(style: str) -> Callable[[pd.Series], pd.Series]:
    return lambda dates: dates.dt.strftime(style)


DATE_STYLES: dict[str, Callable[[pd.Series], pd.Series]] = {
    "20180102": _strftime("%Y%m%d"),
    "2018/01/02": _strftime("%Y/%m/%d"),
    "2018.01.02": _strftime("%Y.%m.%d"),
    "02-Jan-2018": _strftime("%d-%b-%Y"),
    "02-Jan-18": _strftime("%d-%b-%y"),
    "2 January 2018": lambda dates: dates.dt.day.astype(str) + dates.dt.strftime(" %B %Y"),
    "Jan 02, 2018": _strftime("%b %d, %Y"),
    "Tue, Jan 2, 2018": lambda dates: (
        dates.dt.strftime("%a, %b ") + dates.dt.day.astype(str) + dates.dt.strftime(", %Y")
    ),
    "01/02/2018, month first": _strftime("%m/%d/%Y"),
    "1/2/2018": lambda dates: dates.dt.month.astype(str) + "/" + dates.dt.day.astype(str) + dates.dt.strftime("/%Y"),
    "01/02/18": _strftime("%m/%d/%y"),
    "02/01/2018, day first": _strftime("%d/%m/%Y"),
    "02.01.2018": _strftime("%d.%m.%Y"),
    "02-01-2018": _strftime("%d-%m-%Y"),
    "2018-01-02 16:00:00": _strftime("%Y-%m-%d 16:00:00"),
    "2018-01-02T00:00:00Z": _strftime("%Y-%m-%dT00:00:00Z"),
    "2018-01-02T00:00:00.000Z": _strftime("%Y-%m-%dT00:00:00.000Z"),
    "2018-01-02 00:00:00-05:00": _strftime("%Y-%m-%d 00:00:00-05:00"),
    "2018-01-02T05:00:00Z": lambda dates: _midnight(dates).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "2018-01-02T14:30:00+00:00": _strftime("%Y-%m-%dT14:30:00+00:00"),
    "01/02/2018 4:00:00 PM": _strftime("%m/%d/%Y 4:00:00 PM"),
    "epoch, s": _epoch("s"),
    "epoch, ms": _epoch("ms"),
    "epoch, us": _epoch("us"),
    "epoch, ns": _epoch("ns"),
    "epoch of midnight UTC, s": _epoch("s", "UTC"),
    "epoch of midnight UTC, ns": _epoch("ns", "UTC"),
}
"""Ways of writing a column of dates."""


def _packed(pack: Callable[[bytes], bytes], name: str) -> Write:
    return lambda prices, folder: _put(folder, pack(_text(prices).encode()), name)


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _zip_per_ticker(prices: pd.DataFrame, folder: Path) -> Path:
    members = {
        f"bars/{ticker}.csv": _text(bars.drop(columns="ticker")).encode() for ticker, bars in prices.groupby("ticker")
    }
    return _put(folder, _zip(members), "archive.zip")


def _formatted(prices: pd.DataFrame, style: Callable[[float], str], names: list[str] = VALUES) -> pd.DataFrame:
    return prices.assign(**{name: [style(value) for value in prices[name]] for name in names})


def _european(value: float) -> str:
    return f"{value:,.2f}".replace(",", "_").replace(".", ",").replace("_", ".")


def _comma_decimals(prices: pd.DataFrame, folder: Path) -> Path:
    return _csv(_formatted(prices, _european), folder, sep=";")


def _nasdaq(prices: pd.DataFrame, folder: Path) -> Path:
    bars = _formatted(prices[::-1], "${:.2f}".format, ["open", "high", "low", "close"])
    bars = bars.assign(date=bars["date"].dt.strftime("%m/%d/%Y"), volume=bars["volume"].astype(int))
    columns = {"date": "Date", "close": "Close/Last", "volume": "Volume", "open": "Open", "high": "High", "low": "Low"}
    return _per_ticker(bars, folder, columns, "{}.csv")


def _investing(prices: pd.DataFrame, folder: Path) -> Path:
    bars = _formatted(prices[::-1], "{:,.2f}".format, ["open", "high", "low", "close"])
    bars = bars.assign(
        date=bars["date"].dt.strftime("%m/%d/%Y"), volume=[f"{value / 1e6:.2f}M" for value in bars["volume"]]
    )
    columns = {
        "date": "Date",
        "close": "Price",
        "open": "Open",
        "high": "High",
        "low": "Low",
        "volume": "Vol.",
        "x": "Change %",
    }
    return _per_ticker(bars, folder, columns, "{} Historical Data.csv", quoting=csv.QUOTE_ALL, encoding="utf-8-sig")


def _stooq(prices: pd.DataFrame, folder: Path) -> Path:
    columns = {"ticker": "<TICKER>", "per": "<PER>", "date": "<DATE>", "time": "<TIME>"}
    columns |= {
        "open": "<OPEN>",
        "high": "<HIGH>",
        "low": "<LOW>",
        "close": "<CLOSE>",
        "volume": "<VOL>",
        "oi": "<OPENINT>",
    }
    for ticker, bars in prices.groupby("ticker"):
        bars = bars.assign(ticker=f"{ticker}.US", per="D", date=bars["date"].dt.strftime("%Y%m%d"), time="000000", oi=0)
        _csv(bars[list(columns)].rename(columns=columns), folder, f"daily/us/{str(ticker).lower()}.us.txt")
    return folder


def _yahoo_page(prices: pd.DataFrame, folder: Path) -> Path:
    bars = _formatted(prices[::-1], "{:,.2f}".format, ["open", "high", "low", "close", "adj_close"])
    bars = bars.assign(date=bars["date"].dt.strftime("%b %d, %Y"), volume=[f"{value:,.0f}" for value in bars["volume"]])
    columns = _YAHOO | {"close": "Close*", "adj_close": "Adj Close**"}
    for ticker, rows in bars.groupby("ticker", sort=False):
        lines = _text(rows[list(columns)].rename(columns=columns)).splitlines()
        lines.insert(5, '"Feb 09, 2018",0.63 Dividend,,,,,')
        _put(folder, "\n".join(lines), f"{ticker}.csv")
    return folder


def _databento(prices: pd.DataFrame, folder: Path, *, raw: bool) -> Path:
    names = ["open", "high", "low", "close"]
    bars = _formatted(prices, (lambda value: str(round(value * 1e9))) if raw else "{:.9f}".format, names)
    stamps = bars["date"].astype("int64") if raw else bars["date"].dt.strftime("%Y-%m-%dT00:00:00.000000000Z")
    bars = bars.assign(ts_event=stamps, rtype=35, publisher_id=2, instrument_id=38, symbol=bars["ticker"])
    bars["volume"] = bars["volume"].astype(int)
    return _csv(bars[["ts_event", "rtype", "publisher_id", "instrument_id", *names, "volume", "symbol"]], folder)


def _polygon(prices: pd.DataFrame, folder: Path) -> Path:
    bars = prices.assign(window_start=_epoch("ns")(prices["date"]), transactions=1)
    columns = ["ticker", "volume", "open", "close", "high", "low", "window_start", "transactions"]
    return _put(folder, gzip.compress(_text(bars[columns]).encode(), mtime=0), "us_stocks_sip/day_aggs_v1/2018.csv.gz")


def _polygon_json(prices: pd.DataFrame, folder: Path) -> Path:
    letters = {"ticker": "T", "volume": "v", "open": "o", "close": "c", "high": "h", "low": "l", "date": "t"}
    bars = prices.assign(date=_epoch("ms")(prices["date"]))[list(letters)].rename(columns=letters).assign(vw=1.5, n=3)
    return _csv(bars, folder)


def _spark(prices: pd.DataFrame, folder: Path, keys: tuple[str, ...] = ("ticker",)) -> Path:
    for values, bars in prices.assign(year=prices["date"].dt.year).groupby(list(keys)):
        place = folder.joinpath(*(f"{key}={str(value)[:10]}" for key, value in zip(keys, values, strict=True)))
        place.mkdir(parents=True)
        table = pa.Table.from_pandas(bars.drop(columns=list({*keys, "year"})), preserve_index=False)
        pyarrow.parquet.write_table(table, place / "part-00000-1f.c000.snappy.parquet")
        (place / ".part-00000-1f.c000.snappy.parquet.crc").write_bytes(b"crc")
    (folder / "_SUCCESS").write_bytes(b"")
    return folder


def _parquet(prices: pd.DataFrame, folder: Path, name: str = "bars.parquet", **changes: object) -> Path:
    prices.to_parquet(folder / name, **changes)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return folder / name


def _polars(prices: pd.DataFrame, folder: Path) -> Path:
    table = pa.Table.from_pandas(prices, preserve_index=False)
    kinds = pa.schema(
        [
            (name, {"date": pa.date32(), "ticker": pa.large_string()}.get(name, pa.float64()))
            for name in table.column_names
        ]
    )
    pyarrow.parquet.write_table(table.cast(kinds), folder / "bars.parquet")
    return folder / "bars.parquet"


def _decimals(prices: pd.DataFrame, folder: Path) -> Path:
    table = pa.Table.from_pandas(prices, preserve_index=False)
    kinds = {"date": pa.timestamp("us", "UTC"), "ticker": pa.string()}
    table = table.cast(pa.schema([(name, kinds.get(name, pa.decimal128(18, 4))) for name in table.column_names]))
    pyarrow.parquet.write_table(table, folder / "bars.parquet")
    return folder / "bars.parquet"


def _arrow_stream(prices: pd.DataFrame, folder: Path) -> Path:
    table = pa.Table.from_pandas(prices, preserve_index=False)
    with pyarrow.ipc.new_stream(folder / "bars.arrow", table.schema) as stream:
        stream.write_table(table)
    return folder / "bars.arrow"


def _feather(prices: pd.DataFrame, folder: Path) -> Path:
    pyarrow.feather.write_feather(prices, str(folder / "bars.feather"))
    return folder / "bars.feather"


def _one_file_each(prices: pd.DataFrame, folder: Path, name: str) -> Path:
    return _per_ticker(prices, folder, _YAHOO, name)


_ALPHA_VANTAGE = {
    "date": "timestamp",
    **{name: name for name in ("open", "high", "low", "close")},
    "adj_close": "adjusted_close",
    "volume": "volume",
    "dividend": "dividend_amount",
    "split": "split_coefficient",
}
_NUMBERED = {"date": "date"} | {
    name: f"{number}. {name.replace('adj_close', 'adjusted close')}"
    for number, name in enumerate(("open", "high", "low", "close", "adj_close", "volume"), 1)
}
_QUANDL = {
    **_names("Date", "Open", "High", "Low", "Close", "Volume", "Ex-Dividend", "Split Ratio"),
    **{f"adj_{name}": f"Adj. {name.capitalize()}" for name in ("open", "high", "low", "close", "volume")},
}
_TIINGO = {
    **{name: name for name in ("date", "close", "high", "low", "open", "volume")},
    **{f"adj_{name}": f"adj{name.capitalize()}" for name in ("close", "high", "low", "open", "volume")},
    "dividend": "divCash",
    "split": "splitFactor",
}
_HISTORY = _names("Date", "Open", "High", "Low", "Close", "Volume") | {"d": "Dividends", "s": "Stock Splits"}


def _flat(name: str) -> Write:
    def write(prices: pd.DataFrame, folder: Path) -> Path:
        wide = _wide(prices)
        wide.columns = [name.format(field=field, ticker=ticker) for field, ticker in wide.columns]
        return _put(folder, wide.to_csv())

    return write


def _two_lines(prices: pd.DataFrame, folder: Path) -> Path:
    wide = _wide(prices)
    wide.index.name, wide.columns.names = None, [None, None]
    return _put(folder, wide.to_csv())


FORMS = (
    SampleForm("columns of a price frame", _csv),
    *(SampleForm(f"dates as {name}", _dated(style)) for name, style in DATE_STYLES.items()),
    SampleForm("gz", _packed(lambda data: gzip.compress(data, mtime=0), "bars.csv.gz")),
    SampleForm("bz2", _packed(bz2.compress, "bars.csv.bz2")),
    SampleForm("xz", _packed(lzma.compress, "bars.csv.xz")),
    SampleForm("zst", _packed(_zstd, "bars.csv.zst")),
    SampleForm("zip", _packed(lambda data: _zip({"bars.csv": data}), "bars.zip")),
    SampleForm("zip by pandas", _packed(lambda data: _zip({"archive": data}), "archive.zip")),
    SampleForm("zip of a file per ticker", _zip_per_ticker),
    SampleForm("UTF-16", lambda prices, folder: _put(folder, _text(prices).encode("utf-16"))),
    SampleForm("UTF-16 without a mark", lambda prices, folder: _put(folder, _text(prices).encode("utf-16-le"))),
    SampleForm("byte order mark", lambda prices, folder: _put(folder, _text(prices).encode("utf-8-sig"))),
    SampleForm("CRLF", lambda prices, folder: _csv(prices, folder, lineterminator="\r\n")),
    SampleForm("CR", lambda prices, folder: _csv(prices, folder, lineterminator="\r")),
    SampleForm("tabs", lambda prices, folder: _csv(prices, folder, "bars.tsv", sep="\t")),
    SampleForm("bars between cells", lambda prices, folder: _csv(prices, folder, "bars.txt", sep="|")),
    SampleForm("semicolons", lambda prices, folder: _csv(prices, folder, sep=";")),
    SampleForm("semicolons, decimal commas", lambda prices, folder: _csv(prices, folder, sep=";", decimal=",")),
    SampleForm("semicolons, decimal commas, thousands", _comma_decimals),
    SampleForm("quoted thousands", lambda prices, folder: _csv(_formatted(prices, "{:,.2f}".format), folder)),
    SampleForm(
        "thousands by spaces",
        lambda prices, folder: _csv(_formatted(prices, lambda value: f"{value:,.2f}".replace(",", "\u00a0")), folder),
    ),
    SampleForm("Excel's sep line", lambda prices, folder: _put(folder, "sep=;\n" + _text(prices, sep=";"))),
    SampleForm(
        "lines above and below",
        lambda prices, folder: _put(
            folder, "Prices of 2018\n\n" + _text(prices) + '"Downloaded from a vendor as of 2018-03-01"\n'
        ),
    ),
    SampleForm("one file per ticker", lambda prices, folder: _one_file_each(prices, folder, "{}.csv")),
    SampleForm(
        "one file per ticker in sub-folders", lambda prices, folder: _one_file_each(prices, folder, "us/{}.csv")
    ),
    SampleForm(
        "Stooq's data set",
        lambda prices, folder: _per_ticker(
            prices, folder, _names("Date", "Open", "High", "Low", "Close", "Volume") | {"o": "OpenInt"}, "{}.us.txt"
        ),
        "adjusted",
    ),
    SampleForm(
        "Stooq's page",
        lambda prices, folder: _per_ticker(
            prices, folder, _names("Date", "Open", "High", "Low", "Close", "Volume"), "{}_us_d.csv"
        ),
        "adjusted",
    ),
    SampleForm("Stooq", _stooq, "adjusted"),
    SampleForm(
        "Alpha Vantage",
        lambda prices, folder: _per_ticker(prices[::-1], folder, _ALPHA_VANTAGE, "daily_adjusted_{}.csv"),
    ),
    SampleForm(
        "Alpha Vantage, numbered names", lambda prices, folder: _per_ticker(prices, folder, _NUMBERED, "{}.csv")
    ),
    SampleForm("Nasdaq.com", _nasdaq, "splits"),
    SampleForm("Investing.com", _investing, "splits"),
    SampleForm("Polygon flat file", _polygon, "none"),
    SampleForm("Polygon JSON", _polygon_json, "splits"),
    SampleForm("Quandl", lambda prices, folder: _per_ticker(prices, folder, _QUANDL, "WIKI-{}.csv")),
    SampleForm(
        "Sharadar",
        lambda prices, folder: _csv(
            prices.rename(columns={"adj_close": "closeadj"}).assign(closeunadj=1.0, lastupdated="2020-01-01"),
            folder,
            "SHARADAR_SEP.csv",
        ),
    ),
    SampleForm(
        "Tiingo",
        lambda prices, folder: _per_ticker(
            prices.assign(date=prices["date"].dt.strftime("%Y-%m-%dT00:00:00.000Z")), folder, _TIINGO, "{}.csv"
        ),
    ),
    SampleForm("Yahoo's page", _yahoo_page),
    SampleForm(
        "yfinance, Ticker.history",
        lambda prices, folder: _per_ticker(
            prices.assign(date=prices["date"].dt.strftime("%Y-%m-%d 00:00:00-05:00")), folder, _HISTORY, "{}.csv"
        ),
        "adjusted",
    ),
    SampleForm("yfinance, three header lines", lambda prices, folder: _put(folder, _wide(prices).to_csv())),
    SampleForm(
        "yfinance, group_by ticker", lambda prices, folder: _put(folder, _wide(prices, ticker_first=True).to_csv())
    ),
    SampleForm("yfinance, two header lines", _two_lines),
    SampleForm(
        "yfinance, reset_index", lambda prices, folder: _put(folder, _wide(prices).reset_index().to_csv(index=False))
    ),
    SampleForm(
        "yfinance, reset_index and index", lambda prices, folder: _put(folder, _wide(prices).reset_index().to_csv())
    ),
    SampleForm("yfinance, stack", lambda prices, folder: _put(folder, _wide(prices).stack(future_stack=True).to_csv())),
    SampleForm("Databento, raw", lambda prices, folder: _databento(prices, folder, raw=True), "none"),
    SampleForm("Databento, pretty", lambda prices, folder: _databento(prices, folder, raw=False), "none"),
    SampleForm("wide, AAPL_Close", _flat("{ticker}_{field}")),
    SampleForm("wide, Close AAPL", _flat("{field} {ticker}")),
    SampleForm("wide, ('Close', 'AAPL')", _flat("('{field}', '{ticker}')")),
    SampleForm(
        "Symbol beside Name",
        lambda prices, folder: _csv(prices.rename(columns={"ticker": "Symbol"}).assign(Name="Apple, Inc."), folder),
    ),
    SampleForm("column Name alone", lambda prices, folder: _csv(prices.rename(columns={"ticker": "Name"}), folder)),
    SampleForm(
        "index without a name", lambda prices, folder: _put(folder, prices.set_index("date").rename_axis(None).to_csv())
    ),
    SampleForm("row numbers", lambda prices, folder: _put(folder, prices.to_csv())),
    SampleForm("Parquet", _parquet),
    SampleForm("Parquet, index of dates", lambda prices, folder: _parquet(prices.set_index("date"), folder)),
    SampleForm(
        "Parquet, index without a name",
        lambda prices, folder: _parquet(prices.set_index("date").rename_axis(None), folder, "bars.pq"),
    ),
    SampleForm(
        "Parquet, index of tickers and dates",
        lambda prices, folder: _parquet(prices.set_index(["ticker", "date"]), folder),
    ),
    SampleForm("Parquet, columns with levels", lambda prices, folder: _parquet(_wide(prices), folder)),
    SampleForm(
        "Parquet, zone of New York",
        lambda prices, folder: _parquet(prices.assign(date=prices["date"].dt.tz_localize("America/New_York")), folder),
    ),
    SampleForm("Parquet, categories", lambda prices, folder: _parquet(prices.astype({"ticker": "category"}), folder)),
    SampleForm(
        "Parquet, dates as integers",
        lambda prices, folder: _parquet(prices.assign(date=prices["date"].dt.strftime("%Y%m%d").astype(int)), folder),
    ),
    SampleForm("Parquet by polars", _polars),
    SampleForm("Parquet, decimals", _decimals),
    SampleForm("Spark, by ticker", _spark),
    SampleForm("Spark, by ticker and year", lambda prices, folder: _spark(prices, folder, ("ticker", "year"))),
    SampleForm("Spark, by date", lambda prices, folder: _spark(prices, folder, ("date",))),
    SampleForm("Feather", _feather),
    SampleForm("Arrow stream", _arrow_stream),
)
"""Every form, the writer of which is a line of its own."""
