"""Nothing that is decided depends on what comes later; planted violators are caught."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from financial_assets.portfolio.books import centred_ranks, long_only, long_short, market_neutral, sign_of_probability
from financial_assets.portfolio.costs import Costs, average_dollar_volume
from financial_assets.portfolio.simulation import simulate
from financial_assets.portfolio.sizing import (
    cap_gross,
    cap_names,
    equal,
    fractional_kelly,
    inverse_volatility,
    volatility_target,
)
from financial_assets.portfolio.traded import stop_loss, traded_returns

NAMES, SESSIONS = 6, 60
Decide = Callable[[dict[str, np.ndarray]], np.ndarray]


def known(seed: int) -> dict[str, np.ndarray]:
    """Panels by name, each indexed by the session at whose close (or, for bars, in which) it becomes known."""
    random = np.random.default_rng(seed)
    shape = (NAMES, SESSIONS + 2)
    opens = 50 * np.exp(np.cumsum(random.normal(0, 0.02, shape), axis=1))
    return {
        "scores": random.standard_normal(shape),
        "probability": random.uniform(0.01, 0.99, shape),
        "risk": random.uniform(0.01, 0.05, shape),
        "opens": opens,
        "highs": opens * random.uniform(1, 1.04, shape),
        "lows": opens * random.uniform(0.96, 1, shape),
    }


def looks_ahead(decide: Decide, *, by: int = 0) -> bool:
    """Whether any change of what becomes known more than ``by`` sessions after a decision changes the decision."""
    for seed in range(6):
        data, later = known(seed), known(seed + 100)
        before = decide(data)
        for t in (25, 40, SESSIONS - 3):
            changed = {name: np.where(np.arange(SESSIONS + 2) > t + by, later[name], data[name]) for name in data}
            if not np.array_equal(decide(changed)[:, : t + 1], before[:, : t + 1]):
                return True
    return False


def now(data: dict[str, np.ndarray], name: str) -> np.ndarray:
    return data[name][:, :SESSIONS]


def returns(data: dict[str, np.ndarray]) -> np.ndarray:
    return traded_returns(data["opens"]).returns


def book(data: dict[str, np.ndarray]) -> np.ndarray:
    return long_short(now(data, "scores"))


CAUSAL: dict[str, Decide] = {
    "long only": lambda d: long_only(now(d, "scores")),
    "long short": book,
    "market neutral": lambda d: market_neutral(now(d, "scores"), betas=1 + now(d, "risk")),
    "by rank": lambda d: market_neutral(centred_ranks(now(d, "scores"))),
    "by sign": lambda d: sign_of_probability(now(d, "probability")),
    "equal": lambda d: equal(market_neutral(now(d, "scores"))),
    "inverse volatility": lambda d: inverse_volatility(book(d), now(d, "risk")),
    "kelly": lambda d: fractional_kelly(now(d, "probability"), -now(d, "risk"), now(d, "risk")),
    "caps": lambda d: cap_gross(cap_names(market_neutral(now(d, "scores")), 0.1), 0.3),
    "volatility target": lambda d: volatility_target(book(d), returns(d), 0.1),
    "dollar volume": lambda d: average_dollar_volume(now(d, "risk"), 5),
}
VIOLATORS: dict[str, Decide] = {
    "scores of tomorrow": lambda d: long_short(d["scores"][:, 1 : SESSIONS + 1]),
    "scores beside their mean over all sessions": lambda d: market_neutral(
        now(d, "scores") - now(d, "scores").mean(axis=1, keepdims=True)
    ),
    "volatility of the whole book": lambda d: book(d) * 0.1 / (book(d) * returns(d)).sum(axis=0).std(),
    "a return that ends at the next open": lambda d: volatility_target(
        book(d), np.roll(returns(d), -1, axis=1), 0.1, warm_up=1
    ),
}


@pytest.mark.parametrize("decide", CAUSAL.values(), ids=CAUSAL)
def test_a_decision_depends_on_nothing_later(decide: Decide) -> None:
    assert not looks_ahead(decide)


@pytest.mark.parametrize("decide", VIOLATORS.values(), ids=VIOLATORS)
def test_planted_violators_are_caught(decide: Decide) -> None:
    assert looks_ahead(decide)


def stopped(data: dict[str, np.ndarray]) -> np.ndarray:
    weights = np.repeat(book(data)[:, ::10], 10, axis=1)
    bars = (data[name] for name in ("opens", "highs", "lows"))
    return stop_loss(weights, *bars, 0.05, traded_returns(data["opens"])).weights


def test_a_stop_knows_the_open_at_which_it_trades_and_nothing_after() -> None:
    """The position of session t is taken at the open of t+1: what prices do after that open must not change it."""
    data, later = known(0), known(100)
    for t in (20, 30, 45):
        session = np.arange(SESSIONS + 2)
        after = session > t
        changed = {"scores": data["scores"], "opens": np.where(session > t + 1, later["opens"], data["opens"])}
        for name in ("highs", "lows"):
            changed[name] = np.where(after, changed["opens"] * later[name] / later["opens"], data[name])
        np.testing.assert_array_equal(stopped(changed)[:, : t + 1], stopped(data)[:, : t + 1])
        assert not np.array_equal(stopped(changed), stopped(data))
    assert looks_ahead(stopped), "that open itself is used: a gap is left there"


def test_what_is_held_and_traded_depends_on_no_later_return() -> None:
    """Weights drift with returns until the open of t+1: those of the decision of t come after."""
    data, later = known(0), known(100)
    weights, t = market_neutral(now(data, "scores")), 30
    for rebalancing in ("free", "paid"):
        one = simulate(weights, traded_returns(data["opens"]), Costs(5.0), rebalancing=rebalancing)
        opens = np.where(np.arange(SESSIONS + 2) > t + 1, later["opens"], data["opens"])
        other = simulate(weights, traded_returns(opens), Costs(5.0), rebalancing=rebalancing)
        np.testing.assert_array_equal(one.held[:, : t + 1], other.held[:, : t + 1])
        np.testing.assert_array_equal(one.turnover[: t + 1], other.turnover[: t + 1])
        np.testing.assert_array_equal(one.net[:t], other.net[:t])
        assert one.net[t] != other.net[t]
