"""Prices of the user's own: frames and files of any ordinary form, checked as a run checks them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import financial_assets as fa
from financial_assets.errors import MarketDataError, SourceError
from financial_assets.market.panel import PricePanel
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.research import PriceWarning


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return (
        SimulatedPrices(SimulatedMarket(seed=3))
        .fetch(["AAA", "BBB"])
        .prices.query("date < '2013'")
        .reset_index(drop=True)
    )


@pytest.fixture(scope="module")
def panel(bars: pd.DataFrame) -> PricePanel:
    return fa.load_panel(bars)


def equal(one: PricePanel, other: PricePanel) -> bool:
    return (
        one.tickers == other.tickers
        and one.sessions.equals(other.sessions)
        and np.array_equal(one.values, other.values, equal_nan=True)
        and np.array_equal(one.valid, other.valid)
    )


def test_a_frame_is_a_panel(panel: PricePanel, bars: pd.DataFrame) -> None:
    assert panel.tickers == ("AAA", "BBB")
    assert panel.valid.sum() == len(bars)


def test_order_index_and_names_of_columns_do_not_matter(panel: PricePanel, bars: pd.DataFrame) -> None:
    shuffled = bars.sample(frac=1.0, random_state=1)
    renamed = shuffled.rename(columns={"date": "Date", "adj_close": "Adj Close", "ticker": "Symbol", "open": "Open"})
    for frame in (shuffled, renamed, bars.set_index("date"), bars.set_index(["date", "ticker"])):
        assert equal(fa.load_panel(frame), panel)


def test_a_wide_frame_of_yfinance(panel: PricePanel, bars: pd.DataFrame) -> None:
    names = {"open": "Open", "high": "High", "low": "Low", "close": "Close", "adj_close": "Adj Close"}
    named = bars.rename(columns={**names, "volume": "Volume", "date": "Date"})
    wide = named.pivot(index="Date", columns="ticker")
    wide.columns.names = ["Price", "Ticker"]
    assert equal(fa.load_panel(wide), panel)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files(panel: PricePanel, bars: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    for ticker, rows in bars.groupby("ticker", observed=True):
        path = tmp_path / f"{ticker}.{kind}"
        rows.to_csv(path, index=False) if kind == "csv" else rows.to_parquet(path)
    assert equal(fa.load_panel(tmp_path), panel)
    assert equal(fa.load_panel([tmp_path / f"AAA.{kind}", str(tmp_path / f"BBB.{kind}")]), panel)


def test_one_ticker_without_a_column(bars: pd.DataFrame) -> None:
    alone = bars[bars["ticker"] == "AAA"]
    bare = alone.drop(columns="ticker")
    with pytest.raises(SourceError, match="ticker"):
        fa.load_panel(bare)
    assert equal(fa.load_panel(bare, tickers=["AAA"]), fa.load_panel(alone))


def test_days_and_tickers(bars: pd.DataFrame) -> None:
    chosen = fa.load_panel(bars, tickers=["BBB"], start="2009-01-01", end="2009-06-30")
    assert chosen.tickers == ("BBB",)
    assert str(chosen.sessions[0].date()) == "2009-01-02"
    assert str(chosen.sessions[-1].date()) == "2009-06-30"


def test_bad_bars_are_left_out_and_named(bars: pd.DataFrame) -> None:
    bad = bars.copy()
    bad.loc[700, ["open", "high", "low", "close"]] = -1.0
    with pytest.warns(PriceWarning, match=bad.loc[700, "ticker"]):
        panel = fa.load_panel(bad)
    assert panel.valid.sum() == len(bars) - 1
    with pytest.raises(MarketDataError, match="quarantine"):
        fa.load_panel(bad, policy="strict")


def test_an_adjustment_is_asked_for_and_never_guessed(bars: pd.DataFrame) -> None:
    unadjusted = bars.drop(columns="adj_close")
    with pytest.raises(SourceError, match="adjusted"):
        fa.load_panel(unadjusted)
    assert fa.load_panel(unadjusted, adjustment="adjusted").tickers == ("AAA", "BBB")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.iloc[:0], "no rows"),
        (lambda frame: frame.drop(columns=["open", "high"]), "open"),
        (lambda frame: frame.assign(close="many"), "close"),
        (lambda frame: frame.assign(close=[[1]] * len(frame)), "no numbers"),
    ],
)
def test_frames_that_cannot_be_read(bars: pd.DataFrame, change: object, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        fa.load_panel(change(bars))  # type: ignore[operator]


def test_what_is_not_there_is_named(bars: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="ZZZ"):
        fa.load_panel(bars, tickers=["AAA", "ZZZ"])
    with pytest.raises(SourceError, match="nowhere"):
        fa.load_panel(tmp_path / "nowhere.csv")
    with pytest.raises(SourceError):
        fa.load_panel([])


def test_a_broken_file_of_others_takes_nothing_away(bars: pd.DataFrame, tmp_path: Path) -> None:
    bars[bars["ticker"] == "AAA"].to_csv(tmp_path / "AAA.csv", index=False)
    (tmp_path / "CCC.csv").write_text("date,ticker\nnever,CCC\n")
    with pytest.warns(PriceWarning, match="CCC"):
        assert fa.load_panel(tmp_path, tickers=["AAA"]).tickers == ("AAA",)
    with pytest.raises(SourceError, match="CCC"):
        fa.load_panel(tmp_path)


def test_members_of_a_universe(bars: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "universe.csv"
    path.write_text("ticker,from,to\nAAA,,\nBBB,,2009-12-31\n")
    panel = fa.load_panel(bars, universe=path)
    after = panel.sessions > pd.Timestamp("2009-12-31")
    assert not panel.valid[1, after].any()
    assert panel.valid[0, after].any()
