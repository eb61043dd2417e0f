"""Net returns of simple books, by row: what a guard against losses and the long-short metric compare.

The accounting is that of :func:`~financial_assets.portfolio.simulation.profit_and_loss`, taken apart into tickers and
sessions, so that a session's figure needs the rows of that session and of the one before and nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from financial_assets.experiment.keyed_rows import places
from financial_assets.experiment.metrics.metric import Metric, Rows, Unit
from financial_assets.portfolio.books import positions_from_probabilities

COST_BPS = 5.0
"""Flat cost per side in basis points of what is traded, the same for all plans: it is part of what is registered."""


def book_returns(rows: Rows, positions: NDArray[np.float64], cost_bps: float = COST_BPS) -> NDArray[np.float64]:
    """What each position earns from the open of t+1 to the open of t+2, less the cost of the change to it.

    Parameters
    ----------
    rows
        ``session``, ``ticker``, ``traded_return``, and ``previous``, the session before; each row once.
    positions
        After the close of each row's session ``[row]``. A ticker without a row in the session before had none.
    cost_bps
        Per side.

    Returns
    -------
    ndarray
        Simple returns ``[row]``, as shares of a ticker's part of the capital.
    """
    ticker = np.asarray(rows["ticker"], object)
    before = places(
        {"session": np.asarray(rows["previous"]), "ticker": ticker},
        {"session": np.asarray(rows["session"]), "ticker": ticker},
    )
    had = np.where(before >= 0, positions[before], 0.0)
    return positions * np.asarray(rows["traded_return"], np.float64) - cost_bps * 1e-4 * np.abs(positions - had)


def _profit(rows: Rows) -> NDArray[np.float64]:
    return book_returns(rows, positions_from_probabilities(np.asarray(rows["probability_up"], np.float64)))


PROFIT = Metric(
    name="profit",
    title="net return per session",
    question="direction",
    horizon=1,
    unit=Unit(10_000, 2, "basis points"),
    answers=("probability_up",),
    outcomes=("traded_return", "previous"),
    scores=_profit,
    baselines=(),
    plausible_effect=0.0004,
    basis="book",
)
"""Long where a rise is the likelier, short elsewhere, each ticker with an equal share: no metric of a plan, because its
noise would need decades, but a guard."""
