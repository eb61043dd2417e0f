"""What a person reads of a decision: its sentences and guardrails, alike on the page, in Dagster, MLflow and consoles.

The reasons inside a record are part of its digest, which approvals and repeated computations go by. They are never
reworded; a person is shown the sentences of this module instead, made from the figures of record and plan. A record
that these do not explain, because it was taken by other rules, is shown with its own reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from financial_assets.experiment.decision.record import Action, Decision, Guardrail
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.scoring.performance import SESSIONS_PER_YEAR

__all__ = [
    "GuardrailLine",
    "amount",
    "first_reason",
    "guardrail_lines",
    "guardrail_sentence",
    "progress",
    "reasons_in_words",
    "signed_amount",
]

_UNITS: dict[PairedMetric, tuple[float, int, str]] = {
    "accuracy": (100, 1, " percentage points"),
    "brier": (1, 4, ""),
    "log_loss": (1, 4, " nats"),
    "pinball": (10_000, 2, " basis points"),
}
_NAMES: dict[PairedMetric, str] = {
    "accuracy": "accuracy",
    "brier": "Brier score",
    "log_loss": "log loss",
    "pinball": "pinball loss",
}


def amount(value: float, metric: PairedMetric) -> str:
    """The size of a difference with its unit: ``7.0 percentage points``."""
    scale, digits, unit = _UNITS[metric]
    return f"{abs(scale * value):.{digits}f}{unit}"


def signed_amount(value: float, metric: PairedMetric) -> str:
    """A difference with its sign and unit: ``-1.3 percentage points``."""
    scale, digits, unit = _UNITS[metric]
    return f"{scale * value:+.{digits}f}{unit}"


def reasons_in_words(decision: Decision, plan: ExperimentPlan) -> tuple[str, ...]:
    """Why it was decided so, one or more sentences each; the first says what decided."""
    action, reasons = _judge(decision, plan)
    if action != decision.action:
        return tuple(_as_sentence(reason) for reason in decision.reasons)
    return reasons


def first_reason(decision: Decision, plan: ExperimentPlan | None) -> str:
    """What decided, as a sentence; in the record's own words if its plan is not at hand."""
    return _as_sentence(decision.reasons[0]) if plan is None else reasons_in_words(decision, plan)[0]


def progress(decision: Decision, plan: ExperimentPlan) -> tuple[str, str]:
    """How far the test is: evaluated days, and what they are of."""
    horizon = plan.looks[-1]
    looks = f"{len(decision.looks)} of {len(plan.looks)} planned looks have taken place"
    if decision.looks and decision.looks[-1].crossed:
        return f"{decision.days} days", f"the planned test ended at the look on day {decision.looks[-1].day}"
    if decision.days < horizon:
        return f"{decision.days} of {horizon} planned days", looks
    return f"{decision.days} days", f"the planned test ended on day {horizon} ({decision.looks[-1].session})"


@dataclass(frozen=True, slots=True)
class GuardrailLine:
    """One guardrail as a row of a table.

    Attributes
    ----------
    name, of
        Which, and whose: a model's or the experiment's.
    state
        ``FIRED``, ``fine``, or why what looks like a breach is none.
    seen, limit
        Share seen, and what it is held against.
    requests
        Requests, or predictions, behind it.
    action
        What follows if it fires.
    sentence
        All of it.
    """

    name: str
    of: str
    state: str
    seen: str
    limit: str
    requests: str
    action: str
    sentence: str


def guardrail_lines(decision: Decision, plan: ExperimentPlan) -> tuple[GuardrailLine, ...]:
    """All guardrails of a decision."""
    return tuple(
        GuardrailLine(
            name=rail.name,
            of=rail.model or "experiment",
            state="FIRED" if rail.fired else "fine, within chance" if _looks_bad(rail) else "fine",
            seen=_share(rail.observed, 2),
            limit=_limit(rail, plan),
            requests=f"{rail.count:,}",
            action="roll back" if rail.action == "rollback" else rail.action,
            sentence=guardrail_sentence(rail, decision, plan),
        )
        for rail in decision.guardrails
    )


