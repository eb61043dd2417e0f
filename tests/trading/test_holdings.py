"""Files of holdings as people save them, and a clear word for those that cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from financial_assets.errors import HoldingsError
from financial_assets.trading.holdings import Holdings, read_holdings

UNIVERSE = ("AAA", "BBB", "BRK-B")


def read(tmp_path: Path, text: str | bytes, *, short: bool = True) -> Holdings:
    path = tmp_path / "holdings.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_holdings(path, UNIVERSE, short_allowed=short)


PLAIN = "ticker,quantity\nAAA,300\nBBB,-12.5\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", "\r\n"),
        "\n\n" + PLAIN + "\n , \n",
        PLAIN.encode("utf-16"),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16-le"),
        "Symbol, Shares ,price\naaa, 300 ,1\nbbb,-12.5,2\n",
        'shares,note,ticker\n300,"a, b",AAA\n-12.5,é,BBB\n'.encode("cp1252"),
    ],
)
def test_common_forms_say_the_same(tmp_path: Path, text: str | bytes) -> None:
    assert read(tmp_path, text).shares == {"AAA": 300.0, "BBB": -12.5}


def test_a_position_of_no_shares_is_none_and_a_header_alone_is_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "ticker,quantity\nAAA,0\n").shares == {}
    assert read(tmp_path, "ticker,quantity\n").shares == {}


def test_tickers_are_written_as_price_files_write_them(tmp_path: Path) -> None:
    assert read(tmp_path, "ticker,quantity\nbrk/b,1\n").shares == {"BRK-B": 1.0}


def test_other_bytes_have_another_origin(tmp_path: Path) -> None:
    assert read(tmp_path, PLAIN).origin != read(tmp_path, PLAIN + "\n").origin


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("name,quantity\nAAA,1\n", "has no column ticker"),
        ("ticker\nAAA\n", "has no column quantity"),
        ("ticker,quantity,shares\nAAA,1,1\n", "several columns quantity"),
        ("AAA,300\nBBB,1\n", "has no column ticker"),
        ("ticker,quantity\nAAA,1\nAAA,2\n", "line 3: AAA is there twice"),
        ("ticker,quantity\nAAA,1\naaa,2\n", "line 3: AAA is there twice"),
        ("ticker,quantity\nZZZ,1\n", "line 2: ZZZ is not in the universe; add it to TICKERS"),
        ("ticker,quantity\n,1\n", "an empty cell is not in the universe"),
        ("ticker,quantity\nAAA,nan\n", "line 2: quantity of AAA must be a number of shares, not 'nan'"),
        ("ticker,quantity\nAAA,inf\n", "not 'inf'"),
        ("ticker,quantity\nAAA,\n", "not ''"),
        ("ticker,quantity\nAAA,ten\n", "not 'ten'"),
        ("ticker,quantity\nAAA,1e3\n", "not '1e3'"),
        ('ticker,quantity\nAAA,"1,000"\n', "without a mark for thousands"),
        ("ticker;quantity\nAAA;12,5\n", "a decimal point"),
        ("ticker,quantity\nAAA,٣\n", "must be a number of shares"),
        ("ticker,quantity\nAAA,9999999999999\n", "at most 1e\\+12 shares"),
        ("ticker,quantity\nAAA,1,2\n", "line 2: has 3 cells, the header has 2"),
        (b"ticker,quantity\nAAA,1\x00\n", "zero bytes"),
        (b"\xff\xfet\x00i", "broken UTF-16"),
        (b"\xff\xfe\x00\xd8", "broken UTF-16"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, text: str | bytes, problem: str) -> None:
    with pytest.raises(HoldingsError, match=problem) as refused:
        read(tmp_path, text)
    assert str(refused.value).startswith("HOLDINGS")


def test_a_long_only_book_has_no_short_position(tmp_path: Path) -> None:
    with pytest.raises(HoldingsError, match=r"line 3: quantity of BBB is -12\.5: .* set ORDERS_MODE=long_short"):
        read(tmp_path, PLAIN, short=False)


def test_a_file_that_is_not_there_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(HoldingsError, match="cannot be read"):
            read_holdings(path, UNIVERSE, short_allowed=True)


def test_a_huge_file_is_not_read_as_holdings(tmp_path: Path) -> None:
    with pytest.raises(HoldingsError, match="not a file of holdings"):
        read(tmp_path, "ticker,quantity\n" + "AAA,1\n" * 3_000_000)
