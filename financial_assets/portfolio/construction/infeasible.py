"""Which constraints contradict each other, and how far they would have to give way."""

from __future__ import annotations

from collections.abc import Collection

import cvxpy as cp
import numpy as np

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
    """Constraints that cannot hold together, by name, with what each would need; empty if all can hold.

    Where giving way in one place is enough, every such place is named, each with how far it would have to give way by
    itself. Else those that must give way together are named, in the way in which the least is missed in all.
    """
    names = list(named_constraints(cp.Variable(len(problem.tickers)), problem))
    together = _missed(problem, names)
    if together is None or not any(size > _NEGLIGIBLE for size in together.values()):
        return {}
    alone = {name: missed[name] for name in names if (missed := _missed(problem, [name])) is not None}
    if alone:
        return {name: f"{_sentence(name, size, problem)} (this alone is enough)." for name, size in alone.items()}
    return {
        name: f"{_sentence(name, size, problem)} (with the others)."
        for name, size in together.items()
        if size > _NEGLIGIBLE
    }


def _missed(problem: BookProblem, relaxed: Collection[str]) -> dict[str, float] | None:
    """By how much the ``relaxed`` constraints are missed at least, while all others hold; ``None``: they cannot."""
    weights = cp.Variable(len(problem.tickers))
    slack = {name: cp.Variable(nonneg=True) for name in relaxed}
    constraints = [one for named in named_constraints(weights, problem, slack).values() for one in named]
    task = cp.Problem(cp.Minimize(sum(slack.values())), constraints)
    task.solve(solver=cp.CLARABEL)
    if task.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        return None
    return {name: float(np.asarray(variable.value)) for name, variable in slack.items()}


def _sentence(name: str, missed: float, problem: BookProblem) -> str:
    kind = name.partition(" ")[0]
    limit = getattr(problem.constraints, kind, None)
    known = 0.0 if not isinstance(limit, float | int) else float(limit)
    # A little more than is missed, so that who follows the advice is not refused for the last digit.
    reach = missed * (1 + 1e-3) + 1e-4
    text = _FIXES.get(kind, f"raise {name} from {{limit:.4g}} to {{needed:.4g}}")
    return text.format(limit=known, needed=known + reach, lower=max(known - reach, 0.0), missed=reach)
