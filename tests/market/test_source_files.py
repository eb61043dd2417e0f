from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from financial_assets.errors import SourceError
from financial_assets.market.schemas import check_prices
from financial_assets.market.sources.files import FilePrices, FileRules
from financial_assets.market.sources.files.places import ticker_of

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
    assert_frame_equal(fetch(tmp_path), prices)
    assert set(fetch(f"{tmp_path}/*.csv")["ticker"]) == {"AAA"}
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
    (HEADER + ROW + ROW.replace("1000", '"10,00"'), "mix a decimal point .* with a decimal comma"),
    (HEADER + ROW + ROW.replace("1000", '"1,000,00"'), "column volume, line 3: '1,000,00' is not a number"),
    (HEADER + ROW + ROW.replace("10.5", "1e"), "column close, line 3: '1e' is not a number"),
    (
        HEADER + ROW + ROW.replace("2020-01-02", "02/01/2020"),
        r"date is ambiguous: '02/01/2020' is 2020-01-02 \(dmy\) or 2020-02-01 \(mdy\).*set DATE_ORDER=dmy or mdy",
    ),
    (
        HEADER + ROW.replace("2020-01-02", "13/01/2020") + ROW.replace("2020-01-02", "01/14/2020"),
        "mixes orders of day and month: '01/14/2020' is not dmy, '13/01/2020' is not mdy",
    ),
    (HEADER + ROW.replace("2020-01-02", "43832"), "column date, line 2: '43832' is not a date"),
    (HEADER + ROW.replace("2020-01-02", "20200132"), "column date, line 2: '20200132' is not a date"),
    (HEADER + ROW.replace("2020-01-02", "2020-01-02x"), "column date, line 2: '2020-01-02x' is not a date"),
    (HEADER + ROW.replace("2020-01-02", "2020-02-30"), "line 2: '2020-02-30' is not a date"),
    (HEADER + ROW.replace("2020-01-02", ""), "column date, line 2: '' is not a date"),
    (HEADER + ROW + ROW.strip() + ",7\n", r"bars\.csv: cannot be read: .*line 3"),
    (HEADER + ROW.strip() + ",7\n", r"bars\.csv: cannot be read"),
    (HEADER.replace(",adj_close", "") + ROW, "cannot be read: line 2 has 8 cells, the line of column names has 7"),
    (
        "date,ticker,open,high,low,close,volume\n2020-01-02,AAA,1,1,1,1,1\n",
        r"no column adj_close; it has date, ticker, .*\nSet ADJUSTMENT to what its close is: .*\nOr export",
    ),
    ("date,ticker,close,adj_close\n2020-01-02,AAA,1,1\n", "no column open, high, low, volume; it has date, ticker"),
    (
        "2020-01-02,AAA,10,11,9,10.5,1000,10.25\n",
        "no line with column names such as date, .*begins with '2020-01-02,AAA",
    ),
    (
        HEADER.replace("ticker,", "") + ROW.replace("AAA,", ""),
        "no column ticker, and its name is not a ticker; name the",
    ),
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


ROWS = "".join(ROW.replace("2020-01-02", f"2020-01-{day:02d}") for day in (2, 3, 6))


def test_what_is_asked_for_by_an_error_can_be_said(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + ROW.replace("2020-01-02", "03/02/2020"))
    days = [
        FilePrices(str(path), FileRules(date_order=order)).fetch(["AAA"]).prices["date"][0] for order in ("dmy", "mdy")
    ]
    assert days == [pd.Timestamp("2020-02-03"), pd.Timestamp("2020-03-02")]
    path = write(tmp_path, (HEADER + ROW).replace(",", ";").replace("10.5;", "1.050;").replace("10.25", "10"))
    with pytest.raises(
        SourceError, match=r"'1\.050' is 1050 or 1\.050, and no cell decides; set DECIMAL_MARK=point or"
    ):
        fetch(path)
    closes = [FilePrices(str(path), FileRules(decimal_mark=mark)).fetch(["AAA"]).prices["close"][0] for mark in ".,"]
    assert closes == [1.05, 1050.0]


