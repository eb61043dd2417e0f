"""Grinold's fundamental law: what skill is worth before costs, given how often it can be used.

``information ratio = transfer coefficient * information coefficient * sqrt(breadth)``. Sources: Grinold (1989), The
fundamental law of active management; Clarke, de Silva and Thorley (2002), Portfolio constraints and the fundamental law
of active management.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from financial_assets.market import calendar
from financial_assets.portfolio.arguments import above_zero, finite_matrix, gappy_matrix
from financial_assets.scoring.arguments import same_shape


def expected_sharpe(information_coefficient: float, names: float, transfer: float = 1.0) -> float:
    """Annual Sharpe ratio before costs of a market-neutral book that bets on each of ``names`` in every session.

    Parameters
    ----------
    information_coefficient
        Correlation between a session's scores and the residual returns that follow; for a rank correlation r of normal
        variables it is ``2 sin(pi r / 6)`` (Pearson 1907), see :func:`from_rank_correlation`.
    names
        Independent bets per session, above 0: breadth is this times the sessions of a year.
    transfer
        From :func:`transfer_coefficient`.
    """
    for name, value in (("information_coefficient", information_coefficient), ("transfer", transfer)):
        if not -1 <= value <= 1:
            raise ValueError(f"{name} must lie in [-1, 1], not {value}")
    breadth = above_zero("names", names) * calendar.sessions_per_year()
    return transfer * information_coefficient * math.sqrt(breadth)


def from_rank_correlation(rank_correlation: float) -> float:
    """Correlation of two normal variables with this rank correlation (Pearson 1907)."""
    if not -1 <= rank_correlation <= 1:
        raise ValueError(f"rank_correlation must lie in [-1, 1], not {rank_correlation}")
    return 2 * math.sin(math.pi * rank_correlation / 6)


def transfer_coefficient(weights: ArrayLike, scores: ArrayLike, volatility: ArrayLike | None = None) -> float:
    """How much of the scores a book passes on: mean correlation of its weights in units of risk with the scores.

    Parameters
    ----------
    weights
        The book ``[ticker, session]``.
    scores
        ``[ticker, session]``, in units of each name's residual volatility; NaN: no score, left out.
    volatility
        Residual volatilities ``[ticker, session]`` that weights are multiplied with; default: all equal.

    Returns
    -------
    float
        In [-1, 1], over the sessions in which the book and the scores vary; NaN if there is none.
    """
    book, values = finite_matrix("weights", weights), gappy_matrix("scores", scores)
    risk = np.ones_like(book) if volatility is None else gappy_matrix("volatility", volatility)
    same_shape(weights=book, scores=values, volatility=risk)
    known = ~(np.isnan(values) | np.isnan(risk))
    count = np.maximum(known.sum(axis=0), 1)
    bets, wanted = (np.where(known, panel, 0.0) for panel in (book * risk, values))
    bets, wanted = (np.where(known, panel - panel.sum(axis=0) / count, 0.0) for panel in (bets, wanted))
    size = np.sqrt((bets**2).sum(axis=0) * (wanted**2).sum(axis=0))
    varies = size > 0
    return float(((bets * wanted).sum(axis=0)[varies] / size[varies]).mean()) if varies.any() else math.nan
