from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from financial_assets.experiment.outcomes import join_outcomes, next_range_variance, outcome_frame
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.scoring.volatility import garman_klass_variance
from tests.experiment.builders import panel

OPEN, CLOSE = CHANNELS.index("open"), CHANNELS.index("close")


def test_labels_and_trades_are_those_of_the_designs_timing(prices: PricePanel) -> None:
    frame = outcome_frame(prices).set_index(["session", "ticker"])
    t = 20
    row = frame.loc[(prices.sessions[t], prices.tickers[2])]
    close, opening = prices.values[2, CLOSE].astype(float), prices.values[2, OPEN].astype(float)
    assert row["log_return"] == pytest.approx(np.log(close[t + 1] / close[t]))
    assert row["up"] == (close[t + 1] > close[t])
    assert row["traded_return"] == pytest.approx(opening[t + 2] / opening[t + 1] - 1)
    assert row["outcome_5d"] == pytest.approx(np.log(close[t + 5] / close[t]))


def test_only_due_outcomes_are_joined(prices: PricePanel) -> None:
    as_of = prices.sessions[30]
    frame = outcome_frame(prices.until(as_of))
    assert frame["session"].max() == prices.sessions[29]  # its label needs session 30
    assert frame.loc[frame["traded_return"].notna(), "session"].max() == prices.sessions[28]
    assert frame.loc[frame["outcome_5d"].notna(), "session"].max() == prices.sessions[25]  # it needs session 30
    earlier = outcome_frame(prices)
    for column, last in (("traded_return", 28), ("outcome_5d", 25)):
        until = frame.drop(columns={"traded_return", "outcome_5d"} - {column})
        pd.testing.assert_frame_equal(
            until[until[column].notna()].reset_index(drop=True),
            earlier.loc[earlier["session"] <= prices.sessions[last], until.columns].reset_index(drop=True),
        )


def test_predictions_without_an_outcome_are_left_out_and_columns_kept(prices: PricePanel) -> None:
    predictions = pd.DataFrame(
        {
            "session": [prices.sessions[3], prices.sessions[-1], prices.sessions[3]],
            "ticker": ["T00", "T00", "UNKNOWN"],
            "probability_up": [0.4, 0.5, 0.6],
        }
    )
    joined = join_outcomes(predictions, outcome_frame(prices))
    assert list(joined["probability_up"]) == [0.4]
    assert {"log_return", "up", "traded_return"} <= set(joined)


def test_a_session_without_trade_gives_no_outcome() -> None:
    prices = panel(sessions=20, tickers=2)
    prices.valid[0, 10] = False
    sessions = set(outcome_frame(prices).query("ticker == 'T00'")["session"])
    assert not {prices.sessions[9], prices.sessions[10]} & sessions
    assert prices.sessions[11] in sessions
    week = outcome_frame(prices).query("ticker == 'T00'").set_index("session")["outcome_5d"]
    assert np.isnan(week[prices.sessions[5]]), "it ends on the session without a trade"
    assert week[[prices.sessions[place] for place in (4, 6, 8, 11)]].notna().all(), (
        "what it missed between is part of it"
    )


def test_five_sessions_are_counted_by_the_panel_and_there_may_be_fewer(prices: PricePanel) -> None:
    short = prices.until(prices.sessions[3])
    frame = outcome_frame(short)
    assert len(frame) == 3 * len(prices.tickers)
    assert frame["outcome_5d"].isna().all()


def test_the_variance_of_a_session_is_that_of_its_gap_and_its_range(prices: PricePanel) -> None:

    variance, moves = next_range_variance(prices), next_session_return(prices)
    assert np.array_equal(np.isnan(variance), np.isnan(moves))
    opening, high, low, close = (prices.values[0, place].astype(float) for place in range(4))
    span, body = np.log(high[11] / low[11]), np.log(close[11] / opening[11])
    hours = 0.5 * span**2 - (2 * np.log(2) - 1) * body**2
    assert variance[0, 10] == pytest.approx(np.log(opening[11] / close[10]) ** 2 + hours)


def test_the_range_says_what_the_squared_return_is_expected_to_be_with_less_noise() -> None:
    """A day of 390 steps after a gap; of so few the range sees a little less than there is."""
    rng = np.random.default_rng(1)
    paths = np.cumsum(0.01 / np.sqrt(390) * rng.standard_normal((3000, 390)), axis=1)
    opening = 0.005 * rng.standard_normal(3000)
    prices = opening[:, None] + np.concatenate([np.zeros((3000, 1)), paths], axis=1)
    variance = opening**2 + garman_klass_variance(
        np.exp(opening), np.exp(prices.max(axis=1)), np.exp(prices.min(axis=1)), np.exp(prices[:, -1])
    )
    squared = prices[:, -1] ** 2
    assert variance.mean() == pytest.approx(squared.mean(), rel=0.1)
    assert variance.std() < 0.5 * squared.std()