@pytest.mark.parametrize("adjustment", ["adjusted", "splits", "none", None])
def test_the_meaning_of_close_is_asked_for_and_never_guessed(tmp_path: Path, adjustment: str | None) -> None:
    path = write(tmp_path, "date,ticker,open,high,low,close,volume\n2020-01-02,AAA,1,3,1,2,1\n")
    source = FilePrices(str(path), FileRules(adjustment=adjustment))
    if adjustment is None:
        with pytest.raises(SourceError, match="Set ADJUSTMENT"):
            source.fetch(["AAA"])
        return
    fetched = source.fetch(["AAA"])
    assert fetched.prices["adj_close"].tolist() == [2.0]
    assert bool(fetched.notes) is (adjustment == "none")


def test_an_adjusted_close_in_a_file_counts_more_than_the_setting(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + ROW)
    assert FilePrices(str(path), FileRules(adjustment="none")).fetch(["AAA"]).prices["adj_close"].tolist() == [10.25]
    path = write(tmp_path, "date,ticker,open,high,low,close,volume\n2020-01-02,AAA,1,3,1,2,1\n")
    with pytest.raises(SourceError, match="ADJUSTMENT=adj_close, but no column adj_close"):
        FilePrices(str(path), FileRules(adjustment="adj_close")).fetch(["AAA"])


def test_a_broken_file_that_nobody_asked_for_is_named_and_skipped(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROWS, "AAA.csv")
    write(tmp_path, "", "ACCP.csv")
    write(tmp_path, HEADER + "x,BAD,1\n", "more.csv")
    (tmp_path / "CCC.csv.gz").write_bytes(b"\x1f\x8b damaged")
    write(tmp_path, "Prices of AAA, downloaded by hand", "README.txt")
    fetched = FilePrices(str(tmp_path)).fetch(["AAA"])
    assert len(fetched.prices) == 3
    assert fetched.failures == {}
    named = " ".join(fetched.notes)
    assert "ACCP.csv: is empty" in named
    assert "CCC.csv.gz: cannot be read: damaged .gz file" in named
    assert "skipped 1 more" in named


def test_a_ticker_with_a_broken_file_is_kept_back_alone(tmp_path: Path) -> None:
    """Half a history would look like a whole one."""
    write(tmp_path, HEADER + ROWS + ROWS.replace("AAA", "BBB"), "2020.csv")
    write(tmp_path, HEADER + ROW.replace("AAA", "BBB").replace("10.5", "ten").replace("2020", "2021"), "2021.csv")
    fetched = FilePrices(str(tmp_path)).fetch(["AAA", "BBB"])
    assert set(fetched.prices["ticker"]) == {"AAA"}
    assert list(fetched.failures) == ["BBB"]
    assert "2021.csv, column close, line 2: 'ten' is not a number" in fetched.failures["BBB"]
    write(tmp_path, HEADER + ROW.replace("AAA", "BBB").strip() + ",7", "2021.csv")
    assert "line 2 has 9 cells" in FilePrices(str(tmp_path)).fetch(["AAA", "BBB"]).failures["BBB"]


def test_a_file_without_any_ticker_is_that_of_the_only_one_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER.replace("ticker,", "") + ROW.replace("AAA,", ""), "HistoricalData_1.csv")
    fetched = FilePrices(str(path)).fetch(["AAA"])
    assert fetched.prices["ticker"].tolist() == ["AAA"]
    assert "names no ticker; taken for AAA" in fetched.notes[0]
    with pytest.raises(SourceError, match="name the file after its ticker"):
        FilePrices(str(path)).fetch(["AAA", "BBB"])


def test_a_broken_file_of_stooq_keeps_its_ticker_back(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROWS, "2020.csv")
    write(tmp_path, "<TICKER>,<PER>,<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>\nAAA.US,D,20190102,1\n", "aaa.us.txt")
    with pytest.raises(SourceError, match=r"aaa\.us\.txt: cannot be read: line 2 has 4 cells"):
        fetch(tmp_path, "AAA")


