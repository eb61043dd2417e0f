from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from financial_assets.market.outcomes import (
    next_excess_return,
    next_session_return,
    return_ahead,
    traded_return,
)
from financial_assets.market.panel import build_panel

MakePrices = Callable[..., pd.DataFrame]


def test_the_label_is_the_log_return_of_the_adjusted_close(make_prices: MakePrices) -> None:
    prices = make_prices()
    outcome = next_session_return(build_panel(prices))
    adjusted = prices["adj_close"].to_numpy().reshape(2, 40)
    assert outcome.shape == (2, 40)
    assert outcome[:, :-1] == pytest.approx(np.diff(np.log(adjusted), axis=1), abs=3e-7)
    assert np.isnan(outcome[:, -1]).all()


def test_a_trade_begins_at_the_next_open_and_ends_an_open_later(make_prices: MakePrices) -> None:
    prices = make_prices()
    outcome = traded_return(build_panel(prices))
    opening = (prices["open"] * prices["adj_close"] / prices["close"]).to_numpy().reshape(2, 40)
    assert outcome[:, :-2] == pytest.approx(opening[:, 2:] / opening[:, 1:-1] - 1.0, abs=3e-7)
    assert np.isnan(outcome[:, -2:]).all()


def test_the_bars_of_the_decision_do_not_enter_the_trade(make_prices: MakePrices) -> None:
    prices = make_prices(("AAA",))
    before = traded_return(build_panel(prices))
    prices.loc[20, ["open", "high", "low", "close", "adj_close"]] *= 1.2
    after = traded_return(build_panel(prices))
    assert after[0, 20] == before[0, 20]
    assert after[0, 19] != before[0, 19]


def test_a_session_without_trade_has_no_outcome(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices().drop(index=[20, *range(40, 45)]))
    label, trade = next_session_return(panel), traded_return(panel)
    assert np.flatnonzero(np.isnan(label[0])).tolist() == [19, 20, 39]
    assert np.flatnonzero(np.isnan(trade[0])).tolist() == [18, 19, 20, 38, 39]
    assert np.flatnonzero(np.isnan(label[1])).tolist() == [0, 1, 2, 3, 4, 39]
    assert np.flatnonzero(np.isnan(trade[1])).tolist() == [0, 1, 2, 3, 4, 38, 39]


def test_what_is_known_at_a_session_is_exactly_what_was_due(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices())
    seen = panel.until(panel.sessions[25])
    assert np.isnan(next_session_return(seen)[:, 25]).all()
    assert np.array_equal(next_session_return(seen)[:, :25], next_session_return(panel)[:, :25])
    assert np.array_equal(traded_return(seen)[:, :24], traded_return(panel)[:, :24])


def test_a_split_is_no_return(sample: pd.DataFrame) -> None:
    panel = build_panel(sample)
    row, at = panel.tickers.index("AAPL"), panel.position(pd.Timestamp("2005-02-25"))
    assert abs(next_session_return(panel)[row, at]) < 0.03
    crash = panel.position(pd.Timestamp("2000-09-28"))
    assert next_session_return(panel)[row, crash] == pytest.approx(-0.7312, abs=1e-3)


def test_a_return_over_five_sessions_is_from_close_to_close(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices())
    five, one = return_ahead(panel, 5), next_session_return(panel)
    expected = np.stack([one[:, start : start + 35] for start in range(5)]).sum(axis=0)
    assert five[:, :-5] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(five[:, -5:]).all()
    assert np.array_equal(return_ahead(panel, 1), one, equal_nan=True)
    assert np.isnan(return_ahead(panel, 60)).all(), "the panel is shorter"


def test_a_missed_session_counts_at_both_ends_of_five_and_not_between(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices().drop(index=[20]))
    five = return_ahead(panel, 5)
    assert np.flatnonzero(np.isnan(five[0])).tolist() == [15, 20, *range(35, 40)]
    whole = return_ahead(build_panel(make_prices()), 5)
    assert five[0, 18] == pytest.approx(whole[0, 18]), "what it moved by meanwhile is part of the return"


def test_an_excess_return_is_measured_against_the_market_of_the_same_sessions(make_prices: MakePrices) -> None:
    panel = build_panel(make_prices().drop(index=[20]))
    excess, own = next_excess_return(panel), next_session_return(panel)
    market = np.log(panel.values[:, 5].astype(float))
    assert np.array_equal(np.isnan(excess), np.isnan(own))
    assert excess[1, 10] == pytest.approx(own[1, 10] - (market[1, 11] - market[1, 10]))
    alone = build_panel(make_prices(("AAA",)))
    assert np.nanmax(np.abs(next_excess_return(alone))) < 1e-6, "one ticker is its own market"