def guardrail_sentence(rail: Guardrail, decision: Decision, plan: ExperimentPlan) -> str:
    """What was seen, and what it is held against."""
    limits = plan.guardrails
    seen, allowed = (
        f"{_share(rail.observed)} of {rail.count:,} requests",
        f"(allowed: at most {_share(rail.objective)})",
    )
    chance = "" if rail.fired or not _looks_bad(rail) else ". So few requests do not prove a breach"
    match rail.name:
        case "errors" | "latency":
            bad = "failed" if rail.name == "errors" else f"took over {limits.latency_objective_s:g} s"
            said = f"{seen} to {decision.challenger} {bad} {allowed}{chance}."
            shared = f" {decision.champion} does no better, so that the fault is not the challenger's."
            return said + (shared if rail.fired and not rail.model else "")
        case "sample ratio":
            return _split(rail, decision.challenger, limits.srm_alpha)
        case "attribution":
            return f"{seen} belong to no arm {allowed}{chance}."
        case "missing":
            missing = f"{round(rail.observed * rail.count):,} of {rail.count:,} due predictions of the two arms"
            return f"{missing} are missing, {_share(rail.observed)} {allowed}."
        case _:
            return _as_sentence(rail.reason)


def _split(rail: Guardrail, challenger: str, alpha: float) -> str:
    shares = f"{challenger} got {_share(rail.observed)} of {rail.count:,} requests"
    asked, alarm = f"the weights ask for {_share(rail.objective)}", f"alarm at p = {alpha:g} or below"
    if not rail.fired:
        return f"{shares}, and {asked}: the difference is within chance ({alarm})."
    p_value = rail.reason.partition("(anytime-valid p = ")[2].rstrip(")")
    found = f"p = {p_value}; {alarm}" if p_value else alarm
    return f"The traffic is not split as the weights say: {shares}, but {asked} ({found})."


