"""Positions and profit and loss: timing, costs, laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from financial_assets.portfolio.performance import cumulative_return
from financial_assets.portfolio.simulation import buy_and_hold, profit_and_loss

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
books = shapes.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, shape, elements=st.sampled_from([-1.0, 0.0, 1.0])),
        hnp.arrays(np.float64, shape, elements=st.one_of(st.floats(-0.5, 0.5), st.just(math.nan))),
    )
)
costs = st.floats(0, 50)


def test_profit_and_loss_by_hand() -> None:
    """Two tickers, three sessions, 10 bp a side."""
    positions = [[1, 1, -1], [0, 1, 0]]
    returns = [[0.02, -0.01, 0.04], [0.10, 0.06, 0.10]]
    result = profit_and_loss(positions, returns, cost_bps=10)
    np.testing.assert_allclose(result.gross, [0.01, 0.025, -0.02])
    # Traded: 1 + 0 to enter; 0 + 1; the first turns round (2) and leaves (1), the second leaves (1).
    np.testing.assert_allclose(result.turnover, [0.5, 0.5, 2.0])
    np.testing.assert_allclose(result.costs, [0.0005, 0.0005, 0.002])
    np.testing.assert_allclose(result.net, [0.0095, 0.0245, -0.022])


def test_a_ledger_kept_open_by_open_agrees() -> None:
    """Shares bought and sold at the opens, from prices: the timing of the design, without this package's formulas."""
    random = np.random.default_rng(3)
    sessions, cost = 60, 0.0007
    opens = 100 * np.exp(np.cumsum(random.normal(0, 0.02, sessions + 2)))
    decided = random.choice([-1.0, 0.0, 1.0], sessions)
    profit, held = np.zeros(sessions), 0.0
    for t in range(sessions):  # decided after the close of t, held from the open of t+1 to the open of t+2
        profit[t] -= abs(decided[t] - held) * cost
        held = decided[t]
        shares = held / opens[t + 1]
        profit[t] += shares * (opens[t + 2] - opens[t + 1])
    profit[-1] -= abs(held) * cost
    result = profit_and_loss(decided[None, :], (opens[2:] / opens[1:-1] - 1)[None, :], cost_bps=7)
    np.testing.assert_allclose(result.net, profit, atol=1e-15)


def test_foresight_pays_and_the_same_foresight_a_session_late_does_not() -> None:
    random = np.random.default_rng(4)
    returns = random.normal(0, 0.01, (5, 2000))
    knows = np.sign(returns)
    on_time = profit_and_loss(knows, returns, 0).net
    late = profit_and_loss(np.roll(knows, 1, axis=1), returns, 0).net
    assert on_time.min() >= 0
    assert abs(late.mean()) < 4 * late.std() / np.sqrt(late.size)


@given(books, costs)
def test_laws_of_profit_and_loss(book: tuple[np.ndarray, np.ndarray], cost: float) -> None:
    positions, returns = book
    result, free = profit_and_loss(positions, returns, cost), profit_and_loss(positions, returns, 0)
    np.testing.assert_allclose(result.gross, free.net, atol=1e-15)
    assert (result.costs >= 0).all()
    assert (result.turnover >= 0).all()
    assert (result.turnover <= 3).all(), "at most a turn of a full position, and its exit"
    np.testing.assert_allclose(profit_and_loss(-positions, returns, cost).gross, -result.gross, atol=1e-15)
    np.testing.assert_allclose(profit_and_loss(-positions, returns, cost).costs, result.costs, atol=1e-15)
    order = np.random.default_rng(0).permutation(len(positions))
    np.testing.assert_allclose(profit_and_loss(positions[order], returns[order], cost).net, result.net, atol=1e-12)
    assert (result.held[np.isnan(returns)] == 0).all()


@given(books)
def test_at_the_break_even_cost_nothing_is_earned(book: tuple[np.ndarray, np.ndarray]) -> None:
    positions, returns = book
    free = profit_and_loss(positions, returns, 0)
    traded, gross = free.turnover.sum(), free.gross.sum()
    if traded > 0 and gross >= 0:
        at_it = profit_and_loss(positions, returns, gross / traded * 1e4)
        # Costs come first: they may ruin a book before it has earned them.
        assert at_it.wiped_out is not None or at_it.net.sum() == pytest.approx(0, abs=1e-12)


def test_a_position_that_stays_costs_its_entry_and_exit_only() -> None:
    returns = np.zeros((1, 100))
    assert profit_and_loss(np.ones((1, 100)), returns, 10).costs.sum() == pytest.approx(0.002)
    turning = np.where(np.arange(100) % 2, 1.0, -1.0)[None, :]
    assert profit_and_loss(turning, returns, 10).costs.sum() == pytest.approx(0.001 * (1 + 99 * 2 + 1))


def test_buy_and_hold_holds_what_can_be_traded() -> None:
    random = np.random.default_rng(5)
    returns = random.normal(0.001, 0.01, (3, 250))
    returns[0, :100] = math.nan  # listed later: its share of the capital waits
    result = buy_and_hold(returns, 0)
    np.testing.assert_allclose(result.gross, np.nan_to_num(returns).mean(axis=0))
    one = buy_and_hold(returns[1:2], 0)
    assert cumulative_return(one.net) == pytest.approx(np.prod(1 + returns[1]) - 1)


@pytest.mark.parametrize(
    ("positions", "returns", "cost", "named"),
    [
        ([[1, 1]], [[0.1]], 0, r"positions \(1, 2\), traded_returns \(1, 1\)"),
        ([1, 1], [0.1, 0.1], 0, r"positions must be \[ticker, session\]"),
        ([[]], [[]], 0, "positions is empty"),
        ([[math.nan]], [[0.1]], 0, "positions must be finite"),
        ([[math.inf]], [[0.1]], 0, "positions must be finite"),
        ([[1]], [[math.inf]], 0, "traded_returns must be finite"),
        ([[1]], [[-1.0]], 0, "traded_returns must be .*above -1"),
        ([[1]], [[0.1]], -1, "cost_bps"),
        ([[1]], [[0.1]], math.nan, "cost_bps"),
    ],
)
def test_bad_books_are_named(positions: list, returns: list, cost: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        profit_and_loss(positions, returns, cost)
