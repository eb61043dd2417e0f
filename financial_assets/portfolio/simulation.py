"""From weights to profit and loss, under one timing and with costs.

A decision is taken after the close of session t; the position is entered at the open of t+1 and left at the open of
t+2. Matrices are ``[ticker, session]``, indexed by the session of the decision; ``traded_returns`` are simple returns
from the open of t+1 to the open of t+2. Successive positions meet at one open, so only the change is traded there.

A book can lose more than it has: a short position does in a stock that more than doubles. Such a book is *wiped out*:
its return of that session is -100 %, and it never trades again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from financial_assets.portfolio.arguments import Floats, at_least_zero, finite_matrix, matrix
from financial_assets.portfolio.costs import BASIS_POINT, Charges, Costs, Rates
from financial_assets.portfolio.performance import equity_curve
from financial_assets.portfolio.traded import TradedReturns
from financial_assets.scoring.arguments import same_shape, vector

Rebalancing = Literal["paid", "free"]
"""Whether bringing a position back to its weight, after gains and losses, is a trade that costs, or none."""


@dataclass(frozen=True)
class PortfolioReturns:
    """Daily simple returns of a portfolio, and where they came from.

    Attributes
    ----------
    gross
        Return before costs and interest ``[session]``.
    costs
        Costs paid ``[session]``, as a share of the capital, at least 0.
    turnover
        Traded volume ``[session]``, as a share of the capital; entering and leaving one full position makes 2.
    held
        Positions really held ``[ticker, session]``, in ``1 / units`` of the capital.
    charges
        ``costs`` by cause.
    interest
        Earned on what is not invested, paid on what is borrowed ``[session]``.
    units
        1 where ``held`` are weights.
    capital
        Money at the start of each session for which impact was charged; ``None`` where none was given.
    wiped_out
        Place of the session in which all capital or more was lost; ``None`` if there is none. ``gross`` and ``costs``
        hold the whole loss of that session, also what exceeds the capital; in all later ones everything is 0.
    """

    gross: Floats
    costs: Floats
    turnover: Floats
    held: Floats
    charges: Charges
    interest: Floats
    units: float = 1.0
    capital: float | None = None
    wiped_out: int | None = None

    @property
    def net(self) -> Floats:
        """Return after costs ``[session]``, at least -1: a book has no more to lose than its capital."""
        return np.maximum(self.gross + self.interest - self.costs, -1.0)

    def frame(self, sessions: Sequence[Any] | pd.Index | None = None) -> pd.DataFrame:
        """One row per session of the decision: returns, costs by cause, turnover, exposures and the equity curve."""
        weights = self.held / self.units
        columns = {
            "gross": self.gross,
            "interest": self.interest,
            "commission": self.charges.commission,
            "spread": self.charges.spread,
            "impact": self.charges.impact,
            "borrow": self.charges.borrow,
            "net": self.net,
            "turnover": self.turnover,
            "gross_exposure": np.abs(weights).sum(axis=0),
            "net_exposure": weights.sum(axis=0),
            "equity": equity_curve(self.net),
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self.gross)) if sessions is None else pd.Index(sessions))


def simulate(
    weights: ArrayLike,
    traded: TradedReturns | ArrayLike,
    costs: Costs | None = None,
    *,
    capital: float | None = None,
    cash: ArrayLike | None = None,
    rebalancing: Rebalancing = "paid",
    units: float = 1.0,
) -> PortfolioReturns:
    """Profit and loss of a book.

    Parameters
    ----------
    weights
        Shares of the capital that the book aims at, finite ``[ticker, session]``: the sessions without gaps.
    traded
        What the market lets it do. A plain matrix of returns says that everything can be traded except where a return
        is NaN, and that no position was held there: convenient for returns that may still become known, but it does
        not show the loss of a name that ceased to trade. Prefer :func:`.traded.traded_returns`.
    costs
        Default: none. The first entry and the last exit are paid too.
    capital
        Money at the start of each session: profits are taken out and losses made good, so that impact stays what it is
        at this size. Needed for impact only.
    cash
        Simple return of cash per session ``[session]``; default 0. Short sales are fully funded in cash: a
        dollar-neutral book earns it on its whole capital.
    rebalancing
        ``paid``: a position that has gained or lost weight is brought back by a trade. ``free``: such changes are
        levelled out free of cost, and a weight that stays is not traded.
    units
        Weights are given in ``1 / units`` of the capital: the number of tickers, for positions of -1, 0 and 1 that
        have equal shares of it.

    Raises
    ------
    ValueError
        Bad arguments, or a trade for which a cost is not known.
    """
    wanted = finite_matrix("weights", weights)
    if not isinstance(traded, TradedReturns):
        wanted, traded = _held_where_known(wanted, traded)
    same_shape(weights=wanted, traded_returns=traded.returns)
    if rebalancing not in ("paid", "free"):
        raise ValueError(f"rebalancing must be 'paid' or 'free', not {rebalancing!r}")
    interest_rate = np.zeros(wanted.shape[1]) if cash is None else vector("cash", cash)
    if interest_rate.shape != (wanted.shape[1],):
        raise ValueError(f"cash must hold one return for each of {wanted.shape[1]} sessions, not {interest_rate.size}")
    rates = (costs or Costs()).rates((wanted.shape[0], wanted.shape[1]), capital)
    if rebalancing == "free":
        path = _levelled(wanted, traded)
    else:
        path = _drifting(wanted, traded, rates, interest_rate, units)
    return _account(path, traded.returns, rates, interest_rate, units, capital)


def profit_and_loss(positions: ArrayLike, traded_returns: ArrayLike, cost_bps: float) -> PortfolioReturns:
    """Profit and loss of positions that have an equal, constant share of the capital each, with a flat cost.

    A share waits as cash, without interest, while its ticker has no position; gains and losses are levelled out each
    session, free of cost: :func:`simulate` with ``rebalancing="free"`` and ``units`` the number of tickers.

    Parameters
    ----------
    positions
        Finite, ``[ticker, session]``: the sessions without gaps, because a position that stays is not traded.
    traded_returns
        Simple returns ``[ticker, session]``, open t+1 to open t+2; NaN where not known or not tradable: no position is
        held there.
    cost_bps
        Cost per side in basis points of the traded volume. The first entry and the last exit are paid too.

    Raises
    ------
    ValueError
        Bad arguments; a return of -100 % or less.
    """
    wanted = finite_matrix("positions", positions)
    returns = matrix("traded_returns", traded_returns)
    same_shape(positions=wanted, traded_returns=returns)
    at_least_zero("cost_bps", cost_bps)
    return simulate(wanted, returns, Costs(flat_bps=cost_bps), rebalancing="free", units=len(wanted))


def buy_and_hold(traded_returns: ArrayLike, cost_bps: float) -> PortfolioReturns:
    """Profit and loss of being long every ticker whenever it can be traded; parameters as for ``profit_and_loss``."""
    returns = matrix("traded_returns", traded_returns)
    return profit_and_loss((~np.isnan(returns)).astype(np.float64), returns, cost_bps)


@dataclass(frozen=True)
class _Path:
    """Positions ``held``; what is traded to have them at the open of t+1 (``entered``), and to end them (``left``)."""

    held: Floats
    entered: Floats
    left: Floats


def _held_where_known(wanted: Floats, traded_returns: ArrayLike) -> tuple[Floats, TradedReturns]:
    returns = matrix("traded_returns", traded_returns)
    same_shape(weights=wanted, traded_returns=returns)
    if np.isinf(returns).any() or np.any(returns <= -1):
        raise ValueError("traded_returns must be finite (or NaN) and above -1")
    known = ~np.isnan(returns)
    nowhere = np.zeros(returns.shape, dtype=bool)
    traded = TradedReturns(np.where(known, returns, 0.0), ~nowhere, nowhere, nowhere)
    return np.where(known, wanted, 0.0), traded


def _levelled(wanted: Floats, traded: TradedReturns) -> _Path:
    """Positions keep their weight for nothing."""
    held = wanted.copy()
    if not traded.tradable.all() or traded.ended.any():
        # A session without trade repeats the last traded one, unless the position has ended in between.
        place = np.broadcast_to(np.arange(wanted.shape[1]), wanted.shape)
        source = np.maximum.accumulate(np.where(traded.tradable, place, -1), axis=1)
        end = np.full(wanted.shape, -1)
        end[:, 1:] = np.maximum.accumulate(np.where(traded.ended, place, -1), axis=1)[:, :-1]
        alive = (source >= 0) & ((source > end) | traded.tradable)
        held = np.where(alive, np.take_along_axis(wanted, np.maximum(source, 0), axis=1), 0.0)
    left_over = np.where(traded.ended, 0.0, held)
    entered = np.abs(held - np.concatenate([np.zeros((len(held), 1)), left_over[:, :-1]], axis=1))
    left = np.where(traded.closed, np.abs(held), 0.0)
    left[:, -1] += np.abs(left_over[:, -1])
    return _Path(held, entered, left)


def _drifting(wanted: Floats, traded: TradedReturns, rates: Rates, interest: Floats, units: float) -> _Path:
    """Positions gain and lose weight between two opens: their weight at the second depends on the whole book's return.

    Hence the loop. Each session is one contiguous row; what it charges is told apart by cause afterwards.
    """
    target, growth = (np.ascontiguousarray(panel.T) for panel in (wanted, 1 + traded.returns))
    can, closed, ended = (np.ascontiguousarray(panel.T) for panel in (traded.tradable, traded.closed, traded.ended))
    per_trade = np.nan_to_num(rates.half_spread.T, nan=0.0) + rates.flat_bps * BASIS_POINT
    impact = None if rates.impact is None else np.nan_to_num(rates.impact.T, nan=0.0) / np.sqrt(units)
    borrow = np.nan_to_num(rates.borrow.T, nan=0.0)
    held, entered, left = np.zeros_like(target), np.zeros_like(target), np.zeros_like(target)
    weight = np.zeros(target.shape[1])
    last = len(target) - 1
    # On most sessions everything trades and nothing ends: half of the work below is for the others.
    all_can, sells, ends = np.all(can, axis=1), np.any(closed, axis=1), np.any(ended, axis=1)
    for t in range(len(target)):
        here = held[t] = target[t] if all_can[t] else np.where(can[t], target[t], weight)
        trade = entered[t] = np.abs(here - weight)
        grown = here * growth[t]
        volume, rooted = trade, trade * np.sqrt(trade)
        if sells[t] or t == last:
            sale = left[t] = np.where(closed[t] if t < last else closed[t] | ~ended[t], np.abs(grown), 0.0)
            volume, rooted = trade + sale, rooted + sale * np.sqrt(sale)
        paid = per_trade[t] * volume + borrow[t] * np.maximum(-here, 0.0)
        if impact is not None:
            paid += impact[t] * rooted
        position = here.sum()
        net = (grown.sum() - position - paid.sum()) / units + (1 - position / units) * interest[t]
        if net <= -1:
            break  # all that comes after stays 0
        weight = grown / (1 + net)
        if ends[t]:
            weight[ended[t]] = 0.0
    return _Path(*(np.ascontiguousarray(rows.T) for rows in (held, entered, left)))


def _account(
    path: _Path, returns: Floats, rates: Rates, interest_rate: Floats, units: float, capital: float | None
) -> PortfolioReturns:
    charges = rates.charges((path.entered, path.left), path.held, units)
    turnover = (path.entered + path.left).sum(axis=0) / units
    gross = (path.held * returns).sum(axis=0) / units
    interest = (1 - path.held.sum(axis=0) / units) * interest_rate
    ruined = np.flatnonzero(gross + interest - charges.total <= -1)
    wiped_out = int(ruined[0]) if ruined.size else None
    if wiped_out is not None:
        gone = slice(wiped_out + 1, None)
        for series in (gross, turnover, interest, path.held):  # the session is the last axis of each
            series[..., gone] = 0.0
        charges = charges.until(wiped_out)
    return PortfolioReturns(
        gross, charges.total, turnover, path.held, charges, interest, units=units, capital=capital, wiped_out=wiped_out
    )
