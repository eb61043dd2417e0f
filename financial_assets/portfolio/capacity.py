"""How much cost and how much capital a book bears.

Impact grows with the square root of capital and all else in proportion to it. So a book's net return at capital C is
``before impact - sqrt(C) * impact of one unit``, from the series of one simulation, and every capital has a formula.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from financial_assets.portfolio.arguments import Floats
from financial_assets.portfolio.bootstrap import Statistic, bootstrap_interval
from financial_assets.portfolio.costs import BASIS_POINT
from financial_assets.portfolio.estimates import FEWEST_DAYS, ratio_of_means
from financial_assets.portfolio.simulation import PortfolioReturns
from financial_assets.scoring.intervals import Interval

CapacityFigure = Literal["return", "sharpe"]


def break_even_bps(book: PortfolioReturns, level: float = 0.95, *, in_place_of_all: bool = False) -> Interval | None:
    """Flat cost in basis points per side at which the book would earn nothing; negative for one that loses anyhow.

    In place of the flat cost that was charged, and beside all other costs that were. ``None`` without a trade, or with
    fewer than 20 sessions until the book was wiped out.

    Parameters
    ----------
    book
        From :func:`.simulation.simulate`.
    level
        Of the interval.
    in_place_of_all
        Whether it stands for spread and impact as well, so that only borrowing is paid beside it.
    """
    days = _until_ruin(book)
    replaced = book.charges.total - book.charges.borrow if in_place_of_all else book.charges.commission
    before = (book.gross + book.interest - (book.costs - replaced))[:days]
    bears = ratio_of_means(before, book.turnover[:days], level)
    return None if bears is None else bears.times(1 / BASIS_POINT)


def paid_bps(book: PortfolioReturns) -> float | None:
    """Mean cost of trading in basis points per side: commission, spread and impact; ``None`` without a trade."""
    days = _until_ruin(book)
    traded = float(book.turnover[:days].sum())
    paid = float((book.charges.total - book.charges.borrow)[:days].sum())
    return paid / traded / BASIS_POINT if traded > 0 else None


def capacity(
    book: PortfolioReturns,
    figure: CapacityFigure = "return",
    *,
    kept: float = 0.0,
    level: float = 0.95,
    draws: int = 500,
    seed: int = 0,
) -> Interval | None:
    """The capital at which a figure of the book falls to a share of what it is without impact.

    Positions and trades are taken to be those of the simulation at any capital, which holds for books whose weights do
    not depend on capital. 0 for a book that does not earn its other costs.

    Parameters
    ----------
    book
        Simulated with a capital and a market impact.
    figure
        ``return``: the mean net return. ``sharpe``: the net Sharpe ratio. Both reach 0 at the same capital.
    kept
        Share that is left, from 0 (break-even) to below 1: 0.5 for half.
    level, draws, seed
        Of the interval, by the block bootstrap of sessions.

    Returns
    -------
    Interval or None
        In the unit of the simulation's capital; ``None`` with fewer than 20 sessions until the book was wiped out.

    Raises
    ------
    ValueError
        The simulation had no impact, so that the capacity is unlimited; bad arguments.
    """
    if book.capital is None or not np.any(book.charges.impact > 0):
        raise ValueError("book must be simulated with a capital and a market impact: without, capacity is unlimited")
    if not 0 <= kept < 1:
        raise ValueError(f"kept must be from 0 to below 1, not {kept}")
    statistics: dict[str, Statistic] = {"return": _roots_of_return(kept), "sharpe": _roots_of_sharpe(kept)}
    if figure not in statistics:
        raise ValueError(f"figure must be one of {', '.join(statistics)}, not {figure!r}")
    days = _until_ruin(book)
    if days < FEWEST_DAYS:
        return None
    before = book.gross + book.interest - (book.costs - book.charges.impact)
    # Measured in roots of the simulated capital: far smaller or larger numbers would lose digits.
    series = np.stack([before, book.charges.impact], axis=1)[:days]
    root = bootstrap_interval(series, statistics[figure], level, draws=draws, seed=seed)
    if root is None:
        return None
    low, middle, high = (book.capital * bound**2 for bound in (root.low, root.estimate, root.high))
    return Interval(middle, low, high, days, days, level)


def _roots_of_return(kept: float) -> Statistic:
    def roots(series: Floats) -> Floats:
        before, impact = np.moveaxis(series.mean(axis=1), -1, 0)
        earned = np.maximum(before, 0.0) * (1 - kept)
        return np.divide(earned, impact, out=np.full(len(series), np.nan), where=impact > 0)

    return roots


def _roots_of_sharpe(kept: float) -> Statistic:
    """The smallest x at which mean(b - x i) / sd(b - x i) is ``kept`` times its value at 0.

    Squared, a quadratic equation in x. At 0 its left side is the larger one, and at the x of no return the smaller one,
    so there is a root in between.
    """

    def roots(series: Floats) -> Floats:
        before, impact = np.moveaxis(series.mean(axis=1), -1, 0)
        off = series - series.mean(axis=1, keepdims=True)
        variance, impact_variance = np.moveaxis((off**2).mean(axis=1), -1, 0)
        covariance = (off[..., 0] * off[..., 1]).mean(axis=1)
        earns = (before > 0) & (variance > 0) & (impact > 0)
        square = np.divide((kept * before) ** 2, variance, out=np.zeros_like(before), where=earns)
        a = impact**2 - square * impact_variance
        half_b = before * impact - square * covariance
        c = before**2 * (1 - kept**2)
        # c / (b/2 + root) is the smaller of the positive roots for either sign of a, and does not cancel.
        root = np.sqrt(np.maximum(half_b**2 - a * c, 0.0))
        found = np.divide(c, half_b + root, out=np.zeros_like(c), where=earns & (half_b + root > 0))
        return np.where(impact > 0, found, np.nan)

    return roots


def _until_ruin(book: PortfolioReturns) -> int:
    return len(book.gross) if book.wiped_out is None else book.wiped_out + 1
