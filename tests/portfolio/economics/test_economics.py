"""What forecasts would have earned: against a ledger in money, closed forms, and the profit that decisions count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from financial_assets.errors import PortfolioError
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.portfolio.economics.assumptions import Assumptions
from financial_assets.portfolio.economics.evaluate import economics_of, held_out_returns
from financial_assets.portfolio.economics.forecasts import read_forecasts
from financial_assets.portfolio.economics.prices import traded_span
from financial_assets.portfolio.economics.trading import simulated_book, sized_book
from financial_assets.portfolio.fundamental_law import expected_sharpe
from financial_assets.portfolio.selection import Trials, deflated_sharpe_of
from tests.experiment.builders import panel
from tests.portfolio.ledger import keep_books

FREE = Assumptions(cost_bps=0, commission_bps=0, half_spread_bps=0, impact=0, borrow_per_year=0)


def table(prices: PricePanel, scores: np.ndarray, sessions: pd.DatetimeIndex, model: str = "m") -> pd.DataFrame:
    """One model's forecasts from scores ``[ticker, session]``."""
    keys = pd.MultiIndex.from_product([prices.tickers, sessions], names=["ticker", "date"]).to_frame(index=False)
    probability = 0.5 + 0.1 * np.tanh(scores.ravel())
    return keys.assign(model=model, probability_up=probability, q05=-0.02, q95=0.02, score=scores.ravel())


def world(tickers: int = 20, sessions: int = 220, span: int = 60, seed: int = 3) -> tuple[PricePanel, pd.DataFrame]:
    prices = panel(sessions=sessions, tickers=tickers, seed=seed)
    days = prices.sessions[-span:]
    return prices, table(prices, np.random.default_rng(seed).standard_normal((tickers, span)), days)


def with_gaps(prices: PricePanel) -> PricePanel:
    valid = prices.valid.copy()
    valid[3, -40:-30] = False  # suspended
    valid[5, -20:] = False  # never trades again
    valid[7, -31] = False
    return replace(prices, valid=valid)


@pytest.mark.parametrize("book", ["direction", "long_only", "long_short", "market_neutral"])
def test_every_book_is_what_a_ledger_in_money_says(book: Any) -> None:
    prices, forecasts = world()
    prices = with_gaps(prices)
    rules = Assumptions(commission_bps=3, half_spread_bps=4, borrow_per_year=0.02, cash_per_year=0.03, capital=5e5)
    found = read_forecasts(forecasts, prices)
    span = traded_span(found, prices, rules)
    grid = found.models["m"]
    tradable = span.valid & span.settled & span.costed
    weights = sized_book(book, grid, tradable, span, rules)
    first = len(prices.sessions) - 60
    opens = np.where(prices.valid, prices.values[:, CHANNELS.index("open")].astype(float), np.nan)[:, first:]
    opens = np.column_stack([opens, opens[:, -1]])  # the open to come, at which nothing is held
    close, volume = (prices.values[:, CHANNELS.index(name)].astype(float) for name in ("close", "volume"))
    money = np.where(prices.valid, close * volume, np.nan)

    def fee(name: int, session: int, share: float) -> float:
        at = first + session
        expected = np.nanmean(money[name, at - 19 : at + 1])
        return 7e-4 + span.volatility[name, session] * np.sqrt(share * rules.capital / expected)

    expected = keep_books(weights, opens, fee, borrow_per_year=0.02, cash_return=0.03 / 252)
    simulated = simulated_book(book, "market", grid, span, rules)
    np.testing.assert_allclose(simulated.net, expected, rtol=0, atol=2e-10)
    assert np.abs(simulated.held).sum() > 0


def test_a_perfect_score_earns_what_it_foresees_and_its_opposite_loses_it() -> None:
    """Without costs the quintile book of known returns is the mean of the best fifth minus that of the worst."""
    prices = panel(sessions=220, tickers=20, seed=1)
    opens = prices.values[:, CHANNELS.index("open")].astype(float)
    earned = opens[:, 2:] / opens[:, 1:-1] - 1
    scores = earned[:, -50:]
    found = economics_of(table(prices, scores, prices.sessions[-52:-2]), prices, FREE)
    book = found.book("m", "long_short", "flat")
    assert book is not None
    assert book.figures is not None
    assert book.figures.net.mean_return is not None
    ranked = np.sort(scores, axis=0)
    expected = (ranked[-4:].mean(axis=0) - ranked[:4].mean(axis=0)) / 2
    assert book.figures.net.mean_return.estimate == pytest.approx(252 * expected.mean())
    against = economics_of(table(prices, -scores, prices.sessions[-52:-2]), prices, FREE).book(
        "m", "long_short", "flat"
    )
    assert against is not None
    assert against.figures is not None
    assert against.figures.net.mean_return is not None
    assert against.figures.net.mean_return.estimate == pytest.approx(-252 * expected.mean())


