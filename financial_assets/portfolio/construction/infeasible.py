"""Which constraints contradict each other, and how far they would have to give way."""

from __future__ import annotations

import cvxpy as cp

from financial_assets.portfolio.construction.constraints import BookProblem, named_constraints

_NEGLIGIBLE = 1e-5
_FIXES = {
    "gross": "raise gross from {limit:.4g} to {needed:.4g}",
    "per_name": "raise per_name from {limit:.4g} to {needed:.4g}",
    "turnover": "raise turnover from {limit:.4g} to {needed:.4g}",
    "volatility_target": "raise volatility_target from {limit:.4g} to {needed:.4g}",
    "invested": "lower invested from {limit:.4g} to {lower:.4g}",
    "long_only": "allow short positions of {missed:.4g}",
    "excluded": "keep up to {missed:.4g} of each name that must be sold",
    "neutral": "allow a net exposure of {missed:.4g}",
}


def conflicts(problem: BookProblem) -> dict[str, str]:
    """Constraints that cannot hold together, by name, with what would make them; empty if all can hold.

    Each may be missed at a price, and the least is missed that is possible: what is missed then is one way out, the
    nearest. Others exist; the constraints that are met may be loosened instead.
    """
    weights = cp.Variable(len(problem.tickers))
    names = list(named_constraints(weights, problem))
    slack = {name: cp.Variable(nonneg=True) for name in names}
    relaxed = [one for named in named_constraints(weights, problem, slack).values() for one in named]
    task = cp.Problem(cp.Minimize(sum(slack.values())), relaxed)
    task.solve(solver=cp.CLARABEL)
    if task.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        return {}
    missed = {name: float(variable.value) for name, variable in slack.items()}
    return {name: _sentence(name, size, problem) for name, size in missed.items() if size > _NEGLIGIBLE}


def _sentence(name: str, missed: float, problem: BookProblem) -> str:
    kind = name.partition(" ")[0]
    limit = getattr(problem.constraints, kind, None)
    known = 0.0 if not isinstance(limit, float | int) else float(limit)
    # A little more than is missed, so that who follows the advice is not refused for the last digit.
    reach = missed * (1 + 1e-3) + 1e-5
    text = _FIXES.get(kind, f"raise {name} from {{limit:.4g}} to {{needed:.4g}}")
    fix = text.format(limit=known, needed=known + reach, lower=max(known - reach, 0.0), missed=reach)
    return f"{name}: {fix}."
