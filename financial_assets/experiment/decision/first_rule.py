"""The first rule: how plans that were registered before the second are judged, for as long as their tests run.

A challenger was promoted when it beat champion *and* baselines by the plan's boundary at a planned look, or on any day
by the always-on sequence, had more right directions and a high enough deflated Sharpe ratio. Almost nobody passes all
of that. A running test keeps the rule that it was started with, and recorded decisions can be computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.record import Action, ConfidenceSequence, Guardrail, Look
from financial_assets.experiment.paired_score import in_words
from financial_assets.experiment.plan.plan import ExperimentPlan


def judge(
    plan: ExperimentPlan,
    evidence: Evidence,
    guardrails: Sequence[Guardrail],
    looks: Sequence[Look],
    always_on: ConfidenceSequence,
    deflated_sharpe: Callable[[], float | None],
) -> tuple[Action, tuple[str, ...], float | None]:
    """Action, reasons and, where it was asked for, the deflated Sharpe ratio; see :func:`.rule.decide`."""
    fired = [guardrail for guardrail in guardrails if guardrail.fired]
    unsafe = [guardrail.reason for guardrail in fired if guardrail.action == "rollback"]
    if unsafe:
        return "rollback", tuple(unsafe), None
    if fired:
        return "hold", tuple(f"nothing can be concluded: {guardrail.reason}" for guardrail in fired), None
    if always_on.high <= -plan.test.margin and len(evidence.main):
        worse = (
            f"{plan.challenger} is worse than {plan.champion}: the difference in {plan.test.metric} is at most "
            f"{in_words(always_on.high, plan.test.metric)}, on every day with {plan.confidence} confidence"
        )
        return "rollback", (worse,), None
    favour = _in_favour(plan, looks, always_on)
    if favour is None:
        return "hold", (_why_not_yet(plan, evidence, looks),), None
    sharpe = deflated_sharpe() if plan.test.deflated_sharpe else None
    against = _against(plan, evidence, sharpe)
    return ("hold", (*against, favour), sharpe) if against else ("promote", (favour,), sharpe)


def _in_favour(plan: ExperimentPlan, looks: Sequence[Look], always_on: ConfidenceSequence) -> str | None:
    beaten = f"{plan.champion}, {' and '.join(plan.must_beat)}"
    if looks and looks[-1].crossed:
        look = looks[-1]
        return (
            f"{plan.challenger} is better than {beaten}: at the planned look on day {look.day} z = {look.z:.2f} "
            f"crossed the boundary {look.boundary:.2f}"
        )
    if always_on.clears(plan.test.margin):
        return (
            f"{plan.challenger} is better than {beaten}: the always-on interval of the difference in "
            f"{plan.test.metric} starts at {in_words(always_on.low, plan.test.metric)}, above the margin "
            f"{plan.test.margin:g}"
        )
    return None


def _against(plan: ExperimentPlan, evidence: Evidence, deflated_sharpe: float | None) -> list[str]:
    """What speaks against a promotion although the evidence is in favour."""
    against: list[str] = []
    if not plan.can_promote:
        against.append(_underpowered(plan))
    if plan.test.metric != "accuracy" and float(evidence.accuracy.differences.mean()) <= 0:
        against.append(
            f"the {plan.test.metric} score is better, but not the share of right directions: check calibration"
        )
    wanted = plan.test.deflated_sharpe
    if wanted and (deflated_sharpe is None or deflated_sharpe < wanted):
        ratio = "is not defined" if deflated_sharpe is None else f"is {deflated_sharpe:.2f}"
        against.append(
            f"the deflated Sharpe ratio {ratio}, below {wanted:g}: its profit may be the luck of the best of all "
            "registered versions"
        )
    return against


def _underpowered(plan: ExperimentPlan) -> str:
    return (
        f"the plan cannot promote: by its horizon of {plan.looks[-1]} days it detects "
        f"{in_words(plan.detectable, plan.test.metric).removeprefix('+')}, more than "
        f"the plausible {plan.test.plausible_effect:g}; about {plan.days_for_plausible:,} days would do"
    )


def _why_not_yet(plan: ExperimentPlan, evidence: Evidence, looks: Sequence[Look]) -> str:
    days = len(evidence.main)
    if not days:
        return f"no evidence yet: no outcome after {plan.starts_after} is known"
    if not plan.can_promote:
        return f"underpowered: {_underpowered(plan)}"
    if days >= plan.looks[-1]:
        released = f", {plan.challenger} is scored in pairs only" if plan.test.at_horizon == "release" else ""
        return f"inconclusive at the horizon of {plan.looks[-1]} days: {plan.champion} stays{released}"
    coming = next(day for day in plan.looks if day > days)
    if not looks:
        return f"too early: the first planned look is on day {coming}, this is day {days}"
    short = [name for name, z in looks[-1].against.items() if z < looks[-1].boundary]
    unbeaten = f"; not shown to beat {' and '.join(short)}" if short and looks[-1].z >= looks[-1].boundary else ""
    last = looks[-1]
    seen = f"z = {last.z:.2f} at day {last.day}, boundary {last.boundary:.2f}{unbeaten}"
    return f"inconclusive so far: {seen}; next look on day {coming}"
