"""Which paired series the evidence of a plan consists of, and which columns of log and prices they need."""

from __future__ import annotations

from dataclasses import dataclass

from financial_assets.experiment.metrics.metric import Metric, Question
from financial_assets.experiment.metrics.registry import EARLIER_METRICS, GUARDS, METRICS
from financial_assets.experiment.plan.plan import ExperimentPlan

MAIN, ACCURACY = "main", "accuracy"
"""Names of series; that against a baseline is called ``against <baseline>``, that of a guard ``guard <name>``."""

RANGE = ("q05", "q95")
"""Quantiles between which nine in ten outcomes should lie."""


@dataclass(frozen=True, slots=True)
class Series:
    """One number per day: the challenger's score less a rival's.

    Attributes
    ----------
    name
        In tables of evidence.
    metric
        By which score.
    baseline
        The rival; empty for the champion.
    """

    name: str
    metric: Metric
    baseline: str = ""


def metric_of(plan: ExperimentPlan) -> Metric:
    """What a plan is decided by: plans of the first rule keep their own meaning of ``pinball``."""
    return (EARLIER_METRICS if plan.rule == 1 else METRICS)[plan.test.metric]


def question_of(plan: ExperimentPlan) -> Question:
    """What a plan asks: plans of the first rule name a metric only."""
    return metric_of(plan).question


def guards_of(plan: ExperimentPlan) -> dict[str, Metric]:
    """What the challenger must not be shown to be worse in; of the first rule nothing."""
    if plan.rule == 1:
        return {}
    return {name: metric for name, metric in GUARDS.items() if metric.name != plan.test.metric}


def series_of(plan: ExperimentPlan) -> tuple[Series, ...]:
    """All series of a plan, in the order of its evidence's digest.

    Baselines are compared by the plan's metric, those of a plan of the first rule by accuracy.
    """
    metric = metric_of(plan)
    accuracy = METRICS[ACCURACY]
    safeguard = () if metric.name == ACCURACY else (Series(ACCURACY, accuracy),)
    rivalry = accuracy if plan.rule == 1 else metric
    against = (Series(f"against {name}", rivalry, name) for name in plan.must_beat)
    # The guard against fewer right directions is the safeguard's series: it is not computed twice.
    guards = (Series(f"guard {name}", guard) for name, guard in guards_of(plan).items() if guard.name != ACCURACY)
    return (Series(MAIN, metric), *safeguard, *against, *guards)


def prediction_columns(plan: ExperimentPlan) -> tuple[str, ...]:
    """Columns of predictions that a plan's evidence needs."""
    answers = (column for series in series_of(plan) for column in series.metric.answers)
    return tuple(dict.fromkeys(("probability_up", *answers, *(RANGE if plan.rule > 1 else ()))))


def outcome_columns(plan: ExperimentPlan) -> tuple[str, ...]:
    """Columns of outcomes, beside session and ticker, that a plan's evidence needs."""
    outcomes = (column for series in series_of(plan) for column in series.metric.outcomes)
    return tuple(dict.fromkeys(("up", *outcomes, *(("log_return",) if plan.rule > 1 else ()))))


def needs_scaled_outcomes(plan: ExperimentPlan) -> bool:
    """Whether outcomes must be given in units of the volatility as well."""
    return bool({"volatility", "excess", "range_variance", "previous"} & {*outcome_columns(plan)})


def looks_back(plan: ExperimentPlan) -> bool:
    """Whether the figures of a session depend on the answers of the session before: books pay for what they change."""
    return any(series.metric.basis == "book" for series in series_of(plan))
