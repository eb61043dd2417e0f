"""The simulation against a slow ledger, its special cases, and its laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.portfolio.books import long_short, sign_of_probability
from financial_assets.portfolio.costs import Costs, SquareRootImpact
from financial_assets.portfolio.simulation import PortfolioReturns, profit_and_loss, simulate
from financial_assets.portfolio.traded import StoppedBook, TradedReturns, stop_loss, traded_returns
from tests.portfolio.ledger import keep_books

SEEDS = st.integers(0, 2**32 - 1)


def prices(random: np.random.Generator, names: int, sessions: int, gaps: float = 0.1) -> np.ndarray:
    """Opens ``[ticker, session + 2]`` with halts, late listings and delistings."""
    opens = 50 * np.exp(np.cumsum(random.normal(0, 0.02, (names, sessions + 2)), axis=1))
    opens[random.random(opens.shape) < gaps] = np.nan
    for name in range(0, names, 3):
        opens[name, random.integers(2, sessions + 2) :] = np.nan
    for name in range(1, names, 3):
        opens[name, : random.integers(0, sessions)] = np.nan
    return opens


@pytest.fixture(params=range(4))
def world(request: pytest.FixtureRequest) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    random = np.random.default_rng(request.param)
    opens = prices(random, 7, 40)
    return random, random.normal(0, 0.2, (7, 40)), opens


def test_a_ledger_kept_trade_by_trade_agrees(world) -> None:
    """All costs, halts, delistings and interest at once."""
    random, weights, opens = world
    spread, volatility = random.uniform(1e-4, 1e-3, weights.shape), random.uniform(0.01, 0.03, weights.shape)
    volume = random.uniform(1e6, 1e7, weights.shape)
    costs = Costs(3.0, spread, SquareRootImpact(0.8, volatility, volume), 0.02)
    book = simulate(weights, traded_returns(opens, delisting_return=-0.3), costs, capital=2e6, cash=np.full(40, 1e-4))

    def fee(name: int, t: int, share: float) -> float:
        impact = 0.8 * volatility[name, t] * math.sqrt(share * 2e6 / volume[name, t])
        return 3e-4 + spread[name, t] + impact

    slow = keep_books(weights, opens, fee, borrow_per_year=0.02, cash_return=1e-4, delisting_return=-0.3)
    np.testing.assert_allclose(book.net, slow, atol=1e-13)
    assert min(c.max() for c in (book.charges.spread, book.charges.impact, book.charges.borrow)) > 0
    frame = book.frame()
    np.testing.assert_allclose(
        frame["net"],
        frame["gross"] + frame["interest"] - frame[["commission", "spread", "impact", "borrow"]].sum(axis=1),
    )
    np.testing.assert_allclose(frame["equity"], np.cumprod(1 + slow))
    assert frame.index.tolist() == list(range(40))


def bars(random: np.random.Generator, opens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return opens * (1 + random.uniform(0, 0.03, opens.shape)), opens * (1 - random.uniform(0, 0.03, opens.shape))


def slow_stops(
    weights: np.ndarray, opens: np.ndarray, highs: np.ndarray, lows: np.ndarray, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights that are left and prices of fills within a session, one name and session after the other."""
    kept, fills = weights.copy(), np.full(weights.shape, np.nan)
    for name in range(len(weights)):
        side, stopped, stop = 0.0, 0.0, math.nan
        for t in range(weights.shape[1]):
            want, bar = np.sign(weights[name, t]), t + 1
            if want != stopped:
                stopped = 0.0
            if np.isnan(opens[name, bar]):
                continue
            if side > 0 and opens[name, bar] <= stop and want == side:
                stopped = side
            if side < 0 and opens[name, bar] >= stop and want == side:
                stopped = side
            if want == stopped:
                kept[name, t], want = 0.0, 0.0
            if want not in (0, side):
                stop = opens[name, bar] * (1 - want * distance)
            side = want
            if (side > 0 and lows[name, bar] <= stop) or (side < 0 and highs[name, bar] >= stop):
                fills[name, t], stopped, side = stop, side, 0.0
    return kept, fills


