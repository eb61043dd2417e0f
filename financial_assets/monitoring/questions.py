"""Families of metrics about the questions of an experiment: what was answered, and how far each test has come."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, Metric

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.decision.series import question_of
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.engine import transaction
from financial_assets.experiment.prediction_log.reader import LogReader
from financial_assets.monitoring.families import EXPERIMENT, gauge

_LABELS = ("model_name", "experiment", "question")
_ANSWERS = {"promote": 1.0, "hold": 0.0, "rollback": -1.0}
_RECENT = 64
"""Decisions of an experiment that are read: more than the challengers and questions of one session."""
_PLAUSIBLE = 2
"""Place of the plausible effect in ``WholeRulePower.effects``."""

_QUESTION = {
    "answer": "Latest answer to a question: 1 the challenger is better, -1 it is worse or does harm, 0 still open",
    "ended": "1 if the test of a question is over: nothing more is promoted by it",
    "sessions": "Evaluated sessions of a question's test",
    "planned_sessions": "Sessions at the last planned look of it",
    "looks_left": "Planned looks that are still to come",
    "moves_traffic": "1 if requests follow the answer to the question",
    "z": "Challenger's advantage beyond the margin at the latest planned look, in standard errors",
    "z_boundary": "What z must reach at that look; before the first look, at the first one",
    "log10_e_value": "Base-10 logarithm of the e-value against 'not better than the margin', valid on every day",
    "effect": "Mean daily difference of challenger and champion, in the unit of the metric",
    "effect_lower": "Lower bound of the mean daily difference, valid on every day",
    "effect_upper": "Upper bound of the mean daily difference, valid on every day",
    "detectable_effect": "Minimum detectable effect of the registered plan, in the unit of the metric",
    "plausible_effect": "Largest difference that the plan takes for plausible, in the unit of the metric",
    "promotion_probability": "Probability that the challenger still wins by the horizon, were the plausible effect "
    "true: of the latest look, before the first one of the simulated plan",
    "alpha_spent": "Two-sided error probability that the planned looks have spent",
    "alpha_planned": "Two-sided error probability of all planned looks",
}
"""What is exposed of each question: name after ``ab_test_question_`` -> meaning."""


def questions(log: LogReader, epochs: Sequence[WeightEpoch]) -> Iterator[Metric]:
    """Each question about each present challenger: its answer, its evidence, and how far its test has come."""
    values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in _QUESTION}
    fired: dict[tuple[str, ...], float] = {}
    for epoch in epochs:
        latest = _latest(log, epoch.experiment)
        for arm in epoch.challengers:
            for plan in log.plans(epoch.experiment, epoch.champion.model, arm.model):
                labels, decision = (arm.model, epoch.experiment, question_of(plan)), latest.get(plan.digest)
                for name, value in {**_of_plan(plan), **(_of_decision(plan, decision) if decision else {})}.items():
                    values[name][labels] = value
                if decision is not None and plan.moves_traffic:
                    fired |= {
                        (rail.name, rail.model, arm.model, epoch.experiment): float(rail.fired)
                        for rail in decision.guardrails
                    }
    for name, meaning in _QUESTION.items():
        yield gauge(f"ab_test_question_{name}", meaning, values[name], _LABELS)
    rails = "1 if a guardrail of the latest decision that moves traffic has fired; model_name is empty for the pair"
    yield gauge("ab_test_guardrail_fired", rails, fired, ("guardrail", "model_name", "challenger", "experiment"))
    yield _decisions(log, epochs)


def _of_plan(plan: ExperimentPlan) -> dict[str, float]:
    """What is known from the registration on."""
    known = {
        "moves_traffic": float(plan.moves_traffic),
        "planned_sessions": float(plan.looks[-1]),
        "looks_left": float(len(plan.looks)),
        "z_boundary": plan.boundaries[0],
        "detectable_effect": plan.detectable,
        "plausible_effect": plan.test.plausible_effect,
        "alpha_spent": 0.0,
        "alpha_planned": plan.alpha_planned,
    }
    if plan.whole_rule is not None:
        known["promotion_probability"] = plan.whole_rule.promoted[_PLAUSIBLE]
    return known


def _of_decision(plan: ExperimentPlan, decision: Decision) -> dict[str, float]:
    """What the latest decision adds to it, or says anew."""
    sequence = decision.always_on
    found = {
        "answer": _ANSWERS[decision.action],
        "ended": float(decision.ended),
        "sessions": float(decision.days),
        "looks_left": 0.0 if decision.ended else float(sum(day > decision.days for day in plan.looks)),
        "alpha_spent": decision.alpha_spent,
        "log10_e_value": sequence.log_e / math.log(10),
        "effect_lower": sequence.low,
        "effect_upper": sequence.high,
    }
    if decision.estimate is not None:
        found["effect"] = decision.estimate
    if decision.looks:
        look = decision.looks[-1]
        found |= {"z": look.z, "z_boundary": look.boundary}
        if look.conditional_power is not None:
            found["promotion_probability"] = look.conditional_power
    return found


def _latest(log: LogReader, experiment: str) -> dict[str, Decision]:
    """Digest of a plan -> its latest decision; an answer that moves no traffic stands, however old it is."""
    found = {decision.plan_digest: decision for decision in log.decisions(experiment, last=_RECENT)}
    standing = {one.plan_digest: one for one in reversed(log.concluded(experiment)) if not one.moves_traffic}
    return {**found, **standing}


def _decisions(log: LogReader, epochs: Sequence[WeightEpoch]) -> Metric:
    table, meaning = schema.decisions, "Decisions on record, of all questions and challengers"
    query = sa.select(table.c.experiment, table.c.action, sa.func.count()).group_by(table.c.experiment, table.c.action)
    # Every series exists from the start at 0: the first promotion must count as an increase.
    counts = {(epoch.experiment, action): 0 for epoch in epochs for action in _ANSWERS}
    with transaction(log.engine) as connection:
        counts |= {(experiment, action): count for experiment, action, count in connection.execute(query)}
    family = CounterMetricFamily("ab_test_decisions", meaning, labels=(*EXPERIMENT, "action"))
    for labels, count in sorted(counts.items()):
        family.add_metric(labels, count)
    return family
