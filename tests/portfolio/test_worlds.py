"""Simulated markets: no skill earns nothing that an interval would believe, and skill earns what the law predicts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from financial_assets.portfolio.books import centred_ranks, long_short, market_neutral, sign_of_probability
from financial_assets.portfolio.costs import Costs, SquareRootImpact
from financial_assets.portfolio.estimates import sharpe_interval
from financial_assets.portfolio.fundamental_law import expected_sharpe, from_rank_correlation, transfer_coefficient
from financial_assets.portfolio.performance import sharpe_ratio
from financial_assets.portfolio.simulation import simulate
from tests.portfolio.worlds import World, persistent, world

NAMES, SESSIONS = 30, 500
COSTS = Costs(2.0, 2e-4, SquareRootImpact(1.0, 0.02, 5e7), 0.01)

BOOKS = {
    "quintiles": long_short,
    "market neutral": market_neutral,
    # Long or short in all: the common factor is in its profit.
    "sign": lambda scores: sign_of_probability(1 / (1 + np.exp(-scores))),
}


def many(light: int, heavy: int) -> list:
    return [light, pytest.param(heavy, marks=pytest.mark.statistics)]


@pytest.mark.parametrize("worlds", many(40, 500))
@pytest.mark.parametrize("build", BOOKS.values(), ids=BOOKS)
def test_without_skill_the_interval_of_the_sharpe_ratio_covers_zero(build, worlds: int) -> None:
    free, claimed = 0, 0
    for seed in range(worlds):
        random = np.random.default_rng(seed)
        market = world(random, NAMES, SESSIONS)
        weights = build(persistent(random, NAMES, SESSIONS, 0.9))
        gross = sharpe_interval(simulate(weights, market.returns).net)
        net = sharpe_interval(simulate(weights, market.returns, COSTS, capital=1e7).net)
        assert gross is not None
        assert net is not None
        free += gross.spans_zero
        claimed += net.low > 0
    # Negative autocorrelation is not believed, so the intervals may be a little wide.
    assert stats.binom.ppf(0.001, worlds, 0.94) <= free <= stats.binom.ppf(0.999, worlds, 0.975)
    assert claimed <= stats.binom.ppf(0.999, worlds, 0.025), "profit after costs is claimed no more often than promised"


@pytest.mark.parametrize("worlds", many(40, 400))
def test_rows_that_are_taken_for_independent_claim_skill_far_too_often(worlds: int) -> None:
    """Negative control: the same books, judged by ticker and session instead of by session."""
    spans = 0
    for seed in range(worlds):
        random = np.random.default_rng(seed)
        market = world(random, NAMES, SESSIONS)
        # A book with one side for all names, changing slowly.
        side = np.sign(persistent(random, 1, SESSIONS, 0.9))
        rows = (side * market.returns).ravel()
        spans += abs(rows.mean()) < 1.96 * rows.std() / math.sqrt(rows.size)
    assert spans < 0.75 * worlds


def skilled(random: np.random.Generator, market: World, rank_correlation: float) -> np.ndarray:
    r = from_rank_correlation(rank_correlation)
    return r * market.surprise + math.sqrt(1 - r * r) * random.standard_normal(market.surprise.shape)


def books_of_skill(market: World, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Bets in units of risk: a score says how many residual volatilities a name will move."""
    shape = scores.shape
    betas = np.broadcast_to(market.betas, shape)
    return {
        "in proportion": market_neutral(scores / market.risk, betas=betas),
        "by rank": market_neutral(centred_ranks(scores) / market.risk, betas=betas),
        "unsized": market_neutral(scores, betas=betas),
        "quintiles": long_short(scores),
    }


@pytest.mark.parametrize("worlds", many(12, 150))
def test_a_rank_correlation_of_three_per_cent_earns_what_the_fundamental_law_predicts(worlds: int) -> None:
    names, sessions, planted = 100, 504, 0.03
    predicted: dict[str, list[float]] = {}
    earned: dict[str, list[float]] = {}
    found = []
    for seed in range(worlds):
        random = np.random.default_rng(seed)
        market = world(random, names, sessions, clustered=False)
        scores = skilled(random, market, planted)
        found.append(
            np.mean([stats.spearmanr(scores[:, t], market.surprise[:, t]).statistic for t in range(0, 504, 4)])
        )
        for name, weights in books_of_skill(market, scores).items():
            transfer = transfer_coefficient(weights, scores, np.broadcast_to(market.risk, scores.shape))
            predicted.setdefault(name, []).append(expected_sharpe(from_rank_correlation(planted), names, transfer))
            earned.setdefault(name, []).append(sharpe_ratio(simulate(weights, market.returns, rebalancing="free").net))
    assert np.mean(found) == pytest.approx(planted, abs=4 * 0.1 / math.sqrt(126 * worlds))
    error = 4 * math.sqrt(252 / sessions / worlds)
    for name in ("in proportion", "by rank", "unsized"):
        assert np.mean(earned[name]) == pytest.approx(np.mean(predicted[name]), abs=error + 0.05), name
        assert np.min(earned[name]) > 0, "profitable before costs in every world"
    # Dollar-neutral is not beta-neutral: what is left of the market is risk that the law does not count.
    assert np.mean(earned["quintiles"]) < np.mean(predicted["quintiles"])
    assert np.mean(predicted["unsized"]) < np.mean(predicted["in proportion"]) - 0.1, "size by risk transfers more"


def test_betas_known_at_the_close_take_the_market_out() -> None:
    random = np.random.default_rng(3)
    market = world(random, 60, 1000)
    scores = market.betas + 0.3 * random.standard_normal(market.returns.shape)  # a bet on beta in disguise
    index = market.returns.mean(axis=0)
    exposed, neutral = (
        simulate(market_neutral(scores, betas=betas), market.returns, rebalancing="free").net
        for betas in (None, np.broadcast_to(market.betas, scores.shape))
    )
    assert np.corrcoef(exposed, index)[0, 1] > 0.4
    assert abs(np.corrcoef(neutral, index)[0, 1]) < 0.15