@pytest.mark.parametrize("held_for", [1, 8])
def test_the_ledger_agrees_on_stops(world, held_for: int) -> None:
    random, weights, opens = world
    weights = np.repeat(weights[:, ::held_for], held_for, axis=1)[:, :40]
    highs, lows = bars(random, opens)
    kept, fills = slow_stops(weights, opens, highs, lows, 0.025)
    stopped = stop_loss(weights, opens, highs, lows, 0.025, traded_returns(opens, delisting_return=-0.3))
    np.testing.assert_array_equal(stopped.weights, kept)
    np.testing.assert_array_equal(stopped.traded.closed, ~np.isnan(fills))
    assert stopped.traded.closed.sum() >= 5
    slow = keep_books(kept, opens, lambda *_: 7e-4, delisting_return=-0.3, fills=fills)
    book = simulate(stopped.weights, stopped.traded, Costs(7.0))
    np.testing.assert_allclose(book.net, slow, atol=1e-13)
    assert not np.array_equal(kept, weights), "some stayed out after a stop, or left at a gap"


def one(weights: list[float], opens: list[float], highs: list[float], lows: list[float]) -> StoppedBook:
    """A single name with a stop at 5 %; bars from the session of the first entry on."""
    whole = [np.array([[row[0], *row]]) for row in (opens, highs, lows)]
    return stop_loss([weights], *whole, 0.05, traded_returns(whole[0]))


def test_a_stop_is_filled_at_the_worse_of_stop_and_open() -> None:
    touched = one([1.0, 1.0], [100, 97, 99], [101, 99, 99], [94, 95, 98])
    assert touched.traded.returns[0, 0] == pytest.approx(-0.05), "at the stop, though it closed far above"
    assert touched.weights.tolist() == [[1, 0]], "and it stays out while the book wants the same side"
    gap = one([1.0, 1.0], [100, 90, 99], [101, 99, 99], [98, 89, 98])
    assert gap.traded.returns[0, 0] == pytest.approx(-0.10), "the next open was beyond the stop: no better price"
    assert gap.weights.tolist() == [[1, 0]]
    assert not gap.traded.closed.any()
    short = one([-1.0, 1.0], [100, 104, 99], [105, 104, 99], [99, 100, 98])
    assert short.traded.returns[0, 0] == pytest.approx(0.05)
    assert short.weights.tolist() == [[-1, 1]], "the other side is entered"
    kept = one([1.0, 0.5], [100, 99, 99], [100, 99, 99], [95.1, 96, 98])
    assert not kept.traded.closed.any()
    assert kept.weights.tolist() == [[1, 0.5]]


@given(SEEDS, st.floats(0, 30))
def test_the_equal_share_book_is_a_special_case(seed: int, cost: float) -> None:
    random = np.random.default_rng(seed)
    shape = (int(random.integers(1, 9)), int(random.integers(1, 30)))
    probability, returns = random.random(shape), random.normal(0, 0.1, shape).clip(-0.9)
    probability[random.random(shape) < 0.2] = 0.5
    returns[random.random(shape) < 0.2] = np.nan
    before = by_hand(np.sign(probability - 0.5), returns, cost)
    special = profit_and_loss(np.sign(probability - 0.5), returns, cost)
    for name, series in before.items():
        np.testing.assert_array_equal(getattr(special, name), series, err_msg="bit by bit")
    general = simulate(sign_of_probability(probability), returns, Costs(cost), rebalancing="free")
    for name in ("gross", "costs", "turnover", "net"):
        np.testing.assert_allclose(getattr(general, name), getattr(special, name), atol=1e-14)
    assert general.wiped_out == special.wiped_out


def by_hand(positions: np.ndarray, returns: np.ndarray, cost_bps: float) -> dict[str, np.ndarray]:
    """What this package computed before costs had causes, operation by operation."""
    known = ~np.isnan(returns)
    held = np.where(known, positions, 0.0)
    traded = np.abs(np.diff(held, axis=1, prepend=0.0))
    traded[:, -1] += np.abs(held[:, -1])
    turnover = traded.mean(axis=0)
    gross, costs = (held * np.where(known, returns, 0.0)).mean(axis=0), turnover * cost_bps * 1e-4
    ruined = np.flatnonzero(gross - costs <= -1)
    for series in (gross, costs, turnover, held):
        series[..., ruined[0] + 1 if ruined.size else len(gross) :] = 0.0
    return {"gross": gross, "costs": costs, "turnover": turnover, "held": held, "net": np.maximum(gross - costs, -1)}


