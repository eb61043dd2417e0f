"""The figures of a book, beside those of what one could have held instead: buy-and-hold, a benchmark, cash.

Estimates have intervals. Ratios are those of the days until a book was wiped out, that one included: the empty days
after it would only dilute them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from financial_assets.market import calendar
from financial_assets.portfolio import estimates
from financial_assets.portfolio.arguments import Floats
from financial_assets.portfolio.capacity import break_even_bps, capacity
from financial_assets.portfolio.performance import annual_return, cumulative_return, until_ruin
from financial_assets.portfolio.selection import Trials, deflated_sharpe_of, probabilistic_sharpe_ratio
from financial_assets.portfolio.simulation import PortfolioReturns
from financial_assets.scoring.arguments import levels, same_shape, vector
from financial_assets.scoring.autocorrelation import hac_mean
from financial_assets.scoring.intervals import Interval


@dataclass(frozen=True)
class Confidence:
    """How intervals are made: their level, and draws and seed of the block bootstrap."""

    level: float = 0.95
    draws: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        levels("level", self.level)


@dataclass(frozen=True)
class SeriesFigures:
    """Figures of merit of one series of daily simple returns.

    Attributes
    ----------
    name
        Whose.
    sessions
        Days until ruin, that one included.
    total_return
        Compounded, over all days.
    annual_return
        Compounded, per year.
    mean_return
        Per year, not compounded; ``None`` with fewer than 20 days, like all intervals.
    sharpe, sortino
        Annual, of returns in excess of cash; ``None`` also without variation, or without a loss.
    calmar
        Compounded return per year over the largest drawdown.
    max_drawdown
        In [-1, 0]; the interval is what as many other days of the same kind would show.
    hit_rate
        Share of gains among days that gained or lost.
    wiped_out
        Place of the session that lost everything.
    """

    name: str
    sessions: int
    total_return: float
    annual_return: float
    mean_return: Interval | None
    sharpe: Interval | None
    sortino: Interval | None
    calmar: Interval | None
    max_drawdown: Interval | None
    hit_rate: Interval | None
    wiped_out: int | None

    def frame(self) -> pd.DataFrame:
        """One row per figure: ``series``, ``figure``, ``estimate``, ``low``, ``high``."""
        return _frame(
            self.name,
            total_return=self.total_return,
            annual_return=self.annual_return,
            mean_return=self.mean_return,
            sharpe=self.sharpe,
            sortino=self.sortino,
            calmar=self.calmar,
            max_drawdown=self.max_drawdown,
            hit_rate=self.hit_rate,
        )


@dataclass(frozen=True)
class Alternative:
    """What one could have held instead.

    Attributes
    ----------
    figures
        Of the alternative.
    advantage
        The book's mean net return per year minus the alternative's, on the same days until either was wiped out;
        ``None`` with fewer than 20.
    """

    figures: SeriesFigures
    advantage: Interval | None

    def frame(self) -> pd.DataFrame:
        """As of its figures, and the advantage over it."""
        return pd.concat([self.figures.frame(), _frame(self.figures.name, advantage_over=self.advantage)])


@dataclass(frozen=True)
class Holding:
    """An alternative whose figures are known already, for several books beside it."""

    figures: SeriesFigures
    returns: Floats


@dataclass(frozen=True)
class BookFigures:
    """Figures of a simulated book.

    Attributes
    ----------
    net, gross
        After costs, and before them (interest included in both); ``gross`` is ``None`` where it was not asked for.
    turnover
        Mean traded volume per session, as a share of the capital.
    cost_per_year
        Costs by cause, per year, as a share of the capital: ``commission``, ``spread``, ``impact``, ``borrow``.
    gross_exposure, net_exposure
        Means over sessions.
    break_even_bps
        Flat cost per side at which nothing is earned; ``None`` without a trade, or with fewer than 20 days.
    capacity, half_sharpe_capacity
        Capital at which the net return is 0, and at which the net Sharpe ratio is half of that without impact; ``None``
        without market impact, or with fewer than 20 days.
    probabilistic_sharpe
        Probability that the true net Sharpe ratio is above 0; NaN where there is no ratio; 0 for a book that was wiped
        out, whatever it earned before.
    deflated_sharpe
        The same beyond what the best of all ``trials`` would show by luck; ``None`` where they are not told.
    trials
        Effective trials, and all of them.
    alternatives
        What one could have held instead.
    """

    net: SeriesFigures
    gross: SeriesFigures | None
    turnover: Interval | None
    cost_per_year: Mapping[str, float]
    gross_exposure: float
    net_exposure: float
    break_even_bps: Interval | None
    capacity: Interval | None
    half_sharpe_capacity: Interval | None
    probabilistic_sharpe: float
    deflated_sharpe: float | None
    trials: tuple[int, int] | None
    alternatives: tuple[Alternative, ...]

    def frame(self) -> pd.DataFrame:
        """One row per series and figure: ``series``, ``figure``, ``estimate``, ``low``, ``high`` (NaN: none)."""
        own = _frame(
            self.net.name,
            turnover=self.turnover,
            **{f"{cause}_per_year": cost for cause, cost in self.cost_per_year.items()},
            gross_exposure=self.gross_exposure,
            net_exposure=self.net_exposure,
            break_even_bps=self.break_even_bps,
            capacity=self.capacity,
            half_sharpe_capacity=self.half_sharpe_capacity,
            probabilistic_sharpe=self.probabilistic_sharpe,
            deflated_sharpe=self.deflated_sharpe,
        )
        others = [other.frame() for other in self.alternatives]
        before = [] if self.gross is None else [self.gross.frame()]
        return pd.concat([self.net.frame(), own, *before, *others], ignore_index=True)


def series_figures(
    name: str, returns: ArrayLike, *, cash: ArrayLike | None = None, confidence: Confidence | None = None
) -> SeriesFigures:
    """Figures of merit of daily simple returns.

    Parameters
    ----------
    name
        Whose.
    returns
        ``[session]``, at least -1.
    cash
        Simple return of cash per session ``[session]``, for the ratios; default 0.
    confidence
        Of the intervals.
    """
    data = vector("returns", returns)
    rate = np.zeros_like(data) if cash is None else vector("cash", cash)
    same_shape(returns=data, cash=rate)
    how = confidence or Confidence()
    alive = until_ruin(data)
    days = len(alive)
    # Floored where a book lost all: what cash earned on that day is not lost too.
    excess = np.maximum(alive - rate[:days], -1.0)
    drawdown, calmar = estimates.path_intervals(alive, how.level, draws=how.draws, seed=how.seed)
    return SeriesFigures(
        name=name,
        sessions=days,
        total_return=cumulative_return(data),
        annual_return=annual_return(alive),
        mean_return=estimates.annual_mean(alive, how.level),
        sharpe=estimates.sharpe_interval(excess, how.level),
        sortino=estimates.sortino_interval(excess, how.level),
        calmar=calmar,
        max_drawdown=drawdown,
        hit_rate=estimates.hit_rate(alive, how.level),
        wiped_out=days - 1 if alive[-1] <= -1 else None,
    )


def holding(
    name: str, returns: ArrayLike, *, cash: ArrayLike | None = None, confidence: Confidence | None = None
) -> Holding:
    """What one could have held, with its figures; parameters as for :func:`series_figures`."""
    return Holding(series_figures(name, returns, cash=cash, confidence=confidence), vector("returns", returns))


def book_figures(
    name: str,
    book: PortfolioReturns,
    *,
    alternatives: Mapping[str, ArrayLike | Holding] | None = None,
    cash: ArrayLike | None = None,
    trials: Trials | None = None,
    confidence: Confidence | None = None,
    before_costs: bool = True,
) -> BookFigures:
    """Figures of a simulated book beside alternatives.

    Parameters
    ----------
    name
        Of the book.
    book
        From :func:`.simulation.simulate`.
    alternatives
        Daily simple returns of the same sessions by name, each from the open of t+1 to the open of t+2 as the book's
        are: buy-and-hold (net of its costs), a benchmark. Cash is put beside them by itself, unless its :func:`holding`
        is among them.
    cash
        Simple return of cash per session ``[session]``; default 0. Give the simulation the same.
    trials
        Every strategy tried, this one among them.
    confidence
        Of the intervals.
    before_costs
        Whether the book's figures before costs are computed too.
    """
    held = dict(alternatives or {})
    if "cash" in held and not isinstance(held["cash"], Holding):
        raise ValueError("alternatives must not name cash, which is beside them anyhow: give it as cash")
    net, how = book.net, confidence or Confidence()
    rate = np.zeros_like(net) if cash is None else vector("cash", cash)
    same_shape(book=net, cash=rate)
    days = len(until_ruin(net))
    weights = np.abs(book.held[:, :days]) / book.units
    costs = {
        cause: float(getattr(book.charges, cause)[:days].mean() * calendar.sessions_per_year())
        for cause in ("commission", "spread", "impact", "borrow")
    }
    has_impact = book.capital is not None and bool(np.any(book.charges.impact > 0))
    before, excess = np.maximum(book.gross + book.interest, -1.0)[:days], np.maximum(net - rate, -1.0)[:days]
    ruined = book.wiped_out is not None
    return BookFigures(
        net=series_figures(name, net, cash=rate, confidence=how),
        gross=series_figures(f"{name}, before costs", before, cash=rate[:days], confidence=how)
        if before_costs
        else None,
        turnover=hac_mean(book.turnover[:days], how.level)[0] if days >= estimates.FEWEST_DAYS else None,
        cost_per_year=costs,
        gross_exposure=float(weights.sum(axis=0).mean()),
        net_exposure=float(book.held[:, :days].sum(axis=0).mean() / book.units),
        break_even_bps=break_even_bps(book, how.level),
        capacity=capacity(book, level=how.level, draws=how.draws, seed=how.seed) if has_impact else None,
        half_sharpe_capacity=_half_sharpe(book, how) if has_impact else None,
        probabilistic_sharpe=0.0 if ruined else probabilistic_sharpe_ratio(excess),
        deflated_sharpe=None if trials is None else 0.0 if ruined else deflated_sharpe_of(excess, trials),
        trials=None if trials is None else (trials.effective, trials.count),
        alternatives=tuple(
            _alternative(other, returns, net, rate, how)
            for other, returns in ({**held, "cash": held.get("cash", rate)}).items()
        ),
    )


def _alternative(name: str, returns: ArrayLike | Holding, net: Floats, cash: Floats, how: Confidence) -> Alternative:
    series = returns.returns if isinstance(returns, Holding) else vector(name, returns)
    same_shape(**{"book": net, name: series})
    other = returns if isinstance(returns, Holding) else holding(name, series, cash=cash, confidence=how)
    days = min(len(until_ruin(net)), len(until_ruin(series)))
    return Alternative(other.figures, estimates.annual_mean((net - series)[:days], how.level))


def _half_sharpe(book: PortfolioReturns, how: Confidence) -> Interval | None:
    return capacity(book, "sharpe", kept=0.5, level=how.level, draws=how.draws, seed=how.seed)


def _frame(name: str, **figures: Interval | float | None) -> pd.DataFrame:
    def bounds(value: Interval | float | None) -> tuple[float, float, float]:
        if value is None:
            return np.nan, np.nan, np.nan
        if isinstance(value, Interval):
            return value.estimate, value.low, value.high
        return value, np.nan, np.nan

    rows = [(name, figure, *bounds(value)) for figure, value in figures.items()]
    return pd.DataFrame(rows, columns=pd.Index(["series", "figure", "estimate", "low", "high"]))
