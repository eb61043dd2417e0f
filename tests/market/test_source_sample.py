from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import SourceError
from financial_assets.market.frames import PRICE_COLUMNS
from financial_assets.market.panel import build_panel
from financial_assets.market.sources.sample import SAMPLE_TICKERS, SamplePrices

SPLITS = [("AAPL", "2000-06-21"), ("MSFT", "2003-02-18"), ("AAPL", "2005-02-28")]


def test_the_bundled_bars_are_what_they_are_said_to_be(sample: pd.DataFrame) -> None:
    spans = sample.groupby("ticker")["date"].agg(["min", "max", "count"])
    assert spans.loc["AAPL"].tolist() == [pd.Timestamp("2000-03-01"), pd.Timestamp("2013-03-01"), 3270]
    assert spans.loc["GOOG", "min"] == pd.Timestamp("2004-08-19")
    assert sorted(spans.index) == list(SAMPLE_TICKERS)
    assert list(sample.columns) == list(PRICE_COLUMNS)
    assert not SamplePrices().live


@pytest.mark.parametrize(("ticker", "ex_date"), SPLITS)
def test_raw_closes_halve_at_a_split_and_the_panel_does_not_see_it(
    sample: pd.DataFrame, ticker: str, ex_date: str
) -> None:
    bars = sample[sample["ticker"] == ticker].set_index("date")
    at = bars.index.get_loc(pd.Timestamp(ex_date))
    assert bars["close"].iloc[at] / bars["close"].iloc[at - 1] == pytest.approx(0.5, abs=0.06)
    panel = build_panel(sample)
    row, column = panel.tickers.index(ticker), panel.position(pd.Timestamp(ex_date))
    close, volume = panel.values[row, 3].astype(float), panel.values[row, 4].astype(float)
    assert abs(np.log(close[column] / close[column - 1])) < 0.12
    # Turnover in money does not depend on how shares are counted.
    turnover = (bars["close"] * bars["volume"]).to_numpy()
    assert close[: len(turnover)] * volume[: len(turnover)] == pytest.approx(turnover, rel=1e-5)


def test_both_ends_of_a_span_are_included() -> None:
    found = SamplePrices().fetch(["IBM"], dt.date(2010, 1, 4), dt.date(2010, 1, 6))
    assert found.prices["date"].dt.date.tolist() == [dt.date(2010, 1, day) for day in (4, 5, 6)]
    assert not found.failures


def test_a_ticker_that_fails_is_reported_beside_one_that_does_not() -> None:
    found = SamplePrices().fetch(["IBM", "TSLA", "GOOG"], dt.date(2001, 1, 2), dt.date(2001, 12, 31))
    assert set(found.prices["ticker"]) == {"IBM"}
    assert found.failures["TSLA"] == "PRICE_SOURCE=sample does not have it"
    assert "no bars from 2001-01-02 to 2001-12-31" in found.failures["GOOG"]


def test_nothing_at_all_says_what_there_is() -> None:
    with pytest.raises(SourceError, match=r"none of TSLA .* it holds AAPL, GOOG, IBM, MSFT \(set TICKERS"):
        SamplePrices().fetch(["TSLA"])
    with pytest.raises(SourceError, match="TICKERS"):
        SamplePrices().fetch([])


def test_a_caller_cannot_spoil_the_next_fetch() -> None:
    first = SamplePrices().fetch(["IBM"]).prices
    first.loc[:, "close"] = -1.0
    assert (SamplePrices().fetch(["IBM"]).prices["close"] > 0).all()