@pytest.mark.parametrize("rebalancing", ["paid", "free"])
@given(SEEDS)
def test_laws(rebalancing, seed: int) -> None:
    random = np.random.default_rng(seed)
    opens, weights = prices(random, 5, 12), random.normal(0, 0.3, (5, 12))
    traded = traded_returns(opens)
    volume = random.uniform(1e6, 1e7, weights.shape)

    def run(scale: float = 1.0, capital: float = 1e6, order: np.ndarray | slice = slice(None)) -> PortfolioReturns:
        costs = Costs(5 * scale, 1e-4 * scale, SquareRootImpact(scale, 0.02, volume[order]), 0.01 * scale)
        market = TradedReturns(*(getattr(traded, n)[order] for n in ("returns", "tradable", "closed", "delisted")))
        return simulate(weights[order], market, costs, capital=capital, rebalancing=rebalancing)

    book = run()
    order = random.permutation(5)
    np.testing.assert_allclose(run(order=order).net, book.net, atol=1e-12)
    np.testing.assert_allclose(run(order=order).held, book.held[order], atol=1e-12)
    free, dear, larger = run(0.0), run(2.0), run(capital=4e6)
    assert (free.costs == 0).all()
    assert free.net.sum() >= book.net.sum() - 1e-3 * (rebalancing == "paid") >= dear.net.sum() - 2e-3
    for cause in ("commission", "spread", "impact", "borrow"):
        assert (getattr(book.charges, cause) >= 0).all()
    if rebalancing == "free":
        np.testing.assert_allclose(dear.charges.impact, 2 * book.charges.impact)
        np.testing.assert_allclose(larger.charges.impact, 2 * book.charges.impact, err_msg="root of four")
        np.testing.assert_allclose(dear.gross, free.gross)
    assert (book.turnover >= 0).all()
    np.testing.assert_allclose(book.costs, book.charges.total)
    assert (book.held[traded.tradable] == weights[traded.tradable]).all()


def test_a_halted_position_stays_and_a_delisted_one_is_lost() -> None:
    nan = math.nan
    opens = [[100.0, 100, 110, nan, 121, 121, 121], [10.0, 10, 10, nan, nan, nan, nan]]
    traded = traded_returns(opens, delisting_return=[0.0, -0.4])
    np.testing.assert_allclose(traded.returns, [[0.1, 0, 0.1, 0, 0], [0, -0.4, 0, 0, 0]])
    assert traded.tradable.tolist() == [[True, True, False, True, True], [True, True, False, False, False]]
    assert traded.delisted.tolist() == [[False] * 5, [False, True, False, False, False]]
    weights = [[0.5, 0.5, 0, 0, 0], [0.5, 0.5, 0.5, 0.5, 0.5]]
    for rebalancing in ("free", "paid"):
        book = simulate(weights, traded, rebalancing=rebalancing)
        np.testing.assert_allclose(book.gross[:2], [0.05, -0.2])
        assert book.held[0, 2] > 0.49, "it could not be sold"
        assert book.held[1, 2:].tolist() == [0, 0, 0], "and what is gone cannot be bought"
        assert book.held[0, 3:].tolist() == [0, 0]
    assert book.turnover[1] == pytest.approx(abs(0.5 - 0.55 / 1.05) + abs(0.5 - 0.5 / 1.05)), (
        "nothing is sold at the end"
    )


def test_only_paid_rebalancing_trades_what_has_drifted() -> None:
    returns = [[0.1, -0.05, 0.2], [0.0, 0.03, -0.1]]
    weights = np.full((2, 3), 0.5)
    free, paid = (simulate(weights, returns, rebalancing=how) for how in ("free", "paid"))
    np.testing.assert_allclose(free.turnover, [1, 0, 1])
    assert (paid.turnover[1:] > free.turnover[1:]).all()
    np.testing.assert_allclose(free.net, paid.net)
    alone = simulate([[1.0, 1.0, 1.0]], [returns[0]])
    np.testing.assert_allclose(alone.turnover, [1, 0, 1.2], atol=1e-15), "a whole position never drifts"


def test_a_book_that_loses_everything_trades_no_more() -> None:
    for rebalancing in ("free", "paid"):
        book = simulate([[-1.0, -1, -1, -1]], [[0.1, 1.5, -0.2, 0.1]], Costs(10), rebalancing=rebalancing)
        assert book.wiped_out == 1
        assert book.net[1] == -1
        assert book.net[2:].tolist() == [0, 0]
        assert book.costs[2:].tolist() == [0, 0]
        assert (book.held[:, 2:] == 0).all()


def test_cash_is_earned_on_what_is_not_invested() -> None:
    cash = np.array([1e-4, 2e-4])
    flat = np.zeros((2, 2))
    assert simulate([[0, 0], [0, 0]], flat, cash=cash).net.tolist() == cash.tolist()
    np.testing.assert_allclose(simulate([[0.5, 0.5], [-0.5, -0.5]], flat, cash=cash).net, cash)
    np.testing.assert_allclose(simulate([[1, 1], [1, 1]], flat, cash=cash).net, -cash, err_msg="borrowed")


