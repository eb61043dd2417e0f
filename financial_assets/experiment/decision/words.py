"""A decision in plain words: the same sentences and guardrail rows on the page, in Dagster, MLflow and the terminal.

Decisions of the second rule give their reasons in sentences already. Those of the first are shown in sentences that
:mod:`.first_rule_words` makes from the figures of record and plan; a record that these do not explain, because it was
taken otherwise, is shown with its own reasons.
"""

from __future__ import annotations

from collections.abc import Mapping

from financial_assets.experiment.decision import first_rule_words
from financial_assets.experiment.decision.guardrail_words import as_sentence, guardrail_sentence
from financial_assets.experiment.decision.reasons import sessions_in_words
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.series import metric_of
from financial_assets.experiment.decision.units import amount, signed_amount
from financial_assets.experiment.plan.plan import ExperimentPlan

__all__ = [
    "amount",
    "first_reason",
    "horizon_in_words",
    "metric_and_why",
    "power_in_words",
    "progress",
    "reasons_in_words",
    "signed_amount",
]

_PRICES = {"baselines": "the baselines", "guards": "the guards against harm", "futility": "ending without hope"}


def reasons_in_words(decision: Decision, plan: ExperimentPlan) -> tuple[str, ...]:
    """Why the decision was taken, one or more sentences each; the first gives the deciding reason."""
    fired = [rail for rail in decision.guardrails if rail.fired]
    if plan.rule == 2 and fired:
        unsafe = [rail for rail in fired if rail.action == "rollback"]
        sentences = [guardrail_sentence(rail, decision, plan) for rail in unsafe or fired]
        return tuple(sentences if unsafe else [f"Nothing can be concluded. {sentence}" for sentence in sentences])
    if plan.rule == 2:
        return decision.reasons
    action, reasons = first_rule_words.judge(decision, plan)
    if action != decision.action:
        return tuple(as_sentence(reason) for reason in decision.reasons)
    return reasons


def first_reason(decision: Decision, plan: ExperimentPlan | None) -> str:
    """The deciding reason as a sentence; in the record's own words if its plan is not at hand."""
    return as_sentence(decision.reasons[0]) if plan is None else reasons_in_words(decision, plan)[0]


def progress(decision: Decision, plan: ExperimentPlan) -> tuple[str, str]:
    """How far the test has come: days seen, and what that means for the planned test."""
    horizon, seen = plan.looks[-1], f"{decision.days} day{'s' if decision.days != 1 else ''} seen"
    latest = decision.looks[-1] if decision.looks else None
    if latest and latest.outcome in ("harm", "futile"):
        return seen, f"the test ended at the look on day {latest.day} ({latest.session})"
    if latest and latest.crossed and (plan.rule == 1 or decision.action == "promote"):
        return seen, f"the planned test ended at the look on day {latest.day}"
    if decision.days < horizon:
        looks = f"{len(decision.looks)} of {len(plan.looks)} planned looks have taken place"
        return f"{decision.days} of {horizon} planned days seen", looks
    return seen, f"the planned test ended on day {horizon} ({decision.looks[-1].session})"


def metric_and_why(plan: ExperimentPlan) -> str:
    """What a plan is decided by, and why: by a registered rule, or because the rollout policy said so."""
    title = metric_of(plan).title
    if plan.rule == 1:
        return title
    return f"{title}, chosen by rule: {plan.why}" if plan.why else f"{title}, named by the rollout policy"


def horizon_in_words(plan: ExperimentPlan) -> str:
    """How long the planned test lasts, and why."""
    sessions = f"{plan.looks[-1]} sessions"
    if not plan.horizons:
        return f"{sessions}, named by the rollout policy"
    tried = ", ".join(
        f"{horizon} find {amount(effect, metric_of(plan))}" for horizon, effect in _by_length(plan.horizons)
    )
    hoped = amount(plan.test.plausible_effect, metric_of(plan))
    why = f"the fewest that find {hoped}" if plan.can_promote else f"the most there may be, which do not find {hoped}"
    return f"{sessions}, chosen by the spread alone: {why} with {100 * plan.test.power:.0f} % power ({tried})"


def _by_length(horizons: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(horizons.items(), key=lambda item: int(item[0]))


def power_in_words(plan: ExperimentPlan) -> tuple[str, ...]:
    """What the plan's whole rule does, as simulated before the first day; nothing where it was not."""
    power, metric = plan.whole_rule, metric_of(plan)
    if power is None:
        return ()
    _, half, hoped, twice = (amount(effect, metric) for effect in power.effects)
    none, some, most, nearly = (f"{100 * share:.0f} %" for share in power.promoted)
    prices = [f"{_PRICES.get(name, name)} {100 * price:.0f}" for name, price in power.prices.items()]
    if plan.detectable > plan.test.plausible_effect:
        verdict = f"Underpowered: {100 * plan.test.power:.0f} % take {amount(plan.detectable, metric)}, "
        verdict += f"or {sessions_in_words(plan, plan.days_for_plausible)}."
    else:
        verdict = f"A difference of {amount(plan.detectable, metric)} is promoted in {100 * plan.test.power:.0f} %."
    return (
        f"A challenger that is better in {metric.title} by {hoped}, the most one can expect, is promoted in "
        f"{most} of all tests; by {half}, in {some}; by {twice}, in {nearly}; an equal one in {none}. {verdict}",
        f"A test takes {power.days[2]:.0f} sessions on average if the challenger is better by {hoped}, "
        f"{power.days[0]:.0f} if it is equal.",
        f"Promotions that each condition prevents in 100 tests of a challenger that is better by {hoped}: "
        f"{', '.join(prices)}.",
    )
