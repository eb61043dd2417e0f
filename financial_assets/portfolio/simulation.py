"""From probabilities to profit and loss, under one timing and with costs.

A decision is taken after the close of session t; the position is entered at the open of t+1 and left at the open of
t+2. Matrices are ``[ticker, session]``, indexed by the session of the decision; ``traded_returns`` are simple returns
from the open of t+1 to the open of t+2. Successive positions meet at one open, so only the change is traded there.

A book can lose more than it has: a short position does in a stock that more than doubles. Such a book is *wiped out*:
its return of that session is -100 %, and it never trades again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import same_shape

_BASIS_POINT = 1e-4


def positions_from_probabilities(probability_up: ArrayLike) -> NDArray[np.float64]:
    """Positions in units of a ticker's share of the capital: +1 long above one half, -1 short below it, else 0.

    Parameters
    ----------
    probability_up
        Probabilities, of any shape; NaN (no answer) takes no position.
    """
    probability = np.asarray(probability_up, dtype=np.float64)
    if probability.size == 0:
        raise ValueError("probability_up is empty")
    if np.any((probability < 0) | (probability > 1)):
        raise ValueError("probability_up must lie in [0, 1]")
    return np.where(np.isnan(probability), 0.0, np.sign(probability - 0.5))


@dataclass(frozen=True)
class PortfolioReturns:
    """Daily simple returns of a portfolio that gives each ticker an equal, constant share of the capital.

    A share waits as cash, without interest, while its ticker has no position; gains and losses are levelled out each
    session, free of cost.

    Attributes
    ----------
    gross
        Return before costs ``[session]``.
    costs
        Costs paid ``[session]``, as a share of the capital, at least 0.
    turnover
        Traded volume ``[session]``, as a share of the capital; entering and leaving one full position makes 2.
    held
        Positions really held ``[ticker, session]``.
    wiped_out
        Place of the session in which all capital or more was lost; ``None`` if there is none. ``gross`` and ``costs``
        hold the whole loss of that session, also what exceeds the capital; in all later ones everything is 0.
    """

    gross: NDArray[np.float64]
    costs: NDArray[np.float64]
    turnover: NDArray[np.float64]
    held: NDArray[np.float64]
    wiped_out: int | None = None

    @property
    def net(self) -> NDArray[np.float64]:
        """Return after costs ``[session]``, at least -1: a book has no more to lose than its capital."""
        return np.maximum(self.gross - self.costs, -1.0)


def profit_and_loss(positions: ArrayLike, traded_returns: ArrayLike, cost_bps: float) -> PortfolioReturns:
    """Profit and loss of positions, with costs on each change of a ticker's position.

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
    wanted = _matrix("positions", positions)
    returns = _matrix("traded_returns", traded_returns)
    same_shape(positions=wanted, traded_returns=returns)
    if not np.isfinite(wanted).all():
        raise ValueError("positions must be finite")
    if np.isinf(returns).any() or np.any(returns <= -1):
        raise ValueError("traded_returns must be finite (or NaN) and above -1")
    if not (np.isfinite(cost_bps) and cost_bps >= 0):
        raise ValueError(f"cost_bps must be finite and at least 0, not {cost_bps}")
    has_return = ~np.isnan(returns)
    held = np.where(has_return, wanted, 0.0)
    traded = np.abs(np.diff(held, axis=1, prepend=0.0))
    traded[:, -1] += np.abs(held[:, -1])
    turnover = traded.mean(axis=0)
    gross = (held * np.where(has_return, returns, 0.0)).mean(axis=0)
    costs = turnover * cost_bps * _BASIS_POINT
    ruined = np.flatnonzero(gross - costs <= -1)
    wiped_out = int(ruined[0]) if ruined.size else None
    if wiped_out is not None:
        for series in (gross, costs, turnover, held):  # the session is the last axis of each
            series[..., wiped_out + 1 :] = 0.0
    return PortfolioReturns(gross, costs, turnover, held, wiped_out)


def buy_and_hold(traded_returns: ArrayLike, cost_bps: float) -> PortfolioReturns:
    """Profit and loss of being long every ticker whenever it can be traded; parameters as for ``profit_and_loss``."""
    returns = _matrix("traded_returns", traded_returns)
    return profit_and_loss((~np.isnan(returns)).astype(np.float64), returns, cost_bps)


def _matrix(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must be [ticker, session], not of shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty")
    return array
