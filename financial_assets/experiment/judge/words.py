"""The reason of a verdict in a plain sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from financial_assets.experiment.judge.plan import JudgePlan
    from financial_assets.experiment.judge.verdict import Judgement

_UNITS = {"day": "days", "incident": "incidents", "request": "pairs of answers"}


def reason_of(plan: JudgePlan, found: Judgement, cause: Literal["shown", "split", "horizon", "open"]) -> str:
    """Why the verdict is what it is, and what would change it."""
    units = f"{found.units:,} {_UNITS[plan.unit]}"
    interval = f"{100 * found.level:.4g} % interval {found.low:.4g} to {found.high:.4g} after {units}"
    if cause == "split":
        return (
            f"Hold for good: the requests are not split as registered ({plan.control_share:.4g} to the control); "
            f"{found.control:,} of them went to the control and {found.candidate:,} to the candidate (p = "
            f"{found.split_p_value:.2g}). Fix the routing or its log, and register a new plan."
        )
    if cause == "horizon":
        return (
            f"Hold for good: the plan's {plan.horizon:,} {_UNITS[plan.unit]} are over, and neither a gain nor a loss "
            f"was shown ({interval})."
        )
    if cause == "shown":
        is_gain = found.verdict == "promote"
        margin = plan.least_gain if is_gain else plan.tolerated_loss
        evidence = found.better if is_gain else found.worse
        word = "better" if is_gain else "worse"
        by = f" by more than {margin:.4g}" if margin else ""
        return (
            f"{found.verdict.capitalize()}: the candidate is shown to be {word}{by} at {found.decided_by} "
            f"(p = {evidence.p_value:.2g}, at most {plan.alpha / 2:.4g} needed; {interval})."
        )
    if not found.units:
        return f"Hold: no {_UNITS[plan.unit][:-1] if plan.unit != 'request' else 'pair of answers'} is complete yet."
    if found.units < plan.least_units:
        return f"Hold: {units} so far, and the plan decides on {plan.least_units:,} or more ({interval})."
    return f"Hold: neither a gain nor a loss is shown yet ({interval}); go on, and ask again at any time."
