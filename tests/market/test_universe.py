"""Dated membership: the past of the panel is not made of today's survivors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import MarketDataError
from financial_assets.market.panel import CHANNELS, build_panel
from financial_assets.market.universe import read_universe
from financial_assets.settings import load_settings

MakePrices = Callable[..., pd.DataFrame]
FILE = """Ticker, from, to, sector, currency
bbb,2020-01-20,,Energy,USD
AAA,,2020-02-14,Banks,USD

CCC,2020-01-02,2020-01-10,,
CCC,2020-02-03,,Tech,EUR
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "universe.csv"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_file_names_everybody_who_ever_belonged(file: Path) -> None:
    universe = read_universe(file)
    assert universe.tickers == ("AAA", "BBB", "CCC")
    assert universe.sectors(pd.Timestamp("2020-01-15")) == {"AAA": "Banks"}
    assert universe.sectors(pd.Timestamp("2020-03-02")) == {"BBB": "Energy", "CCC": "Tech"}
    days = pd.DatetimeIndex(["2020-01-10", "2020-01-13", "2020-01-20", "2020-02-03", "2020-02-14", "2020-02-18"])
    assert universe.members(["CCC", "AAA", "BBB", "DDD"], days).astype(int).tolist() == [
        [1, 0, 0, 1, 1, 1],
        [1, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name the columns ticker, from, to, sector, currency"),
        ("symbol,from\nA,2020-01-01\n", "not symbol, from"),
        ("ticker,from\n", "names no ticker"),
        ("ticker,from\nA,1.2.2020\n", "line 2, from: '1.2.2020' is not a date; write YYYY-MM-DD"),
        ("ticker,from\nA,1514764800\n", "line 2, from: '1514764800' is not a date"),
        ("ticker,to\nA,20200101\n", "line 2, to: '20200101' is not a date"),
        ("ticker,ticker\nA,B\n", "each once"),
        ("ticker,from,to\nA,2020-02-01,2020-01-01\n", "line 2, line: from 2020-02-01 is after to 2020-01-01"),
        ("ticker\nA,2020-01-01\n", "line 2: more cells than columns"),
        ("ticker,from\n,2020-01-01\n", "line 2, ticker: "),
        ("ticker,currency\nA,dollars\n", "line 2, currency: "),
        (
            "ticker,from,to\nA,,2020-05-01\nA,2020-05-01,\n",
            "line 3: A already belongs to the universe from its first day",
        ),
    ],
)
def test_a_line_that_cannot_be_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MarketDataError, match=message):
        read_universe(file)


def test_a_file_in_another_encoding_names_the_remedy(file: Path) -> None:
    file.write_text("ticker,sector\nA,Santé\n", encoding="latin-1")
    with pytest.raises(MarketDataError, match="save it as UTF-8"):
        read_universe(file)


def test_members_alone_are_valid_and_make_the_index(file: Path, make_prices: MakePrices) -> None:
    prices = make_prices(("AAA", "BBB", "CCC"), count=40)
    everybody, dated = build_panel(prices), build_panel(prices, read_universe(file).members)
    assert dated.tickers == everybody.tickers, "who left stays in the past of the panel"
    belongs = read_universe(file).members(dated.tickers, dated.sessions)
    assert (dated.valid == belongs).all()
    market = CHANNELS.index("market")
    assert np.array_equal(np.delete(dated.values, market, 1), np.delete(everybody.values, market, 1))
    assert (dated.listed_bars() == everybody.listed_bars()).all(), "bars before joining are history, too"
    close = dated.values[:, CHANNELS.index("close")].astype(np.float64)
    returns = np.where(belongs[:, 1:], close[:, 1:] / close[:, :-1] - 1.0, 0.0).sum(axis=0) / belongs[:, 1:].sum(axis=0)
    np.testing.assert_allclose(dated.values[0, market, 1:], 100.0 * np.cumprod(1.0 + returns), rtol=1e-5)
    gone = dated.sessions[-1]
    assert dated.windows(gone, 30)[0] == ("BBB", "CCC")
    with pytest.raises(MarketDataError, match="AAA did not trade"):
        dated.window("AAA", gone, 30)


def test_the_file_replaces_the_tickers(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UNIVERSE_FILE", str(file))
    settings = load_settings()
    assert settings.tickers == ("AAA", "BBB", "CCC")
    assert settings.remembered["UNIVERSE_FILE"] == str(file)
    monkeypatch.setenv("UNIVERSE_FILE", str(tmp_path / "missing.csv"))
    with pytest.raises(Exception, match="UNIVERSE_FILE"):
        load_settings()


def test_a_slash_in_the_file_is_the_hyphen_that_prices_have(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("ticker\nbrk/b\n", encoding="utf-8")
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UNIVERSE_FILE", str(file))
    assert read_universe(file).tickers == load_settings().tickers == ("BRK-B",)