def _share(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def _looks_bad(rail: Guardrail) -> bool:
    """Whether a share that has not fired lies on the wrong side of its limit, or beside the weights."""
    return rail.observed != rail.objective if rail.name == "sample ratio" else rail.observed > rail.objective


def _limit(rail: Guardrail, plan: ExperimentPlan) -> str:
    if rail.name == "sample ratio":
        return f"weights ask for {_share(rail.objective, 2)}; alarm at p = {plan.guardrails.srm_alpha:g} or below"
    return f"at most {_share(rail.objective, 2)}"


def _judge(decision: Decision, plan: ExperimentPlan) -> tuple[Action, tuple[str, ...]]:
    """The same order as the rule's: see ``decision.decide``."""
    fired = [rail for rail in decision.guardrails if rail.fired]
    unsafe = [guardrail_sentence(rail, decision, plan) for rail in fired if rail.action == "rollback"]
    if unsafe:
        return "rollback", tuple(unsafe)
    if fired:
        said = [guardrail_sentence(rail, decision, plan) for rail in fired]
        return "hold", tuple(f"Nothing can be concluded. {sentence}" for sentence in said)
    metric, always = plan.test.metric, decision.always_on
    if always.high <= -plan.test.margin and decision.days:
        worse = amount(always.high, metric)
        least = f"by at least {worse} in {_NAMES[metric]}" if always.high < 0 else f"in {_NAMES[metric]}"
        return "rollback", (
            f"{decision.challenger} is worse than {decision.champion} {least}; this holds on every day with "
            f"{_confidence(plan)} confidence.",
        )
    favour = _in_favour(decision, plan)
    if favour is None:
        return "hold", _not_yet(decision, plan)
    against = _against(decision, plan)
    return ("hold", (*against, favour)) if against else ("promote", (favour,))


def _in_favour(decision: Decision, plan: ExperimentPlan) -> str | None:
    beaten = f"{decision.challenger} is better than {_listed([decision.champion, *plan.must_beat])}"
    metric, always = plan.test.metric, decision.always_on
    if decision.looks and decision.looks[-1].crossed:
        look = decision.looks[-1]
        return (
            f"{beaten}: at the planned look on day {look.day} the evidence reached z = {look.z:.2f}, and "
            f"{look.boundary:.2f} was needed."
        )
    if always.clears(plan.test.margin):
        return (
            f"{beaten}: on every day its advantage in {_NAMES[metric]} is at least {amount(always.low, metric)}, with "
            f"{_confidence(plan)} confidence; more than {amount(plan.test.margin, metric)} was needed."
        )
    return None


def _against(decision: Decision, plan: ExperimentPlan) -> list[str]:
    against: list[str] = []
    if not plan.can_promote:
        against.append(_underpowered(plan))
    if any("but not the share of right directions" in reason for reason in decision.reasons):
        against.append(
            f"Its {_NAMES[plan.test.metric]} is better, but not its share of right directions: check its calibration."
        )
    wanted, found = plan.test.deflated_sharpe, decision.deflated_sharpe
    if wanted and (found is None or found < wanted):
        said = "is not defined" if found is None else f"is {found:.2f}"
        against.append(
            f"Its deflated Sharpe ratio {said}, and at least {wanted:g} is needed: its profit may be the luck of the "
            "best of all registered versions."
        )
    return against


def _underpowered(plan: ExperimentPlan) -> str:
    metric, days = plan.test.metric, plan.days_for_plausible
    years = f" ({days / SESSIONS_PER_YEAR:.0f} years)" if days >= 2 * SESSIONS_PER_YEAR else ""
    return (
        f"Not enough days to tell. A test of {plan.looks[-1]} days can only see differences of "
        f"{amount(plan.detectable, metric)} or more in {_NAMES[metric]}. "
        f"{amount(plan.test.plausible_effect, metric)} is the most that one can expect here, and seeing that "
        f"takes about {days:,} trading days{years}."
    )


def _not_yet(decision: Decision, plan: ExperimentPlan) -> tuple[str, ...]:
    days, horizon = decision.days, plan.looks[-1]
    if not days:
        return (f"No evidence yet: the outcome of no session after {plan.starts_after} is known.",)
    if days >= horizon:
        ended = _ended(decision, plan)
        return (_underpowered(plan), ended) if not plan.can_promote else (ended,)
    if not plan.can_promote:
        return (_underpowered(plan),)
    coming = next(day for day in plan.looks if day > days)
    if not decision.looks:
        return (f"Too early to decide: the first planned look is on day {coming}, and this is day {days}.",)
    last = decision.looks[-1]
    short = [name for name, z in last.against.items() if z < last.boundary]
    seen = (
        f"at the planned look on day {last.day} the evidence reached z = {last.z:.2f}, and {last.boundary:.2f} was "
        "needed"
    )
    unbeaten = f"; {_listed(short)} not shown to be beaten" if short and last.z >= last.boundary else ""
    return (f"No winner yet: {seen}{unbeaten}. The next look is on day {coming}.",)


def _ended(decision: Decision, plan: ExperimentPlan) -> str:
    """The end of a planned test without a winner, and what is still watched."""
    when = f" on {decision.looks[-1].session}" if decision.looks else ""
    released = (
        f" {decision.challenger} gets no more requests and is scored in pairs only."
        if plan.test.at_horizon == "release"
        else ""
    )
    return (
        f"The planned test of {plan.looks[-1]} days ended{when} without a winner; {decision.champion} stays champion."
        f"{released} Only the always-on interval and the guardrails are still watched."
    )


def _confidence(plan: ExperimentPlan) -> str:
    return f"{plan.confidence.rstrip('%')} %"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _as_sentence(text: str) -> str:
    """A stored reason as a sentence; a model's name keeps its first letter."""
    first = text.split(" ", 1)[0]
    start = text[:1] if any(sign.isdigit() for sign in first) else text[:1].upper()
    return f"{start}{text[1:].rstrip('.')}."
