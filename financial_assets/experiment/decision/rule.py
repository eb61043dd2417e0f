"""Promote, hold or roll back: a pure function of plan, evidence and traffic.

A challenger is promoted if it is shown to be better than the champion: at a planned look whose group-sequential
boundary its advantage crosses, or on a day on which the always-on sequence clears the margin. It must then be shown not
to be worse than a baseline by the registered margin, must not be shown to do harm (profit, tail, right directions), and
no guardrail of the traffic may have fired. Only the comparison with the champion can go wrong by chance: the error
probability of a false promotion is that of its looks and its sequence, whatever the conditions (:mod:`.conditions`).

It is rolled back when one of its guardrails fires, when a look crosses the boundary on the other side, or when the
sequence shows it to be worse by more than the margin. A look at which winning has become improbable ends the test.
Everything else is "hold", with the reason and the way on. What a look showed counts at that look, for the registered
number of sessions; after the test has ended nobody is promoted.

Spotify, Choosing a sequential testing framework (2023), compares the two kinds of looks; Choe and Ramdas (2024),
Comparing sequential forecasters, is the always-on one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from financial_assets.errors import ExperimentError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision import first_rule, reasons
from financial_assets.experiment.decision.conditions import Conditions, needed_z, standing_of
from financial_assets.experiment.decision.evidence import Evidence
from financial_assets.experiment.decision.looks import due_looks, watch
from financial_assets.experiment.decision.record import (
    Action,
    ConfidenceSequence,
    Decision,
    Guardrail,
    Look,
    Standing,
    TrafficEvidence,
)
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
        The evidence is silent about a baseline of the plan.
    """
    silent = [name for name in plan.must_beat if name not in evidence.against]
    if silent:
        wanted = "to be beaten" if plan.rule == 1 else "to be compared with"
        raise ExperimentError(f"the plan wants {', '.join(silent)} {wanted}, but the evidence does not name it")
    looks, always_on = due_looks(plan, evidence), always_on or watch(plan, evidence)
    guardrails = (*traffic.guardrails, _completeness(plan, evidence))
    days, standing = len(evidence.main), None
    if plan.rule == 1:
        action, why, sharpe = first_rule.judge(plan, evidence, guardrails, looks, always_on, deflated_sharpe)
        ended = action != "hold" or days >= plan.looks[-1]
    else:
        standing = standing_of(plan, evidence, always_on.log_e)
        case = Case(plan, days, looks, always_on, standing)
        action, why, sharpe = _judge(case, guardrails, deflated_sharpe)
        ended = action != "hold" or case.is_over
    if not plan.moves_traffic and action != "hold":
        why = (*why, reasons.traffic_stays(plan, action))
    return Decision(
        action=action,
        reasons=why,
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
        ended=ended,
        weights=_weights(action, plan, epoch, released=ended and plan.test.at_horizon == "release"),
        standing=standing,
        question=None if plan.moves_traffic else plan.question,
    )


@dataclass(frozen=True, slots=True)
class Case:
    """What the second rule judges.

    Attributes
    ----------
    plan, days
        The test, and its evaluated days.
    looks, always_on
        What its two tests say.
    standing
        The conditions as of the last day.
    """

    plan: ExperimentPlan
    days: int
    looks: Sequence[Look]
    always_on: ConfidenceSequence
    standing: Standing

    @property
    def latest(self) -> Look | None:
        """The look that took place last."""
        return self.looks[-1] if self.looks else None

    @property
    def won(self) -> Look | None:
        """The latest look if it was won so recently that it may be acted on."""
        look = self.latest
        return look if look and look.crossed and self.days <= look.day + self.plan.act_within else None

    @property
    def is_over(self) -> bool:
        """Whether nobody can be promoted by this test any more."""
        if self.latest and self.latest.outcome in ("harm", "futile"):
            return True
        return self.days >= self.plan.looks[-1] and self.won is None  # on the last day the look decides

    def unmet(self) -> tuple[list[str], list[str]]:
        """The conditions that are not met on this day; see :meth:`.Conditions.unmet`."""
        return Conditions(self.standing.against, self.standing.guards).unmet(needed_z(self.plan))


def _judge(
    case: Case, guardrails: Sequence[Guardrail], deflated_sharpe: Callable[[], float | None]
) -> tuple[Action, tuple[str, ...], float | None]:
    plan, always_on = case.plan, case.always_on
    fired = [guardrail for guardrail in guardrails if guardrail.fired]
    unsafe = [guardrail.reason for guardrail in fired if guardrail.action == "rollback"]
    if unsafe:
        return "rollback", tuple(unsafe), None
    if fired:
        return "hold", tuple(f"nothing can be concluded: {guardrail.reason}" for guardrail in fired), None
    if case.days and always_on.high <= -plan.test.margin:
        return "rollback", (reasons.worse_on_any_day(plan, always_on),), None
    if case.latest and case.latest.outcome == "harm":
        return "rollback", (reasons.worse_at_a_look(plan, case.latest),), None
    favour = _in_favour(case)
    if favour is None:
        return "hold", _why_not(case), None
    sharpe = deflated_sharpe()
    against = [] if plan.can_promote else [reasons.underpowered(plan)]
    if plan.test.deflated_sharpe and (sharpe is None or sharpe < plan.test.deflated_sharpe):
        against.append(reasons.luck(plan, sharpe))
    return ("hold", (*against, favour), sharpe) if against else ("promote", (favour,), sharpe)


def _in_favour(case: Case) -> str | None:
    if case.won:
        return reasons.better_at_a_look(case.plan, case.won)
    if case.standing.sequence and not case.is_over and not any(case.unmet()):
        return reasons.better_on_any_day(case.plan, case.always_on)
    return None


def _why_not(case: Case) -> tuple[str, ...]:
    """Why nothing is concluded, and what would have to happen."""
    plan, latest = case.plan, case.latest
    if not case.days:
        return (reasons.no_day(plan),)
    if case.is_over:
        is_futile = latest is not None and latest.outcome == "futile"
        ended = reasons.futile(plan, latest) if latest and is_futile else reasons.ended(plan, latest)
        return (ended,) if plan.can_promote else (reasons.underpowered(plan), ended)
    if not plan.can_promote:
        return (reasons.underpowered(plan),)
    if case.standing.sequence:
        return (reasons.conditions_open(plan, *case.unmet()), reasons.next_look(plan, case.days))
    if latest is None:
        return (reasons.too_early(plan, case.days),)
    return (reasons.no_winner_yet(plan, latest, case.days),)


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


def _weights(action: Action, plan: ExperimentPlan, epoch: WeightEpoch, *, released: bool) -> Mapping[str, int]:
    """What follows from this decision alone; another challenger's may overrule it."""
    if not plan.moves_traffic:
        return dict(epoch.weights)
    if action == "promote":
        return {plan.challenger: 100}
    if action == "rollback" or released:
        return epoch.without(plan.challenger)
    return dict(epoch.weights)