def test_a_planted_skill_earns_the_ratio_of_the_fundamental_law() -> None:
    random = np.random.default_rng(7)
    names, days, skill = 100, 900, 0.05
    prices = panel(sessions=160 + days, tickers=names, seed=2)
    own = random.standard_normal((names, 160 + days))
    steps = np.exp(np.cumsum(0.01 * own, axis=1))
    values = prices.values.copy()
    for name in ("open", "high", "low", "close"):
        values[:, CHANNELS.index(name)] = 100 * steps
    values[:, CHANNELS.index("market")] = 100  # nothing moves together: no beta to be neutral to
    prices = replace(prices, values=values)
    following = own[:, -days:]  # from the open of t+1 to that of t+2
    scores = skill * following + np.sqrt(1 - skill**2) * random.standard_normal((names, days))
    found = economics_of(table(prices, scores, prices.sessions[-days - 2 : -2]), prices, FREE)
    book = found.book("m", "market_neutral", "flat")
    assert book is not None
    assert book.figures is not None
    ratio = book.figures.net.sharpe
    assert ratio is not None
    assert ratio.low < expected_sharpe(skill, names) < ratio.high
    assert ratio.low > 0


@pytest.mark.parametrize("book", ["direction", "long_only", "long_short", "market_neutral"])
@pytest.mark.parametrize("sizing", ["book", "equal", "inverse_volatility", "kelly"])
def test_nothing_that_comes_later_moves_a_weight(book: Any, sizing: Any) -> None:
    prices, forecasts = world()
    later = prices.values.copy()
    later[:, :6, -30:] *= np.random.default_rng(9).uniform(0.5, 2, later[:, :6, -30:].shape).astype(np.float32)
    changed = replace(prices, values=later)
    rules = Assumptions(sizing=sizing)
    weights = []
    for known in (prices, changed):
        found = read_forecasts(forecasts, known)
        span = traded_span(found, known, rules)
        weights.append(sized_book(book, found.models["m"], span.valid & span.costed, span, rules))
    np.testing.assert_array_equal(weights[0][:, :30], weights[1][:, :30])
    assert np.abs(weights[0][:, :30]).sum() > 0


def test_a_small_universe_is_traded_by_direction_alone_and_says_so() -> None:
    prices, forecasts = world(tickers=4)
    found = economics_of(forecasts, prices)
    assert {own.book for own in found.books} == {"direction"}
    assert "long only, long short, market neutral" in found.left_out
    assert "need 10 tickers" in found.left_out
    assert "there are 4" in found.left_out
    assert economics_of(forecasts, prices, Assumptions(ranked_from=4)).left_out == ""


def test_a_model_without_scores_is_ranked_by_its_probability() -> None:
    prices, forecasts = world()
    plain = economics_of(forecasts.assign(score=np.nan), prices)
    assert {own.ranked_by for own in plain.books} == {"probability_up"}
    scored = economics_of(forecasts, prices)  # the probability rises with the score: the same ranks
    assert {own.ranked_by for own in scored.books if own.book != "direction"} == {"score"}
    ours, theirs = (found.book("m", "long_short", "market") for found in (plain, scored))
    assert ours is not None
    assert theirs is not None
    assert ours.daily == theirs.daily


def test_a_constant_model_holds_nothing_where_ranks_are_needed() -> None:
    prices, forecasts = world()
    found = economics_of(forecasts.assign(probability_up=0.53, score=np.nan), prices)
    book = found.book("m", "long_short", "market")
    assert book is not None
    assert book.figures is None
    assert book.paid_bps is None
    assert set(found.frame()["book"]) == {"direction"} | {own.book for own in found.books if own.figures is not None}


def test_costs_only_lower_what_is_earned_and_are_told() -> None:
    prices, forecasts = world()
    free, paid = (economics_of(forecasts, prices, rules) for rules in (FREE, Assumptions(capital=1e6)))
    for own in paid.books:
        same = free.book(own.model, own.book, own.costs)
        assert same is not None
        assert own.figures is not None
        assert same.figures is not None
        assert own.figures.net.total_return < same.figures.net.total_return
        assert same.paid_bps == 0
        assert own.paid_bps is not None
        assert own.paid_bps == pytest.approx(5) if own.costs == "flat" else own.paid_bps > 2.5
        assert (own.figures.capacity is not None) == (own.costs == "market")


def test_every_sharpe_ratio_is_deflated_by_all_trials() -> None:
    prices, forecasts = world()
    trials = Trials(np.random.default_rng(1).normal(0, 0.05, 40), unknown=3)
    found = economics_of(forecasts, prices, trials=trials)
    assert found.trials is not None
    assert (found.trials.count, found.trials.known) == (43, 40)
    assert found.trials.variance == trials.variance
    book = found.book("m", "direction", "market")
    assert book is not None
    assert book.figures is not None
    assert book.figures.deflated_sharpe == deflated_sharpe_of(np.array(book.daily), trials)
    assert book.figures.deflated_sharpe < book.figures.probabilistic_sharpe
    undeflated = economics_of(forecasts, prices).book("m", "direction", "market")
    assert undeflated is not None
    assert undeflated.figures is not None
    assert undeflated.figures.deflated_sharpe is None


