"""From one model's forecasts to weights, and from weights to a simulated book."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from financial_assets.portfolio import books, sizing
from financial_assets.portfolio.arguments import Floats, Mask
from financial_assets.portfolio.costs import Costs
from financial_assets.portfolio.economics.assumptions import Assumptions, BookName, CostModel
from financial_assets.portfolio.economics.forecasts import ForecastGrid
from financial_assets.portfolio.economics.prices import TradedSpan
from financial_assets.portfolio.simulation import PortfolioReturns, simulate
from financial_assets.portfolio.traded import stop_loss


def simulated_book(
    book: BookName, costs: CostModel, grid: ForecastGrid, span: TradedSpan, assumptions: Assumptions
) -> PortfolioReturns:
    """One book of one model under one model of costs.

    Under market costs a name is entered only once all of its rates are known. Under flat costs the weights of the book
    ``direction`` are -1, 0 and 1 in units of a ticker's share, as everywhere in this package.
    """
    tradable = span.valid & span.settled & (span.costed if costs == "market" else True)
    weights = sized_book(book, grid, tradable, span, assumptions)
    units = 1.0
    if book == "direction" and assumptions.sizing == "book":
        weights, units = np.sign(weights), float(len(weights))
    traded = span.traded
    if assumptions.stop_loss is not None:
        stopped = stop_loss(weights, span.opens, span.highs, span.lows, assumptions.stop_loss, traded)
        weights, traded = stopped.weights, stopped.traded
    return simulate(
        weights,
        traded,
        Costs(flat_bps=assumptions.cost_bps) if costs == "flat" else span.costs,
        capital=assumptions.capital if costs == "market" else None,
        cash=span.cash(assumptions.cash_per_year),
        rebalancing="free" if costs == "flat" else "paid",
        units=units,
    )


def held_universe(known: Mask, costs: CostModel, span: TradedSpan, assumptions: Assumptions) -> PortfolioReturns:
    """Long in every ticker that can be traded, each with an equal, constant share of the capital.

    Parameters
    ----------
    known
        Where any model has a forecast ``[ticker, session]``: what can be traded is the same for all.
    """
    tradable = known & span.valid & span.settled & (span.costed if costs == "market" else True)
    return simulate(
        tradable.astype(np.float64),
        span.traded,
        Costs(flat_bps=assumptions.cost_bps) if costs == "flat" else span.costs,
        capital=assumptions.capital if costs == "market" else None,
        cash=span.cash(assumptions.cash_per_year),
        rebalancing="free" if costs == "flat" else "paid",
        units=float(len(tradable)),
    )


def sized_book(
    book: BookName, grid: ForecastGrid, tradable: Mask, span: TradedSpan, assumptions: Assumptions
) -> Floats:
    """Weights ``[ticker, session]`` from what is known at the close of each session."""
    weights = _BOOKS[book](grid, tradable, span, assumptions)
    if assumptions.sizing == "equal":
        return sizing.equal(weights)
    if assumptions.sizing == "inverse_volatility":
        return sizing.inverse_volatility(weights, span.volatility)
    if assumptions.sizing == "kelly":
        # A range without width, as a constant model gives it, says nothing of the risk: no weight, like a missing one.
        has_range = grid.low < grid.high
        kelly = sizing.fractional_kelly(
            # A probability of 0 or 1 is rounding of float32: no model is that sure, and it has no Kelly weight.
            np.clip(grid.probability_up, _SUREST, 1 - _SUREST),
            np.where(has_range, grid.low, np.nan),
            np.where(has_range, grid.high, np.nan),
            tradable,
            fraction=assumptions.kelly_fraction,
            cap=assumptions.kelly_cap,
        )
        most = 1.0 if book == "direction" else assumptions.gross
        return sizing.cap_gross(sizing.kelly_of_book(weights, kelly), most)
    return weights


_SUREST = 1e-6


def _direction(grid: ForecastGrid, tradable: Mask, span: TradedSpan, assumptions: Assumptions) -> Floats:
    return books.sign_of_probability(grid.probability_up, tradable)


def _long_only(grid: ForecastGrid, tradable: Mask, span: TradedSpan, assumptions: Assumptions) -> Floats:
    return books.long_only(grid.score, tradable, quantiles=assumptions.quantiles, gross=assumptions.gross)


def _long_short(grid: ForecastGrid, tradable: Mask, span: TradedSpan, assumptions: Assumptions) -> Floats:
    return books.long_short(grid.score, tradable, quantiles=assumptions.quantiles, gross=assumptions.gross)


def _market_neutral(grid: ForecastGrid, tradable: Mask, span: TradedSpan, assumptions: Assumptions) -> Floats:
    return books.market_neutral(grid.score, tradable, betas=span.beta, gross=assumptions.gross)


_BOOKS: Mapping[BookName, Callable[[ForecastGrid, Mask, TradedSpan, Assumptions], Floats]] = {
    "direction": _direction,
    "long_only": _long_only,
    "long_short": _long_short,
    "market_neutral": _market_neutral,
}