def test_a_universe_of_one_and_of_nothing() -> None:
    nothing = simulate(long_short([[math.nan] * 3, [math.nan] * 3]), np.zeros((2, 3)), Costs(10))
    assert (nothing.net == 0).all()
    assert (nothing.turnover == 0).all()
    never = traded_returns(np.full((2, 5), math.nan))
    assert (simulate(np.ones((2, 3)), never, Costs(10)).held == 0).all()


@pytest.mark.parametrize(
    ("weights", "traded", "more", "named"),
    [
        ([[1, 1]], [[0.1]], {}, r"weights \(1, 2\), traded_returns \(1, 1\)"),
        ([[math.nan]], [[0.1]], {}, "weights must be finite: 1 .* ticker 0 in session 0"),
        ([[1.0]], [[-1.0]], {}, "traded_returns must be .*above -1"),
        ([[1.0]], [[0.1]], {"cash": [0.0, 0.0]}, "cash must hold one return for each of 1 sessions, not 2"),
        ([[1.0]], [[0.1]], {"cash": [math.nan]}, "cash holds 1"),
        ([[1.0]], [[0.1]], {"rebalancing": "never"}, "rebalancing must be 'paid' or 'free'"),
        ([[1.0]], [[0.1]], {"costs": Costs(impact=SquareRootImpact(1, 0.02, 1e6))}, "capital must be given"),
        ([[1.0]], [[0.1]], {"costs": Costs(half_spread=-1e-4)}, "half_spread must be at least 0"),
        ([[1.0]], [[0.1]], {"costs": Costs(half_spread=[1e-4, 1e-4])}, "half_spread must be one number"),
        ([[1.0]], [[0.1]], {"costs": Costs(borrow_per_year=math.inf)}, "borrow_per_year must be finite"),
    ],
)
def test_bad_arguments_are_named(weights: list, traded: list, more: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        simulate(weights, traded, **more)


@pytest.mark.parametrize("volume", [0.0, math.nan])
def test_no_volume_is_no_market(volume: float) -> None:
    impact = SquareRootImpact(1.0, 0.02, [[1e6, volume]])
    costs = Costs(impact=impact)
    with pytest.raises(ValueError, match=r"dollar_volume above 0.* 1 positions, the first of ticker 0 in session 1"):
        simulate([[1.0, 0.5]], [[0.1, 0.1]], costs, capital=1e5)
    assert simulate([[0.0, 0.0]], [[0.1, 0.1]], costs, capital=1e5).net.tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"half_spread is not known for 1 positions"):
        simulate([[1.0]], [[0.1]], Costs(half_spread=math.nan))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"opens": [[1.0, 2.0]]}, "opens must have three sessions"),
        ({"opens": [[1.0, 0.0, 1.0]]}, "opens must be above 0"),
        ({"opens": [[1.0, math.inf, 1.0]]}, "opens must be finite"),
        ({"opens": [[1.0, 1.0, 1.0]], "delisting_return": -1.5}, "delisting_return must be finite and at least -1"),
        ({"opens": [[1.0, 1.0, 1.0]], "delisting_return": [0.0, 0.0]}, "delisting_return must be one number or one"),
    ],
)
def test_bad_opens_are_named(change: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        traded_returns(**change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"distance": 0.0}, "distance must be above 0"),
        ({"distance": math.nan}, "distance must be above 0"),
        ({"highs": [[0.5, 0.5, 0.5]]}, "opens must lie between lows and highs"),
        ({"highs": [[1.0, math.nan, 1.0]]}, "highs and lows must be known where opens are"),
        ({"weights": [[1.0, 1.0]]}, r"weights \(1, 2\), returns \(1, 1\)"),
        ({"opens": [[1.0] * 4], "highs": [[1.0] * 4], "lows": [[1.0] * 4]}, "two sessions more than weights"),
    ],
)
def test_bad_stops_are_named(change: dict, named: str) -> None:
    bar = [[1.0, 1.0, 1.0]]
    arguments = {"weights": [[1.0]], "opens": bar, "highs": bar, "lows": bar, "distance": 0.1}
    with pytest.raises(ValueError, match=named):
        stop_loss(**{**arguments, **change}, traded=traded_returns(bar))
    with pytest.raises(ValueError, match="returns must be at least -1"):
        TradedReturns(*(np.array(value) for value in ([[-1.5]], [[True]], [[False]], [[False]])))
