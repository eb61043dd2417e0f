"""Target weights: the most expected return after risk and costs that the constraints allow.

Markowitz's mean and variance with proportional costs, solved by skfolio (an interior-point method for cones, Clarabel):
``holding expected'w - holding risk_aversion / 2 w' covariance w - cost |w - current|``, each in shares of the capital.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
from cvxpy.error import SolverError
from numpy.typing import NDArray
from skfolio.measures import RiskMeasure
from skfolio.optimization import MeanRisk, ObjectiveFunction
from skfolio.prior import BasePrior, ReturnDistribution

from financial_assets.errors import InfeasibleError, PortfolioError
from financial_assets.portfolio.construction.constraints import BookProblem, named_constraints
from financial_assets.portfolio.construction.infeasible import conflicts

TOLERANCE = 1e-6
"""Of the capital: how far weights may miss a constraint by the solver's arithmetic."""
_DUST = 1e-7


@dataclass(frozen=True)
class Appetite:
    """What a book is built for.

    Attributes
    ----------
    risk_aversion
        Weight of the variance; 0 looks at returns and costs alone.
    holding_sessions
        Sessions for which a position is expected to be kept: costs are paid once for all of them.
    cost_per_side
        Share of the traded value.
    """

    risk_aversion: float = 5.0
    holding_sessions: int = 5
    cost_per_side: float = 0.0005


@dataclass(frozen=True, eq=False)
class TargetBook:
    """Weights that fulfil all constraints to ``TOLERANCE``.

    Attributes
    ----------
    weights
        Signed shares of the capital ``[ticker]``.
    expected_return
        Per session, before costs.
    volatility
        Forecast, per year.
    turnover
        Sum of absolute changes.
    cost
        Of getting there, as a share of the capital.
    """

    weights: NDArray[np.float64]
    expected_return: float
    volatility: float
    turnover: float
    cost: float


class _Given(BasePrior):
    """Expected returns and covariance as they are given, instead of estimates of past returns."""

    def __init__(self, mu: Any = None, covariance: Any = None) -> None:
        self.mu = mu
        self.covariance = covariance

    def fit(self, X: Any, y: None = None, **fit_params: Any) -> _Given:  # noqa: N803 - scikit-learn's name
        self.return_distribution_ = ReturnDistribution(
            mu=np.asarray(self.mu), covariance=np.asarray(self.covariance), returns=np.asarray(X)
        )
        return self


def target_book(problem: BookProblem, appetite: Appetite) -> TargetBook:
    """The best book that the constraints allow.

    Raises
    ------
    InfeasibleError
        There is none; names the constraints that contradict each other.
    PortfolioError
        The solver fails for another reason, or the problem is malformed.
    """
    _check(problem)
    count, held = len(problem.tickers), appetite.holding_sessions
    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
        risk_measure=RiskMeasure.VARIANCE,
        risk_aversion=appetite.risk_aversion / 2,
        prior_estimator=_Given(held * problem.expected, held * problem.covariance),
        # Wide open: our own constraints are the only ones.
        min_weights=-np.inf,
        max_weights=np.inf,
        budget=None,
        transaction_costs=appetite.cost_per_side,
        previous_weights=problem.current,
        add_constraints=lambda weights: _flat(weights, problem),
        solver="CLARABEL",
    )
    try:
        # The two rows are never looked at: the prior is given. A frame carries the names.
        model.fit(pd.DataFrame(np.zeros((2, count)), columns=list(problem.tickers)))
    except SolverError as error:
        found = conflicts(problem)
        if found:
            raise InfeasibleError(found) from error
        raise PortfolioError(f"the optimiser found no weights ({error}); loosen a constraint a little") from error
    weights = np.asarray(model.weights_, dtype=np.float64)
    weights = np.where(np.abs(weights) < _DUST, 0.0, weights)
    if problem.constraints.mode == "long_only":
        weights = np.maximum(weights, 0.0)
    turnover = float(np.abs(weights - problem.current).sum())
    return TargetBook(
        weights=weights,
        expected_return=float(weights @ problem.expected),
        volatility=problem.volatility(weights),
        turnover=turnover,
        cost=turnover * appetite.cost_per_side,
    )


def _flat(weights: cp.Variable, problem: BookProblem) -> list[cp.Constraint]:
    return [constraint for named in named_constraints(weights, problem).values() for constraint in named]


def _check(problem: BookProblem) -> None:
    count = len(problem.tickers)
    if count == 0:
        raise PortfolioError("a book needs at least one name that may be held")
    shapes = (problem.current.shape, problem.expected.shape, problem.covariance.shape, len(problem.sectors))
    if shapes != ((count,), (count,), (count, count), count):
        raise PortfolioError(f"of {count} names, weights, returns, covariance and sectors have the sizes {shapes}")
    if not all(np.isfinite(values).all() for values in (problem.current, problem.expected, problem.covariance)):
        raise PortfolioError("current weights, expected returns and covariance must be finite")
