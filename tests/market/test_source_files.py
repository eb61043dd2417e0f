from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from financial_assets.errors import SourceError
from financial_assets.market.schemas import check_prices
from financial_assets.market.sources.files import FilePrices

MakePrices = Callable[..., pd.DataFrame]
HEADER = "date,ticker,open,high,low,close,volume,adj_close\n"
ROW = "2020-01-02,AAA,10,11,9,10.5,1000,10.25\n"


def fetch(place: Path | str, *tickers: str) -> pd.DataFrame:
    return FilePrices(str(place)).fetch(tickers or ("AAA", "BBB")).prices


def write(folder: Path, text: str, name: str = "bars.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["bars.csv", "bars.csv.gz", "BARS.CSV", "bars.parquet", "bars.pq"])
def test_every_format_gives_the_same_bars(tmp_path: Path, make_prices: MakePrices, name: str) -> None:
    prices = make_prices()
    path = tmp_path / name
    if name.endswith(("parquet", "pq")):
        prices.to_parquet(path)
    else:
        prices.to_csv(path, index=False)
    assert_frame_equal(fetch(path), prices)
    assert all(result.passed for result in check_prices(fetch(path)))


def test_a_folder_and_a_glob_take_all_their_files(tmp_path: Path, make_prices: MakePrices) -> None:
    prices = make_prices()
    prices[prices["ticker"] == "AAA"].to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "deep").mkdir()
    prices[prices["ticker"] == "BBB"].to_parquet(tmp_path / "deep" / "b.parquet")
    (tmp_path / "README.md").write_text("not prices")
    (tmp_path / ".a.csv.tmp.csv").write_text("half a file")
    assert set(fetch(tmp_path)["ticker"]) == {"AAA"}
    assert_frame_equal(fetch(f"{tmp_path}/**/*.[cp]*"), prices)


@pytest.mark.parametrize(
    "header",
    [
        "Date,Ticker,Open,High,Low,Close,Volume,Adj Close\n",
        "DATE,SYMBOL,OPEN,HIGH,LOW,CLOSE,VOLUME,ADJ_CLOSE\n",
        " session , Name,open, high,low,close,volume,adjclose\n",
        "\ufefftimestamp,ticker,open,high,low,close,volume,Adjusted Close\n",
    ],
)
def test_headers_may_be_written_in_many_ways(tmp_path: Path, header: str) -> None:
    assert fetch(write(tmp_path, header + ROW))["adj_close"].tolist() == [10.25]


def test_further_columns_and_another_order_do_not_matter(tmp_path: Path) -> None:
    text = "name,adj_close,ticker,volume,close,low,high,open,date,timestamp\nAcme,3,aaa,4,2,1,5,2,2020-01-02,noon\n"
    assert fetch(write(tmp_path, text)).iloc[0].tolist()[1:] == ["AAA", 2, 5, 1, 2, 4, 3]


@pytest.mark.parametrize("day", ["2020-01-02", "2020-01-02 00:00:00-05:00", "2020-01-02T00:00:00Z", " 2020-01-02 "])
def test_the_day_stands_as_written(tmp_path: Path, day: str) -> None:
    assert fetch(write(tmp_path, HEADER + ROW.replace("2020-01-02", day)))["date"].item() == pd.Timestamp("2020-01-02")


def test_a_parquet_index_of_zoned_dates_is_read(tmp_path: Path, make_prices: MakePrices) -> None:
    prices = make_prices()
    zoned = prices.assign(date=prices["date"].dt.tz_localize("America/New_York")).set_index(["ticker", "date"])
    zoned.to_parquet(tmp_path / "bars.parquet")
    assert_frame_equal(fetch(tmp_path / "bars.parquet"), prices)
    dated = prices.assign(date=prices["date"].dt.date)
    dated.to_parquet(tmp_path / "bars.parquet")
    assert_frame_equal(fetch(tmp_path / "bars.parquet"), prices)


