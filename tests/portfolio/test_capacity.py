"""Break-even cost and capacity: simulating at them earns what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from financial_assets.portfolio.books import long_short
from financial_assets.portfolio.capacity import break_even_bps, capacity
from financial_assets.portfolio.costs import Costs, SquareRootImpact
from financial_assets.portfolio.performance import sharpe_ratio
from financial_assets.portfolio.simulation import PortfolioReturns, simulate

RANDOM = np.random.default_rng(0)
RETURNS = RANDOM.normal(0, 0.02, (40, 600))
SCORES = 0.08 * RETURNS / 0.02 + RANDOM.standard_normal(RETURNS.shape)
VOLUME = RANDOM.uniform(1e6, 1e8, (40, 1))
SPREAD = RANDOM.uniform(1e-4, 3e-4, (40, 1))


def book(capital: float, *, flat_bps: float = 1.0, skill: float = 1.0) -> PortfolioReturns:
    costs = Costs(flat_bps, SPREAD, SquareRootImpact(0.7, 0.02, VOLUME), 0.01)
    return simulate(long_short(SCORES), skill * RETURNS, costs, capital=capital, rebalancing="free")


def test_at_the_break_even_cost_nothing_is_earned() -> None:
    found = break_even_bps(book(1e6))
    assert found is not None
    assert book(1e6, flat_bps=found.estimate).net.mean() == pytest.approx(0, abs=1e-15)
    assert found.low < found.estimate < found.high
    assert book(1e6, flat_bps=found.high).net.mean() < 0
    dearer = break_even_bps(book(1e6, flat_bps=9.0))
    assert dearer is not None
    assert dearer.estimate == pytest.approx(found.estimate), "whatever flat cost was charged"
    losing = break_even_bps(book(1e6, skill=-1.0))
    assert losing is not None
    assert losing.estimate < 0


@pytest.mark.parametrize("simulated", [1e4, 1e6])
def test_at_the_capacity_nothing_is_earned_and_at_the_half_half(simulated: float) -> None:
    """Simulations at the capital that was computed from another one."""
    small = book(simulated)
    before = small.net + small.charges.impact
    whole, half = capacity(small), capacity(small, kept=0.5)
    assert whole is not None
    assert half is not None
    assert book(whole.estimate).net.mean() == pytest.approx(0, abs=1e-12)
    assert book(half.estimate).net.mean() == pytest.approx(before.mean() / 2)
    assert 0 <= whole.low < whole.estimate < whole.high
    assert half.estimate == pytest.approx(whole.estimate / 4), "root law"
    at_zero, at_half = capacity(small, "sharpe"), capacity(small, "sharpe", kept=0.5)
    assert at_zero is not None
    assert at_half is not None
    assert at_zero.estimate == pytest.approx(whole.estimate)
    assert sharpe_ratio(book(at_half.estimate).net) == pytest.approx(sharpe_ratio(before) / 2)
    assert at_half.low < at_half.estimate < at_half.high


def test_a_losing_book_has_no_capacity() -> None:
    for figure in ("return", "sharpe"):
        found = capacity(book(1e6, skill=-1.0), figure)
        assert found is not None
        assert found.estimate == 0


@pytest.mark.statistics
def test_the_interval_of_capacity_covers() -> None:
    """Truth from a very long history of the same book."""

    def run(seed: int, sessions: int) -> PortfolioReturns:
        random = np.random.default_rng(seed)
        returns = random.normal(0, 0.02, (10, sessions))
        scores = 0.08 * returns / 0.02 + random.standard_normal(returns.shape)
        costs = Costs(impact=SquareRootImpact(0.7, 0.02, 1e7))
        return simulate(long_short(scores), returns, costs, capital=1e5, rebalancing="free")

    truth = capacity(run(99, 200_000), draws=100)
    assert truth is not None
    found = [capacity(run(seed, 500), draws=300) for seed in range(300)]
    covered = np.mean([one is not None and one.low <= truth.estimate <= one.high for one in found])
    assert 0.91 < covered < 0.985


def test_what_has_no_answer() -> None:
    free = simulate([[0.5] * 30], [[0.01, -0.01] * 15])
    with pytest.raises(ValueError, match="book must be simulated with a capital and a market impact"):
        capacity(free)
    for figure, kept, named in (
        ("profit", 0.0, "figure must be one of"),
        ("return", 1.0, "kept must be"),
        ("return", math.nan, "kept must be"),
    ):
        with pytest.raises(ValueError, match=named):
            capacity(book(1e6), figure, kept=kept)
    assert break_even_bps(simulate([[0.0] * 30], [[0.01] * 30])) is None
    assert break_even_bps(simulate([[0.5] * 19], [[0.01] * 19])) is None
    ruined = simulate(
        [[-1.0] * 30], [[0.01, 2.0] + [0.01] * 28], Costs(impact=SquareRootImpact(1, 0.02, 1e9)), capital=1.0
    )
    assert ruined.wiped_out == 1
    assert capacity(ruined) is None
    assert break_even_bps(ruined) is None
