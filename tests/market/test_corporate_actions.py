from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from financial_assets.market.corporate_actions import find_corporate_actions

MakePrices = Callable[..., pd.DataFrame]
OHLC = ["open", "high", "low", "close"]


def test_the_samples_splits_are_found_by_date(sample: pd.DataFrame) -> None:
    actions = find_corporate_actions(sample)
    splits = actions[actions["kind"] == "split"]
    found = [(row.ticker, f"{row.date:%Y-%m-%d}", row.detail) for row in splits.itertuples()]
    assert found == [("AAPL", "2000-06-21", "2:1"), ("AAPL", "2005-02-28", "2:1"), ("MSFT", "2003-02-18", "2:1")]
    assert set(actions["kind"]) == {"split", "dividend"}


def test_the_samples_dividends_are_the_real_ones(sample: pd.DataFrame) -> None:
    actions = find_corporate_actions(sample).set_index(["ticker", "date"])
    # Microsoft's special dividend of 3.00 with the quarterly 0.08, and Apple's first one in this century, 2.65. The
    # sample's factors were reckoned with the close of the ex-date, hence the few cents of difference.
    assert actions.loc[("MSFT", pd.Timestamp("2004-11-15")), "ratio"] == pytest.approx(1 + 3.08 / 27.39, abs=1e-4)
    assert actions.loc[("MSFT", pd.Timestamp("2004-11-15")), "detail"] == "about 3.03 USD"
    assert actions.loc[("AAPL", pd.Timestamp("2012-08-09")), "ratio"] == pytest.approx(1 + 2.65 / 620.73, abs=1e-5)
    assert actions.loc[("AAPL", pd.Timestamp("2012-08-09")), "detail"] == "about 2.64 USD"
    assert "GOOG" not in actions.index.get_level_values("ticker")


@pytest.mark.parametrize(("ratio", "name"), [(2.0, "2:1"), (1.5, "3:2"), (20.0, "20:1"), (0.1, "1:10")])
def test_raw_prices_show_a_split(make_prices: MakePrices, ratio: float, name: str) -> None:
    prices = make_prices()
    prices.loc[:14, OHLC] *= ratio
    actions = find_corporate_actions(prices)
    assert actions[["date", "ticker", "kind", "detail"]].to_numpy().tolist() == [
        [prices["date"][15], "AAA", "split", name]
    ]
    assert actions["ratio"].item() == pytest.approx(ratio)


def test_an_adjustment_downwards_is_neither(make_prices: MakePrices) -> None:
    prices = make_prices()
    prices.loc[:14, "adj_close"] *= 1.07
    assert find_corporate_actions(prices)["kind"].tolist() == ["other"]


def test_prices_without_actions_have_none(make_prices: MakePrices) -> None:
    actions = find_corporate_actions(make_prices())
    assert actions.empty
    assert list(actions.columns) == ["date", "ticker", "kind", "ratio", "detail"]
    assert find_corporate_actions(make_prices()[:0]).empty
