"""Promote, hold or roll back: a pure function of plan, evidence and traffic.

A challenger is promoted at a planned look that crosses its group-sequential boundary, or on the day when the always-on
confidence sequence clears the margin; in both cases only if the plan could have found the plausible effect, every
baseline is beaten at the same look, no guardrail has fired and nothing is missing. It is rolled back when one of its
guardrails fires, or when the always-on sequence shows it to be worse by more than the margin. Everything else is
"hold", with the reason. Spotify, Choosing a sequential testing framework (2023), compares the two kinds of looks;
Choe and Ramdas (2024), Comparing sequential forecasters, is the always-on one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.looks import due_looks, watch
from financial_assets.experiment.decision.record import (
    Action,
    ConfidenceSequence,
    Decision,
    Guardrail,
    Look,
    TrafficEvidence,
)
from financial_assets.experiment.paired_score import in_words
from financial_assets.experiment.plan.plan import ExperimentPlan


def decide(
    plan: ExperimentPlan,
    epoch: WeightEpoch,
    evidence: Evidence,
    traffic: TrafficEvidence,
    *,
    as_of: str,
    deflated_sharpe: Callable[[], float | None],
    always_on: ConfidenceSequence | None = None,
) -> Decision:
    """Decide as of a session.

    Parameters
    ----------
    plan
        The pre-registration of exactly this pair.
    epoch
        The current weight epoch.
    evidence, traffic
        What is known.
    as_of
        The market clock (ISO date).
    deflated_sharpe
        Gives that of the challenger, ``None`` where it is not defined; asked for only when a promotion hangs on it.
    always_on
        The result of :func:`.looks.watch`, where it is known already.

    Raises
    ------
    ExperimentError
        The evidence is silent about a baseline that the plan wants to be beaten.
    """
    silent = [name for name in plan.must_beat if name not in evidence.against]
    if silent:
        raise ExperimentError(f"the plan wants {', '.join(silent)} to be beaten, but the evidence does not name it")
    looks, always_on = due_looks(plan, evidence), always_on or watch(plan, evidence)
    guardrails = (*traffic.guardrails, _completeness(plan, evidence))
    action, reasons, sharpe = _judge(plan, evidence, guardrails, looks, always_on, deflated_sharpe)
    days = len(evidence.main)
    return Decision(
        action=action,
        reasons=reasons,
        experiment=plan.experiment,
        champion=plan.champion,
        challenger=plan.challenger,
        as_of=as_of,
        epoch=epoch.number,
        plan_digest=plan.digest,
        evidence_digest=evidence.digest,
        traffic_digest=traffic.digest,
        days=days,
        estimate=float(evidence.main.differences.mean()) if days else None,
        detectable=plan.detectable,
        looks=looks,
        always_on=always_on,
        alpha_spent=plan.spent[len(looks) - 1] if looks else 0.0,
        guardrails=guardrails,
        deflated_sharpe=sharpe,
        ended=action != "hold" or days >= plan.looks[-1],
        weights=_weights(action, plan, epoch, released=days >= plan.looks[-1] and plan.test.at_horizon == "release"),
    )


def _completeness(plan: ExperimentPlan, evidence: Evidence) -> Guardrail:
    allowed, share = plan.guardrails.missing_share, evidence.missing_share
    return Guardrail(
        name="missing",
        model="",
        action="hold",
        fired=share > allowed,
        observed=share,
        objective=allowed,
        count=evidence.due,
        reason=f"{evidence.missing:,} of {evidence.due:,} due predictions of the pair are missing ({share:.1%}; "
        f"allowed {allowed:.1%})",
    )


def _judge(
    plan: ExperimentPlan,
    evidence: Evidence,
    guardrails: Sequence[Guardrail],
    looks: Sequence[Look],
    always_on: ConfidenceSequence,
    deflated_sharpe: Callable[[], float | None],
) -> tuple[Action, tuple[str, ...], float | None]:
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


def _weights(action: Action, plan: ExperimentPlan, epoch: WeightEpoch, *, released: bool) -> Mapping[str, int]:
    """What follows from this decision alone; another challenger's may overrule it."""
    if action == "promote":
        return {plan.challenger: 100}
    if action == "rollback" or released:
        return epoch.without(plan.challenger)
    return dict(epoch.weights)
