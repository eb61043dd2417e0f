"""The guardrails of a decision in plain words: as rows of a table and as sentences."""

from __future__ import annotations

from dataclasses import dataclass

from financial_assets.experiment.decision.record import Decision, Guardrail
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.plan.sections import GuardrailPolicy


@dataclass(frozen=True, slots=True)
class GuardrailLine:
    """One guardrail as a row of a table.

    Attributes
    ----------
    name, of
        Which guardrail, and whose: a model's or the experiment's.
    state
        ``FIRED``, ``fine``, or ``fine, within chance`` where the share alone looks like a breach.
    seen, expected
        Share seen, and what it is compared with.
    p_value
        p-value of a breach, valid at every look; ``–`` where there is none.
    alarm
        What makes it fire.
    requests
        Requests, or predictions, behind the share.
    action
        What follows if it fires.
    sentence
        The row as a sentence.
    """

    name: str
    of: str
    state: str
    seen: str
    expected: str
    p_value: str
    alarm: str
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
            seen=_share(rail.observed),
            expected=f"{'weights' if rail.name == 'sample ratio' else 'at most'} {_share(rail.objective)}",
            p_value=_p_value(rail),
            alarm=_alarm(rail, plan.guardrails),
            requests=f"{rail.count:,}",
            action="roll back" if rail.action == "rollback" else rail.action,
            sentence=guardrail_sentence(rail, decision, plan),
        )
        for rail in decision.guardrails
    )


def guardrail_sentence(rail: Guardrail, decision: Decision, plan: ExperimentPlan) -> str:
    """What was seen, and what it is compared with."""
    limits = plan.guardrails
    share, allowed = _share(rail.observed), f"(allowed: at most {_share(rail.objective)})"
    requests = f"{share} of {rail.count:,} requests"
    chance = " So few requests do not prove a breach." if not rail.fired and _looks_bad(rail) else ""
    match rail.name:
        case "errors" | "latency":
            failure = "failed" if rail.name == "errors" else f"took over {limits.latency_objective_s:g} s"
            both = f" {decision.champion} breaches the limit too, so the challenger is not at fault."
            sentence = f"{requests} to {decision.challenger} {failure} {allowed}.{chance}"
            return sentence + (both if rail.fired and not rail.model else "")
        case "sample ratio":
            split = f"{decision.challenger} got {requests}; its weight is {_share(rail.objective)}"
            alarm = _alarm(rail, limits)
            if not rail.fired:
                return f"{split}. The difference is within chance ({alarm})."
            seen = _p_value(rail)
            return f"Traffic is not split by the weights: {split} ({alarm if seen == '–' else f'p = {seen}, {alarm}'})."
        case "attribution":
            return f"{requests} belong to no arm {allowed}.{chance}"
        case "missing":
            missing = f"{round(rail.observed * rail.count):,} of {rail.count:,} due predictions of the two arms"
            return f"{missing} are missing, {share} {allowed}."
        case _:
            return as_sentence(rail.reason)


def _p_value(rail: Guardrail) -> str:
    """Of this decision, or of a sample ratio that fired once: then the record has it inside the reason."""
    if rail.p_value is not None:
        return f"{rail.p_value:.2g}"
    return rail.reason.partition("(anytime-valid p = ")[2].rstrip(")") or "–"


def _alarm(rail: Guardrail, limits: GuardrailPolicy) -> str:
    if rail.name == "missing":  # a count that should be zero needs no test
        return f"alarm above {_share(rail.objective)}"
    return f"alarm at p = {limits.srm_alpha if rail.name == 'sample ratio' else limits.alpha:g} or below"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _looks_bad(rail: Guardrail) -> bool:
    """Whether a share lies on the wrong side of its limit, or differs from the weights."""
    return rail.observed != rail.objective if rail.name == "sample ratio" else rail.observed > rail.objective


def as_sentence(text: str) -> str:
    """A stored reason as a sentence; a model's name keeps its lower-case initial."""
    first = text.split(" ", 1)[0]
    start = text[:1] if any(sign.isdigit() for sign in first) else text[:1].upper()
    return f"{start}{text[1:].rstrip('.')}."
