"""A book for one session: candidates with a signal, expected returns and joint risk, target weights and orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from financial_assets.errors import PortfolioError
from financial_assets.portfolio.construction.constraints import BookProblem, Constraints
from financial_assets.portfolio.construction.optimise import Appetite, TargetBook, target_book
from financial_assets.portfolio.construction.orders import Order, orders_to
from financial_assets.portfolio.joint_risk.residuals import FEWEST_SCENARIOS, MOST_SCENARIOS
from financial_assets.portfolio.trade_edge import expected_return
from financial_assets.workflows.desk.risk import DeskRisk

Forecast = Literal["score", "probability", "evidence", "none"]
FORECASTS: Mapping[Forecast, str] = {
    "score": "the model's score times the ticker's forecast volatility: its return beyond the market's",
    "probability": "what probability and range imply together: volatility times the normal quantile of the probability",
    "evidence": "what such forecasts have earned so far: the regression behind BUY, SELL and HOLD, before costs",
    "none": "nothing: the book with the least risk that the constraints allow",
}
_SPREAD = 2 * 1.6448536269514722
"""Standard deviations between the 5 and 95 % quantiles of a normal distribution."""


@dataclass(frozen=True, eq=False)
class BookProposal:
    """A book and how to get there.

    Attributes
    ----------
    tickers
        Candidates, sorted.
    current, expected
        Weights held now, and expected return of one session ``[ticker]``.
    book
        Target weights and what is expected of them.
    orders
        In whole lots.
    left_out
        Ticker -> why it was no candidate.
    """

    tickers: tuple[str, ...]
    current: NDArray[np.float64]
    expected: NDArray[np.float64]
    book: TargetBook
    orders: tuple[Order, ...]
    left_out: Mapping[str, str]


def propose_book(
    desk: DeskRisk,
    holdings: Mapping[str, float],
    *,
    capital: float,
    constraints: Constraints,
    appetite: Appetite,
    forecast: Forecast = "score",
    only: Sequence[str] | None = None,
    lot: int = 1,
    smallest: float = 0.0,
) -> BookProposal:
    """Target weights and orders for the next session.

    Parameters
    ----------
    desk
        The session.
    holdings
        Ticker -> market value that is held now, negative for a short position.
    capital
        What weights are shares of.
    constraints, appetite
        What the book may hold, and what it is built for.
    forecast
        Key of ``FORECASTS``: what is expected of each name.
    only
        Names that may be held; default: all with a signal. What is held beside them is sold.
    lot, smallest
        See ``orders_to``.

    Raises
    ------
    InfeasibleError
        The constraints contradict each other.
    PortfolioError
        A name that is held has no signal, or too short a history; or the model has no score.
    """
    session = desk.session
    left_out = dict(session.without_signal)
    wanted = set(session.by_ticker) if only is None else set(only)
    unknown = sorted((wanted | set(holdings)) - set(session.by_ticker))
    if unknown:
        reasons = "; ".join(f"{name} {left_out.get(name, 'is not in the signals of the session')}" for name in unknown)
        raise PortfolioError(f"without a signal a name cannot be traded: {reasons}. Leave it out and manage it by hand")
    wanted = _with_history(desk, wanted, holdings, left_out)
    tickers = tuple(sorted(wanted | set(holdings)))
    current = np.array([holdings.get(name, 0.0) / capital for name in tickers])
    expected = _expected(desk, tickers, forecast)
    scenarios = desk.scenarios(tickers)
    problem = BookProblem(
        tickers=tickers,
        current=current,
        expected=expected,
        covariance=_covariance(scenarios),
        sectors=tuple(session.sectors.get(name, "") for name in tickers),
        constraints=constraints,
        excluded=tuple(name not in wanted for name in tickers),
    )
    book = target_book(problem, appetite)
    orders = orders_to(tickers, book.weights, current, session.prices, capital=capital, lot=lot, smallest=smallest)
    return BookProposal(tickers, current, expected, book, orders, left_out)


def _with_history(
    desk: DeskRisk, wanted: set[str], holdings: Mapping[str, float], left_out: dict[str, str]
) -> set[str]:
    """Those of ``wanted`` with enough past sessions; of what is held, the risk must be known in any case."""
    residuals = desk.residuals[1]
    counts = np.isfinite(residuals.values[-MOST_SCENARIOS - 1 :]).sum(axis=0)
    known = dict(zip(residuals.tickers, counts.tolist(), strict=True))
    short = {name for name in wanted if known.get(name, 0) < FEWEST_SCENARIOS and name not in holdings}
    left_out |= {
        name: f"has {known.get(name, 0)} past sessions; {FEWEST_SCENARIOS} are needed to know its risk"
        for name in short
    }
    return wanted - short


def _expected(desk: DeskRisk, tickers: Sequence[str], forecast: Forecast) -> NDArray[np.float64]:
    rows = [desk.session.by_ticker[name] for name in tickers]

    def column(name: str) -> NDArray[np.float64]:
        return np.array([float(row[name]) for row in rows])

    if forecast == "none":
        return np.zeros(len(rows))
    low, high = column("q05"), column("q95")
    if forecast == "score":
        score = column("score")
        if not np.isfinite(score).all():
            raise PortfolioError("the model behind the signals has no score; ask for the forecast `probability`")
        return score * (high - low) / _SPREAD
    implied = expected_return(column("probability_up"), low, high)
    if forecast == "probability":
        return implied
    evidence = desk.session.evidence
    if evidence is None:
        raise PortfolioError("too few sessions are known for the forecast `evidence`; ask for `score` or `none`")
    return evidence.intercept + evidence.slope * implied


def _covariance(scenarios: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the scenarios, shrunk towards the identity in units of their volatilities (Ledoit and Wolf 2004).

    Unshrunk, an optimiser would hold what happens to look riskless together. In units of volatility the target is "as
    they are, without correlation", and volatilities stay as they are forecast.
    """
    from sklearn.covariance import ledoit_wolf

    deviations = scenarios.std(axis=0)
    shrunk, _ = ledoit_wolf((scenarios - scenarios.mean(axis=0)) / deviations, assume_centered=True)
    return shrunk * np.outer(deviations, deviations)
