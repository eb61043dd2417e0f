"""How much cost and how much capital a book bears.

Impact grows with the square root of capital and all else in proportion to it. So a book's net return at capital C is
``before impact - sqrt(C) * impact of one unit``, from the series of one simulation, and every capital has a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from financial_assets.portfolio.arguments import Floats
from financial_assets.portfolio.bootstrap import block_length, percentiles, resampled_means
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
    if figure not in _ROOTS:
        raise ValueError(f"figure must be one of {', '.join(_ROOTS)}, not {figure!r}")
    days = _until_ruin(book)
    if days < FEWEST_DAYS:
        return None
    before = book.gross + book.interest - (book.costs - book.charges.impact)
    # Measured in roots of the simulated capital: far smaller or larger numbers would lose digits.
    earned, impact = before[:days], book.charges.impact[:days]
    mean, impact_mean = float(earned.mean()), float(impact.mean())
    # About the means of all days, or the squares would lose digits.
    off, impact_off = earned - mean, impact - impact_mean
    products = np.stack([off, impact_off, off**2, impact_off**2, off * impact_off], axis=1)
    own, drawn = (
        _ROOTS[figure](_Moments.of(mean, impact_mean, means), kept)
        for means in (
            products.mean(axis=0)[None],
            resampled_means(products, block_length(earned), draws=draws, seed=seed),
        )
    )
    root = percentiles(float(own[0]), drawn, days, level)
    if root is None:
        return None
    low, middle, high = (book.capital * bound**2 for bound in (root.low, root.estimate, root.high))
    return Interval(middle, low, high, days, days, level)


@dataclass(frozen=True)
class _Moments:
    """Of returns before impact and of impact, over the days of each history ``[draw]``."""

    before: Floats
    impact: Floats
    variance: Floats
    impact_variance: Floats
    covariance: Floats

    @classmethod
    def of(cls, before: float, impact: float, means: Floats) -> _Moments:
        """From the means of both series, their squares and their product, about ``before`` and ``impact``."""
        off, impact_off, square, impact_square, product = means.T
        return cls(
            before + off,
            impact + impact_off,
            np.maximum(square - off**2, 0.0),
            np.maximum(impact_square - impact_off**2, 0.0),
            product - off * impact_off,
        )


def _roots_of_return(of: _Moments, kept: float) -> Floats:
    earned = np.maximum(of.before, 0.0) * (1 - kept)
    return np.divide(earned, of.impact, out=np.full(len(earned), np.nan), where=of.impact > 0)


def _roots_of_sharpe(of: _Moments, kept: float) -> Floats:
    """The smallest x at which mean(b - x i) / sd(b - x i) is ``kept`` times its value at 0.

    Squared, a quadratic equation in x. At 0 its left side is the larger one, and at the x of no return the smaller one,
    so there is a root in between.
    """
    earns = (of.before > 0) & (of.variance > 0) & (of.impact > 0)
    square = np.divide((kept * of.before) ** 2, of.variance, out=np.zeros_like(of.before), where=earns)
    a = of.impact**2 - square * of.impact_variance
    half_b = of.before * of.impact - square * of.covariance
    c = of.before**2 * (1 - kept**2)
    # c / (b/2 + root) is the smaller of the positive roots for either sign of a, and does not cancel.
    root = np.sqrt(np.maximum(half_b**2 - a * c, 0.0))
    found = np.divide(c, half_b + root, out=np.zeros_like(c), where=earns & (half_b + root > 0))
    return np.where(of.impact > 0, found, np.nan)


_ROOTS: Mapping[str, Callable[[_Moments, float], Floats]] = {"return": _roots_of_return, "sharpe": _roots_of_sharpe}


def _until_ruin(book: PortfolioReturns) -> int:
    return len(book.gross) if book.wiped_out is None else book.wiped_out + 1