BROKEN = [
    (HEADER + ROW + "\n" + ROW.replace("10.5", "ten"), r"bars\.csv, column close, line 4: 'ten' is not a number"),
    (HEADER + ROW + ROW.replace("1000", '"1,000"'), r"column volume, line 3: '1,000' is not a number"),
    (
        HEADER + ROW + ROW.replace("2020-01-02", "02/01/2020"),
        r"column date, line 3: '02/01/2020' is not a date; write YYYY",
    ),
    (HEADER + ROW.replace("2020-01-02", "20200102"), r"column date, line 2: .*20200102.* is not a date"),
    (HEADER + ROW.replace("2020-01-02", "2020-01-02x"), "column date, line 2: '2020-01-02x' is not a date"),
    (HEADER + ROW.replace("2020-01-02", "2020-02-30"), "line 2: '2020-02-30' is not a date"),
    (HEADER + ROW.replace("2020-01-02", ""), "column date, line 2: '' is not a date"),
    (HEADER + ROW + ROW.strip() + ",7\n", r"bars\.csv: cannot be read: .*line 3"),
    (HEADER + ROW.strip() + ",7\n", r"bars\.csv: cannot be read"),
    (HEADER.replace(",adj_close", "") + ROW, r"bars\.csv: cannot be read"),
    ("date,ticker,open,high,low,close,volume\n2020-01-02,AAA,1,1,1,1,1\n", r"no column adj_close; it has date, ticker"),
    (HEADER.replace("open", "Close") + ROW, "more than one column close"),
    (HEADER.strip() + ",adj close\n" + ROW.strip() + ",1\n", "more than one column adj_close"),
    (HEADER, "has no rows"),
    ("", "is empty"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_broken_file_is_named_with_column_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        fetch(write(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bars.csv.gz", b"not gzip"),
        ("bars.csv.gz", gzip.compress(b"date,ticker\n" * 5000, mtime=0)[:-20]),
        ("bars.parquet", b"not parquet"),
        ("bars.csv", b"\xff\xfe\x00"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=rf"{name}: cannot be read"):
        fetch(tmp_path / name)


@pytest.mark.parametrize("place", ["nowhere.csv", "*.csv", "."])
def test_no_file_names_the_setting(tmp_path: Path, place: str) -> None:
    with pytest.raises(SourceError, match=r"PRICE_FILES=.*no file there"):
        fetch(tmp_path / place)


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"bars\.xlsx: not a \.csv"):
        fetch(write(tmp_path, "x", "bars.xlsx"))


def test_missing_cells_go_on_to_the_checks_which_block_them(tmp_path: Path) -> None:
    text = HEADER + ROW.replace("10.5", "") + ROW.replace("AAA", "").replace("01-02", "01-03")
    prices = FilePrices(str(write(tmp_path, text))).fetch(["AAA"]).prices
    failures = {result.name for result in check_prices(prices) if not result.passed and result.blocking}
    assert failures == {"impossible_values", "schema"}


def test_the_same_day_in_two_files_is_left_to_the_checks(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROW, "a.csv")
    write(tmp_path, HEADER + ROW.replace("10.5", "10.6"), "b.csv")
    failures = {result.name for result in check_prices(fetch(tmp_path)) if not result.passed}
    assert failures == {"duplicates"}


def test_a_ticker_called_na_is_a_ticker(tmp_path: Path) -> None:
    assert fetch(write(tmp_path, HEADER + ROW.replace("AAA", "NA")), "NA")["ticker"].tolist() == ["NA"]


def test_files_are_history() -> None:
    assert not FilePrices("bars.csv").live
    assert FilePrices.name == "files"


def test_missing_tickers_are_reported(tmp_path: Path) -> None:
    found = FilePrices(str(write(tmp_path, HEADER + ROW))).fetch(["AAA", "ZZZ"])
    assert list(found.failures) == ["ZZZ"]
    assert "bars.csv does not have it" in found.failures["ZZZ"]
    with pytest.raises(SourceError, match="it holds AAA"):
        fetch(tmp_path / "bars.csv", "ZZZ")