def test_what_the_files_hold_is_named_although_it_was_not_read(tmp_path: Path) -> None:
    for name in ("CCC", "DDD"):
        write(tmp_path, HEADER.replace("ticker,", "") + ROW.replace("AAA,", ""), f"{name}.csv")
    with pytest.raises(SourceError, match="it holds CCC, DDD"):
        fetch(tmp_path, "AAA")


def test_a_bar_in_two_files_alike_stands_once(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROWS, "a.csv")
    write(tmp_path, HEADER + ROWS, "b.csv")
    assert len(fetch(tmp_path)) == 3


def test_days_without_a_trade_are_bars_and_no_names(tmp_path: Path) -> None:
    """A second line of words is also how pandas writes the tickers of a frame with levels."""
    text = HEADER.replace("ticker,", "") + "2020-01-02,null,null,null,null,null,null\n" + ROW.replace("AAA,", "")
    prices = fetch(write(tmp_path, text.replace("\n2020-01-02,10", "\n2020-01-03,10"), "AAA.csv"), "AAA")
    assert prices["close"].isna().tolist() == [True, False]
    assert prices["ticker"].tolist() == ["AAA", "AAA"]


def test_a_slash_in_a_ticker_is_a_hyphen(tmp_path: Path) -> None:
    assert fetch(write(tmp_path, HEADER + ROW.replace("AAA", "BRK/B")), "BRK-B")["ticker"].tolist() == ["BRK-B"]


def test_intraday_bars_are_refused(tmp_path: Path) -> None:
    text = HEADER + "".join(ROW.replace("01-02", f"01-02 {hour}:00") for hour in (10, 11))
    with pytest.raises(SourceError, match="several times of one day; daily bars"):
        fetch(write(tmp_path, text))
    text = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>\nAAA,5,20200102,093000,1,1,1,1,1\n"
    with pytest.raises(SourceError, match="<PER> is 5; daily bars"):
        fetch(write(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "ticker"),
    [
        ("AAPL.csv", "AAPL"),
        ("brk-b.us.txt", "BRK-B.US"),
        ("aapl_us_d.csv", "AAPL"),
        ("daily_adjusted_IBM.csv", "IBM"),
        ("WIKI-AAPL.csv.gz", "AAPL"),
        ("%5EGSPC.csv", "^GSPC"),
        ("AAPL Historical Data (1).csv", "AAPL"),
        ("MSFT_2018-01-02.parquet", "MSFT"),
        ("7203.T.csv", "7203.T"),
        ("AAPL_1d.snappy.parquet", "AAPL"),
        ("BRK_B.csv", "BRK-B"),
        ("d.csv", "D"),
        ("NASDAQ_AAPL, 1D.csv", "AAPL"),
        ("BATS_DLY_BRK.B, 1D_0a1b2 (1).csv", "BRK.B"),
        ("HistoricalData_1700000000.csv", None),
        ("bars.csv", None),
        ("2018.csv", None),
        ("part-00000-1f.c000.snappy.parquet", None),
        ("my prices of last year.csv", None),
    ],
)
def test_the_ticker_in_a_name(name: str, ticker: str | None) -> None:
    assert ticker_of(PurePosixPath(name)) == ticker


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


def rows_of(prices: pd.DataFrame, form: str = "%Y-%m-%d") -> list[str]:
    dated = prices.assign(date=prices["date"].dt.strftime(form)).drop(columns="ticker")
    return dated.to_csv(index=False).splitlines()


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda rows: [rows[0], *(row + "," for row in rows[1:])],
        lambda rows: [rows[0] + ",", *rows[1:]],
        lambda rows: [rows[0], "   ", rows[1], "# a remark", *rows[2:]],
        lambda rows: [*rows, "", "Source: Somebody", '"Downloaded from a vendor, as of 01-02-2018"'],
        lambda rows: [*rows, "Total rows: 30,,,,,,"],
    ],
    ids=["separators behind rows", "behind the names", "blanks and remarks", "two lines below", "a padded one"],
)
def test_what_is_no_bar_is_no_reason_to_refuse_a_file(
    tmp_path: Path, make_prices: MakePrices, spoilt: Callable[[list[str]], list[str]]
) -> None:
    prices = make_prices(("AAA",), count=30)
    assert_frame_equal(fetch(write(tmp_path, "\n".join(spoilt(rows_of(prices))), "AAA.csv"), "AAA"), prices)


