"""The first rule's reasons in plain words: made from the figures of record and plan, because its records are terse.

The reasons inside a record are part of its digest, which approvals and ``decide --repeat`` rely on, so they are never
reworded.
"""

from __future__ import annotations

from financial_assets.experiment.decision.guardrail_words import guardrail_sentence
from financial_assets.experiment.decision.reasons import confidence, listed
from financial_assets.experiment.decision.record import Action, Decision
from financial_assets.experiment.decision.series import metric_of
from financial_assets.experiment.decision.units import amount
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.market import calendar


def judge(decision: Decision, plan: ExperimentPlan) -> tuple[Action, tuple[str, ...]]:
    """Action and reasons in the order of :func:`.first_rule.judge`: safety, then traffic, then evidence."""
    fired = [rail for rail in decision.guardrails if rail.fired]
    unsafe = [guardrail_sentence(rail, decision, plan) for rail in fired if rail.action == "rollback"]
    if unsafe:
        return "rollback", tuple(unsafe)
    if fired:
        sentences = [guardrail_sentence(rail, decision, plan) for rail in fired]
        return "hold", tuple(f"Nothing can be concluded. {sentence}" for sentence in sentences)
    metric, always = metric_of(plan), decision.always_on
    if always.high <= -plan.test.margin and decision.days:
        worse = amount(always.high, metric)
        least = f"by at least {worse} in {metric.title}" if always.high < 0 else f"in {metric.title}"
        return "rollback", (
            f"{decision.challenger} is worse than {decision.champion} {least}, with {confidence(plan)} confidence, "
            "valid on every day.",
        )
    favour = _in_favour(decision, plan)
    if favour is None:
        return "hold", _not_yet(decision, plan)
    against = _against(decision, plan)
    return ("hold", (*against, favour)) if against else ("promote", (favour,))


def _in_favour(decision: Decision, plan: ExperimentPlan) -> str | None:
    beaten = f"{decision.challenger} is better than {listed([decision.champion, *plan.must_beat])}"
    metric, always = metric_of(plan), decision.always_on
    if decision.looks and decision.looks[-1].crossed:
        look = decision.looks[-1]
        return (
            f"{beaten}: at the planned look on day {look.day} the evidence reached z = {look.z:.2f}; "
            f"{look.boundary:.2f} was needed."
        )
    if always.clears(plan.test.margin):
        return (
            f"{beaten}: its advantage in {metric.title} is at least {amount(always.low, metric)} with "
            f"{confidence(plan)} confidence, valid on every day; more than {amount(plan.test.margin, metric)} was "
            "needed."
        )
    return None


def _against(decision: Decision, plan: ExperimentPlan) -> list[str]:
    against: list[str] = []
    if not plan.can_promote:
        against.append(_underpowered(plan))
    if any("but not the share of right directions" in reason for reason in decision.reasons):
        better = metric_of(plan).title
        against.append(f"Its {better} is better, but not its share of right directions: check its calibration.")
    needed, ratio = plan.test.deflated_sharpe, decision.deflated_sharpe
    if needed and (ratio is None or ratio < needed):
        shown = "is not defined" if ratio is None else f"is {ratio:.2f}"
        against.append(
            f"Its deflated Sharpe ratio {shown}; at least {needed:g} is needed. The profit may be the luck of the best "
            "of all registered versions."
        )
    return against


def _underpowered(plan: ExperimentPlan) -> str:
    metric, days = metric_of(plan), plan.days_for_plausible
    year = calendar.sessions_per_year()
    years = f" ({days / year:.0f} years)" if days >= 2 * year else ""
    return (
        f"Not enough days to tell. A test of {plan.looks[-1]} days can only see differences of "
        f"{amount(plan.detectable, metric)} or more in {metric.title}; "
        f"{amount(plan.test.plausible_effect, metric)} is the most one can expect here, and that would take about "
        f"{days:,} trading days{years}."
    )


def _not_yet(decision: Decision, plan: ExperimentPlan) -> tuple[str, ...]:
    days, horizon = decision.days, plan.looks[-1]
    if not days:
        return (f"No evidence yet: no session after {plan.starts_after} has a known outcome.",)
    if days >= horizon:
        ended = _ended(decision, plan)
        return (_underpowered(plan), ended) if not plan.can_promote else (ended,)
    if not plan.can_promote:
        return (_underpowered(plan),)
    coming = next(day for day in plan.looks if day > days)
    if not decision.looks:
        return (f"Too early to decide: the first planned look is on day {coming}; {days} have been seen.",)
    last = decision.looks[-1]
    short = [name for name, z in last.against.items() if z < last.boundary]
    seen = f"at the planned look on day {last.day} the evidence reached z = {last.z:.2f} of {last.boundary:.2f} needed"
    unbeaten = f", and it was not shown to beat {listed(short)}" if short and last.z >= last.boundary else ""
    return (f"No winner yet: {seen}{unbeaten}. The next look is on day {coming}.",)


def _ended(decision: Decision, plan: ExperimentPlan) -> str:
    """The end of a planned test without a winner, and what is still monitored."""
    when = f" on {decision.looks[-1].session}" if decision.looks else ""
    released = (
        f" {decision.challenger} gets no more requests and is scored in pairs only."
        if plan.test.at_horizon == "release"
        else ""
    )
    return (
        f"The planned test of {plan.looks[-1]} days ended{when} without a winner; {decision.champion} stays champion."
        f"{released} Only the interval that is valid on every day and the guardrails are still monitored."
    )
