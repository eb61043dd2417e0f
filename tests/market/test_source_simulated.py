from __future__ import annotations

import datetime as dt
import warnings

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from financial_assets.errors import SourceError
from financial_assets.market.schemas import check_prices
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices, direction_rule

SIGNALS = ("momentum", "volume_reversal", "parity")
TICKERS = ["AAA", "BBB", "CCC", "DDD"]


def bars(market: SimulatedMarket, ticker: str = "AAA") -> pd.DataFrame:
    return SimulatedPrices(market).fetch([ticker]).prices


def rule_and_outcome(market: SimulatedMarket, ticker: str = "AAA") -> tuple[np.ndarray, np.ndarray]:
    """The direction that the rule names after each bar, and the one that came."""
    prices = bars(market, ticker)
    returns = np.diff(np.log(prices["close"].to_numpy()))
    surprise = np.log(prices["volume"].to_numpy() / market.usual_volume)[1:]
    named = [direction_rule(market, returns[: at + 1], surprise[: at + 1]) for at in range(10, len(returns) - 1)]
    return np.array(named), np.sign(returns[11:])


@pytest.mark.parametrize("signal", SIGNALS)
def test_bars_are_possible_and_continue_from_one_to_the_next(signal: str) -> None:
    prices = SimulatedPrices(SimulatedMarket(signal=signal)).fetch(TICKERS).prices  # type: ignore[arg-type]
    assert [result.name for result in check_prices(prices) if not result.passed] == []
    daily = np.log(prices["close"]).groupby(prices["ticker"]).diff().std()
    assert daily == pytest.approx(0.015, rel=0.25)


def test_a_seed_repeats_and_another_differs() -> None:
    market = SimulatedMarket(sessions=300, seed=7)
    assert_frame_equal(bars(market), bars(market))
    assert not np.allclose(bars(market)["close"], bars(SimulatedMarket(sessions=300, seed=8))["close"])
    assert not np.allclose(bars(market)["close"], bars(market, "BBB")["close"])
    alone = bars(market, "BBB")
    among = SimulatedPrices(market).fetch(["AAA", "BBB"]).prices
    assert_frame_equal(alone, among[among["ticker"] == "BBB"].reset_index(drop=True))


def test_a_span_is_a_part_of_the_whole() -> None:
    source = SimulatedPrices(SimulatedMarket(sessions=300))
    whole = source.fetch(["AAA"]).prices
    part = source.fetch(["AAA"], dt.date(2005, 6, 1), dt.date(2005, 9, 1)).prices
    expected = whole[whole["date"].between("2005-06-01", "2005-09-01")].reset_index(drop=True)
    assert_frame_equal(part, expected)
    assert not source.live


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_who_knows_the_rule_reaches_exactly_the_bayes_accuracy(signal: str, strength: float) -> None:
    market = SimulatedMarket(sessions=4000, signal=signal, signal_strength=strength)  # type: ignore[arg-type]
    named, came = rule_and_outcome(market)
    assert market.bayes_accuracy == SimulatedPrices(market).bayes_accuracy == (1 + strength) / 2
    spread = np.sqrt(market.bayes_accuracy * (1 - market.bayes_accuracy) / len(came))
    assert np.mean(named == came) == pytest.approx(market.bayes_accuracy, abs=4 * spread + 1e-12)


def test_the_size_of_a_move_says_nothing_about_its_direction() -> None:
    market = SimulatedMarket(sessions=5000, signal_strength=0.4)
    named, came = rule_and_outcome(market)
    size = np.abs(np.diff(np.log(bars(market)["close"].to_numpy())))[11:]
    hits = named == came
    large = size > np.median(size)
    assert abs(hits[large].mean() - hits[~large].mean()) < 4 * np.sqrt(0.21 / (len(hits) / 4))


def test_after_the_shift_the_rule_turns() -> None:
    market = SimulatedMarket(sessions=4000, signal_strength=0.4, regime_shift_session=2000)
    named, came = rule_and_outcome(market)
    hits = named == came
    at = 2000 - 12  # first outcome: session 12
    assert hits[:at].mean() == pytest.approx(0.7, abs=0.05)
    assert hits[at:].mean() == pytest.approx(0.3, abs=0.05)
    assert market.bayes_accuracy == 0.7
    unshifted = bars(SimulatedMarket(sessions=4000, signal_strength=0.4))
    assert_frame_equal(bars(market)[:2000], unshifted[:2000])
    assert not np.isclose(bars(market)["close"][2000], unshifted["close"][2000])


def learnable(market: SimulatedMarket) -> tuple[np.ndarray, np.ndarray]:
    """Today's and earlier scaled returns and today's volume surprise, and whether the next close is higher."""
    inputs, outcomes = [], []
    for ticker in TICKERS:
        prices = bars(market, ticker)
        returns = np.diff(np.log(prices["close"].to_numpy())) / market.volatility
        surprise = np.log(prices["volume"].to_numpy() / market.usual_volume)[1:]
        inputs.append(np.column_stack([returns[2:-1], returns[1:-2], 2.0 * surprise[2:-1]]))
        outcomes.append(returns[3:] > 0)
    return np.concatenate(inputs), np.concatenate(outcomes)


# A straight line through an exclusive or can get three of its four cells right by luck: hence 0.6 and not 0.5 below.
def score(model: LogisticRegression | MLPClassifier, market: SimulatedMarket) -> float:
    """Accuracy on the last fifth of what is left after fitting on the rest."""
    inputs, outcomes = learnable(market)
    fit = np.arange(len(inputs)) % 5 != 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a limited number of epochs is the point
        model.fit(inputs[fit], outcomes[fit])
    return float(model.score(inputs[~fit], outcomes[~fit]))


def network(units: int) -> MLPClassifier:
    return MLPClassifier((units,), learning_rate_init=0.01, max_iter=40, random_state=0)


def test_a_linear_model_learns_momentum_but_not_an_exclusive_or() -> None:
    momentum = SimulatedMarket(sessions=2500, signal_strength=0.6)
    reversal = SimulatedMarket(sessions=2500, signal_strength=0.6, signal="volume_reversal")
    assert score(LogisticRegression(), momentum) > 0.75
    assert score(LogisticRegression(), reversal) < 0.6
    assert score(network(16), reversal) > 0.75


def test_parity_takes_a_network_of_some_size() -> None:
    parity = SimulatedMarket(sessions=2500, signal_strength=0.6, signal="parity", order=2)
    assert score(LogisticRegression(), parity) < 0.6
    assert score(network(2), parity) < 0.66
    assert score(network(32), parity) > 0.74


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signal_strength": 1.5}, "SIMULATED_SIGNAL=1.5"),
        ({"signal_strength": float("nan")}, "SIMULATED_SIGNAL=nan"),
        ({"sessions": 1}, "SIMULATED_SESSIONS=1"),
        ({"order": 0}, "order=0"),
        ({"volatility": 0.0}, "volatility=0.0"),
        ({"regime_shift_session": 0}, "SIMULATED_REGIME_SHIFT=0"),
        ({"signal": "magic"}, "signal='magic'"),
    ],
)
def test_impossible_markets_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        SimulatedMarket(**options)  # type: ignore[arg-type]


def test_more_sessions_than_the_calendar_has_are_refused() -> None:
    with pytest.raises(SourceError, match="SIMULATED_SESSIONS=20000: the calendar has"):
        bars(SimulatedMarket(sessions=20000))


def test_a_shift_after_the_end_is_refused() -> None:
    with pytest.raises(SourceError, match="SIMULATED_REGIME_SHIFT=300"):
        SimulatedMarket(sessions=300, regime_shift_session=300)