def test_a_benchmark_stands_beside_the_books_where_the_panel_has_it() -> None:
    prices, forecasts = world()
    assert [held.name for held in economics_of(forecasts, prices).alternatives[:2]] == ["buy and hold", "cash"]
    renamed = replace(prices, tickers=("SPY", *prices.tickers[1:]))
    others = economics_of(forecasts[forecasts["ticker"] != "T00"], renamed).alternatives
    spy = next(held for held in others if held.name == "SPY")
    opens = prices.values[0, CHANNELS.index("open"), -60:].astype(float)
    np.testing.assert_allclose(spy.daily[:-1], opens[2:] / opens[1:-1] - 1, rtol=1e-12)


def test_a_stop_closes_positions() -> None:
    prices, forecasts = world()
    stopped, held = (economics_of(forecasts, prices, Assumptions(stop_loss=stop)) for stop in (0.004, None))
    ours, theirs = (found.book("m", "long_only", "market") for found in (stopped, held))
    assert ours is not None
    assert theirs is not None
    assert ours.daily != theirs.daily


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rows: rows.drop(columns="probability_up"), "has no probability_up"),
        (lambda rows: rows.iloc[:0], "is empty"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), "of m twice"),
        (lambda rows: rows.assign(probability_up=1.5), r"must lie in \[0, 1\]"),
        (lambda rows: rows.assign(score=np.inf), "score of the table of forecasts must be finite"),
        (lambda rows: rows.assign(q05="low"), "q05 of the table of forecasts must hold numbers"),
        (lambda rows: rows.assign(ticker="GONE"), "the panel has no GONE"),
        (lambda rows: rows.assign(date=pd.Timestamp("1999-01-03")), "is not a session of the panel"),
        (lambda rows: rows.assign(model=None), "without a date, a ticker or a model"),
        (lambda rows: rows[rows["date"] == rows["date"].max()], "cannot be|can be entered yet"),
    ],
)
def test_a_table_that_is_none_is_refused_by_name(change: Any, match: str) -> None:
    prices, forecasts = world()
    with pytest.raises(PortfolioError, match=match):
        economics_of(change(forecasts), prices)


@pytest.mark.parametrize(
    "change",
    [
        {"books": ()}, {"books": ("direction", "direction")}, {"books": ("best",)}, {"sizing": "all in"},
        {"capital": 0.0}, {"gross": -1.0}, {"cost_bps": -1.0}, {"impact": float("nan")}, {"kelly_fraction": 0.0},
        {"stop_loss": 1.0}, {"quantiles": 1}, {"delisting_return": -1.5}, {"half_spread_bps": -1.0},
    ],
)  # fmt: skip
def test_assumptions_that_are_impossible_name_their_setting(change: dict[str, Any]) -> None:
    with pytest.raises(PortfolioError, match=r"BUSINESS_|COST_BPS"):
        Assumptions(**change)


def test_the_sentence_claims_what_the_interval_carries() -> None:
    prices = panel(sessions=220, tickers=20, seed=1)
    opens = prices.values[:, CHANNELS.index("open")].astype(float)
    scores = 1000 * (opens[:, 2:] / opens[:, 1:-1] - 1)[:, -60:]
    days = prices.sessions[-62:-2]
    noise = np.random.default_rng(5).standard_normal(scores.shape)
    assert "the whole interval is a profit" in (economics_of(table(prices, scores, days), prices, FREE).sentence)
    assert "the whole interval is a loss" in (economics_of(table(prices, -scores, days), prices, FREE).sentence)
    assert "do not show whether it earns or loses" in (economics_of(table(prices, noise, days), prices, FREE).sentence)
    few = economics_of(table(prices, scores[:, :10], days[:10]), prices, FREE)
    assert "10 sessions are too few" in few.sentence
    many = Trials(np.random.default_rng(0).normal(0, 5.0, 500))
    lucky = economics_of(table(prices, scores, days), prices, FREE, trials=many)
    assert "The luck of the best of 500 trials may explain the profit." in lucky.sentence


def test_held_out_returns_are_those_of_the_book_by_direction() -> None:
    prices, forecasts = world()
    daily = held_out_returns(forecasts, prices, 5.0)["m"]
    book = economics_of(forecasts, prices).book("m", "direction", "flat")
    assert book is not None
    assert book.figures is not None
    assert book.figures.net.total_return == pytest.approx(float(np.prod(1 + daily) - 1))