def test_a_torn_last_row_is_no_prose(tmp_path: Path, make_prices: MakePrices) -> None:
    rows = rows_of(make_prices(("AAA",), count=30), "%A %d %B %Y")
    text = "\n".join([*rows[:-1], rows[-1].split(",", maxsplit=1)[0].rsplit(" ", maxsplit=2)[0]])
    with pytest.raises(SourceError, match="line 31 has 1 cells"):
        fetch(write(tmp_path, text, "AAA.csv"), "AAA")


@pytest.mark.parametrize("form", ["%Y-%m-%d 00:00:00+00", "%Y-%m-%d 05:00:00+00", "%Y-%m-%d 00:00:00-05", "%d.%m.%y"])
def test_more_ways_to_write_a_day(tmp_path: Path, make_prices: MakePrices, form: str) -> None:
    prices = make_prices(("AAA",), count=30)
    assert_frame_equal(fetch(write(tmp_path, "\n".join(rows_of(prices, form)), "AAA.csv"), "AAA"), prices)


def test_lakhs_and_crores(tmp_path: Path) -> None:
    assert fetch(write(tmp_path, HEADER + ROW.replace("1000", '"1,23,45,678"')), "AAA")["volume"][0] == 12_345_678
    with pytest.raises(SourceError, match="is not a number"):
        fetch(write(tmp_path, HEADER + ROW.replace("1000", '"1,23,45"')), "AAA")


def test_weekly_bars_keep_their_ticker_back_alone(tmp_path: Path, make_prices: MakePrices) -> None:
    prices = make_prices(count=80)
    weekly = prices[(prices["ticker"] == "BBB") | (prices.groupby("ticker").cumcount() % 5 == 0)]
    weekly.to_csv(tmp_path / "bars.csv", index=False)
    result = FilePrices(str(tmp_path)).fetch(("AAA", "BBB"))
    assert set(result.prices["ticker"]) == {"BBB"}
    assert "bars of AAA are 7 days apart, as weekly or monthly ones; daily bars are needed" in result.failures["AAA"]


@pytest.mark.parametrize("order", [["date", "ticker"], ["ticker", "date"]])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_two_indexes_without_names(tmp_path: Path, make_prices: MakePrices, order: list[str], ending: str) -> None:
    prices = make_prices()
    frame = prices.set_index(order).rename_axis([None, None])
    path = tmp_path / f"bars.{ending}"
    if ending == "csv":
        frame.to_csv(path)
    else:
        frame.to_parquet(path)
    assert_frame_equal(fetch(path), prices)


def test_a_company_is_no_ticker(tmp_path: Path, make_prices: MakePrices) -> None:
    prices = make_prices(("AAA",), count=30)
    named = prices.drop(columns="ticker").assign(Name="Société Anonyme")
    named.to_csv(tmp_path / "AAA.csv", index=False, encoding="latin-1")
    assert_frame_equal(fetch(tmp_path / "AAA.csv", "AAA"), prices)
    prices.rename(columns={"ticker": "Name"}).to_csv(tmp_path / "other.csv", index=False)
    assert_frame_equal(fetch(tmp_path / "other.csv", "AAA"), prices)


def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, make_prices: MakePrices, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = make_prices(("AAA",), count=30)
    prices.to_csv(tmp_path / "AAA.csv", index=False)
    for name in ("closed", "lost+found"):
        (tmp_path / name).mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name in ("closed", "lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(SourceError, match=r"Permission denied \(.*closed\); make it readable"):
        fetch(tmp_path, "AAA")
    (tmp_path / "closed").rmdir()
    assert_frame_equal(fetch(tmp_path, "AAA"), prices)
