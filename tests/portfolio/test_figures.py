"""The figures of a book beside alternatives: they agree with their parts, and a ruined book flatters nobody."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from financial_assets.portfolio import figures, performance
from financial_assets.portfolio.books import long_short
from financial_assets.portfolio.capacity import break_even_bps, capacity
from financial_assets.portfolio.costs import Costs, SquareRootImpact
from financial_assets.portfolio.figures import Confidence, book_figures, series_figures
from financial_assets.portfolio.selection import Trials, deflated_sharpe_of, probabilistic_sharpe_ratio
from financial_assets.portfolio.simulation import PortfolioReturns, buy_and_hold, simulate

RANDOM = np.random.default_rng(5)
MARKET = RANDOM.normal(0.0004, 0.01, 500)
RETURNS = MARKET + RANDOM.normal(0, 0.015, (20, 500))
SCORES = 0.1 * (RETURNS - MARKET) / 0.015 + RANDOM.standard_normal(RETURNS.shape)
CASH = np.full(500, 1e-4)
TRIALS = Trials(RANDOM.normal(0, 0.04, 30))


@pytest.fixture(scope="module")
def book() -> PortfolioReturns:
    costs = Costs(1.0, 1e-4, SquareRootImpact(1.0, 0.018, 1e8), 0.005)
    return simulate(long_short(SCORES), RETURNS, costs, capital=1e6, cash=CASH)


@pytest.fixture(scope="module")
def found(book: PortfolioReturns) -> figures.BookFigures:
    alternatives = {"buy and hold": buy_and_hold(RETURNS, 1.0).net, "index": MARKET}
    return book_figures("quintiles", book, alternatives=alternatives, cash=CASH, trials=TRIALS)


def test_the_figures_are_those_of_the_parts(book: PortfolioReturns, found: figures.BookFigures) -> None:
    excess = book.net - CASH
    assert found.net.sharpe is not None
    assert found.net.sortino is not None
    assert found.net.max_drawdown is not None
    assert found.turnover is not None
    assert found.net.sharpe.estimate == pytest.approx(performance.sharpe_ratio(excess))
    assert found.net.sortino.estimate == pytest.approx(performance.sortino_ratio(excess))
    assert found.net.max_drawdown.estimate == pytest.approx(performance.max_drawdown(book.net))
    assert found.net.annual_return == performance.annual_return(book.net)
    assert found.turnover.estimate == pytest.approx(book.turnover.mean())
    assert sum(found.cost_per_year.values()) == pytest.approx(book.costs.mean() * 252)
    assert found.gross_exposure == pytest.approx(1)
    assert found.net_exposure == pytest.approx(0, abs=1e-12)
    assert found.break_even_bps == break_even_bps(book)
    assert found.capacity == capacity(book)
    assert found.half_sharpe_capacity == capacity(book, "sharpe", kept=0.5)
    assert found.probabilistic_sharpe == probabilistic_sharpe_ratio(excess)
    assert found.deflated_sharpe == deflated_sharpe_of(excess, TRIALS) < found.probabilistic_sharpe
    assert found.trials == (30, 30)


def test_alternatives_are_beside_it_on_the_same_days(book: PortfolioReturns, found: figures.BookFigures) -> None:
    names = [other.figures.name for other in found.alternatives]
    assert names == ["buy and hold", "index", "cash"]
    index, cash = found.alternatives[1:]
    assert index.advantage is not None
    assert cash.advantage is not None
    assert index.advantage.estimate == pytest.approx((book.net - MARKET).mean() * 252)
    assert cash.advantage.estimate == pytest.approx((book.net - CASH).mean() * 252)
    assert cash.figures.sharpe is None
    assert cash.figures.annual_return == pytest.approx(1.0001**252 - 1)


def test_the_frame_has_every_figure_once(found: figures.BookFigures) -> None:
    frame = found.frame()
    assert frame.columns.tolist() == ["series", "figure", "estimate", "low", "high"]
    assert not frame.duplicated(["series", "figure"]).any()
    indexed = frame.set_index(["series", "figure"])
    assert indexed.loc[("quintiles", "sharpe"), "low"] == found.net.sharpe.low
    assert indexed.loc[("quintiles", "impact_per_year"), "estimate"] == found.cost_per_year["impact"]
    assert math.isnan(indexed.loc[("cash", "sharpe"), "estimate"])
    assert indexed.loc[("index", "advantage_over"), "high"] == found.alternatives[1].advantage.high
    assert set(frame["series"]) == {"quintiles", "quintiles, before costs", "buy and hold", "index", "cash"}
    assert isinstance(found.net.frame(), pd.DataFrame)


def test_figures_are_repeatable_and_intervals_as_wide_as_asked(book: PortfolioReturns) -> None:
    narrow, again, wide = (series_figures("s", book.net, confidence=Confidence(level)) for level in (0.8, 0.8, 0.99))
    assert narrow == again
    for name in ("mean_return", "sharpe", "sortino", "calmar", "max_drawdown", "hit_rate"):
        inside, outside = getattr(narrow, name), getattr(wide, name)
        assert outside.low <= inside.low <= inside.high <= outside.high


def test_a_ruined_book_flatters_nobody() -> None:
    returns = np.where(np.arange(200) == 150, 2.0, -0.01)[None, :]
    ruined = simulate(-np.ones((1, 200)), returns, Costs(1.0))
    found = book_figures("short", ruined, trials=TRIALS)
    assert (found.net.wiped_out, found.net.sessions) == (150, 151)
    assert found.net.annual_return == found.net.total_return == -1
    assert (found.probabilistic_sharpe, found.deflated_sharpe) == (0, 0)
    assert found.gross_exposure == pytest.approx(1), "of the days on which it held something"
    assert found.capacity is None
    assert found.alternatives[0].advantage.days == 151


def test_a_book_that_never_trades() -> None:
    found = book_figures("none", simulate(np.zeros((2, 50)), np.zeros((2, 50)), Costs(5.0)))
    assert found.net.sharpe is None
    assert found.break_even_bps is None
    assert found.deflated_sharpe is None
    assert math.isnan(found.probabilistic_sharpe)
    assert found.net.total_return == 0
    short = book_figures("few", simulate(np.ones((1, 5)), np.full((1, 5), 0.01)))
    assert short.net.mean_return is None
    assert short.turnover is None


def test_bad_arguments_are_named(book: PortfolioReturns) -> None:
    with pytest.raises(ValueError, match=r"book \(500,\), cash \(3,\)"):
        book_figures("b", book, cash=[0.0] * 3)
    with pytest.raises(ValueError, match=r"book \(500,\), index \(2,\)"):
        book_figures("b", book, alternatives={"index": [0.0, 0.1]})
    with pytest.raises(ValueError, match="index holds 1"):
        book_figures("b", book, alternatives={"index": [math.nan, *[0.0] * 499]})
    with pytest.raises(ValueError, match="alternatives must not name cash"):
        book_figures("b", book, alternatives={"cash": CASH})
    with pytest.raises(ValueError, match=r"returns \(2,\), cash \(1,\)"):
        series_figures("s", [0.1, 0.2], cash=[0.0])
    with pytest.raises(ValueError, match="level must lie"):
        Confidence(1.0)
