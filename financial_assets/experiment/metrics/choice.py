"""Which metric decides a plan whose policy leaves that open: the one that can see the most, by a fixed rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from financial_assets.errors import ExperimentError, UnaskableError
from financial_assets.experiment.metrics.metric import Metric, Question
from financial_assets.experiment.metrics.registry import METRICS, metrics_of
from financial_assets.experiment.paired_score import PairedMetric
from financial_assets.experiment.plan.daily_deviation import DailyDeviation
from financial_assets.experiment.plan.sections import QuestionPolicy

_ASSUMABLE = ("accuracy", "brier")
"""Metrics of which :meth:`.DailyDeviation.assumed` knows something."""


@dataclass(frozen=True, slots=True)
class MetricChoice:
    """The metric of a plan.

    Attributes
    ----------
    metric
        Its name.
    why
        One sentence, for plan and report.
    ratios
        Metric -> minimum detectable effect of the planned looks alone over plausible effect; smaller is better.
    """

    metric: PairedMetric
    why: str
    ratios: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class MeasuredDays:
    """What is known of the days of a test before it starts.

    Attributes
    ----------
    spreads
        Metric -> variation of the daily differences, of the metrics of a question that could be measured.
    tickers
        Tickers of the experiment.
    lacking
        Why the others could not, as the end of a sentence that begins with "because".
    alike
        Metrics in which the two models scored the same on every day, so that there was no variation to measure.
    silent
        Baseline that forecasts nothing -> why. Nobody can be compared with it, so that no test is decided by a metric
        in which it must be beaten.
    """

    spreads: Mapping[str, DailyDeviation]
    tickers: int
    lacking: str = "the two models have fewer than 20 days before the test on which both can be scored"
    alike: frozenset[str] = frozenset()
    silent: Mapping[str, str] = field(default_factory=dict[str, str])


def choose_metric(
    question: Question, spreads: Mapping[str, DailyDeviation], *, drift: float, horizon: int
) -> MetricChoice:
    """The metric of a question with the smallest detectable effect in units of its plausible effect.

    It depends on how much the two models' days vary, never on which of the two was better.

    Parameters
    ----------
    question
        What the plan asks.
    spreads
        Metric -> expected variation of the daily differences; one without is left out.
    drift
        Mean of the planned statistic at which the looks have the plan's power (``GroupSequentialDesign.drift_for``).
    horizon
        Sessions of the test.

    Raises
    ------
    ExperimentError
        None of the question's metrics was measured.
    """
    measured = [metric for metric in metrics_of(question) if metric.name in spreads]
    if not measured:
        names = ", ".join(metric.name for metric in metrics_of(question))
        raise ExperimentError(
            f"none of {names} was measured on 20 common days of calibration, so that none can be chosen for the "
            f"question of {question}: train both models here, or set test.metric of the rollout policy"
        )
    ratios = {
        metric.name: drift * spreads[metric.name].long_run / math.sqrt(horizon) / metric.plausible_effect
        for metric in measured
    }
    best = min(ratios, key=lambda name: ratios[name])  # of equals the first, in the order of the registry
    others = ", ".join(f"{METRICS[name].title} {ratio:.2f} times" for name, ratio in ratios.items() if name != best)
    why = (
        f"by the planned looks alone, {horizon} sessions can detect a difference in {METRICS[best].title} of "
        f"{ratios[best]:.2f} times the most one can expect{f' ({others})' if others else ''}"
    )
    return MetricChoice(cast(PairedMetric, best), why, ratios)


def fewest_tickers(asked: QuestionPolicy) -> int:
    """Tickers that a universe needs for a question to be asked."""
    return min(metric.fewest_tickers for metric in _candidates(asked))


def _candidates(asked: QuestionPolicy) -> tuple[Metric, ...]:
    return metrics_of(asked.question) if asked.metric == "auto" else (METRICS[asked.metric],)


def choose(
    asked: QuestionPolicy, measured: MeasuredDays, *, drift: float, horizon: int
) -> tuple[MetricChoice, DailyDeviation]:
    """The metric that a question is decided by, and how much its days are expected to vary.

    A metric that the policy names is taken. Otherwise it is :func:`choose_metric` among those that were measured; where
    none was, among those about which something can be assumed.

    Parameters
    ----------
    asked
        The question.
    measured
        What is known of the days.
    drift, horizon
        See :func:`choose_metric`.

    Raises
    ------
    UnaskableError
        The universe has too few tickers for it, a baseline of each metric forecasts nothing, or nothing was measured
        and nothing can be assumed.
    """
    enough = [metric for metric in _candidates(asked) if metric.fewest_tickers <= measured.tickers]
    if not enough:
        raise UnaskableError(f"it needs {fewest_tickers(asked)} tickers, and the universe has {measured.tickers}")
    heard = [metric for metric in enough if not measured.silent.keys() & set(metric.baselines)]
    if not heard:
        name = next(name for name in enough[0].baselines if name in measured.silent)
        raise UnaskableError(f"it asks for models that beat the baseline {name}, but {measured.silent[name]}")
    enough = heard
    spreads = {metric.name: measured.spreads[metric.name] for metric in enough if metric.name in measured.spreads}
    basis = ""
    if not spreads:
        spreads, basis = _assumed(asked, enough, measured), f". These days are assumed, because {measured.lacking}"
    if asked.metric != "auto":
        return MetricChoice(asked.metric, "", {}), spreads[asked.metric]
    choice = choose_metric(asked.question, spreads, drift=drift, horizon=horizon)
    return replace(choice, why=f"{choice.why}{basis}"), spreads[choice.metric]


def _assumed(asked: QuestionPolicy, metrics: list[Metric], measured: MeasuredDays) -> dict[str, DailyDeviation]:
    assumed = {
        metric.name: DailyDeviation.assumed(measured.tickers, cast(PairedMetric, metric.name))
        for metric in metrics
        if metric.name in _ASSUMABLE
    }
    if not assumed:
        if measured.alike.issuperset(metric.name for metric in metrics):
            raise UnaskableError(f"{measured.lacking}, so that there is no difference to test")
        what = METRICS[asked.metric].title if asked.metric != "auto" else f"scores of {asked.question}"
        raise UnaskableError(
            f"how much the two models differ in {what} from day to day was not measured (because {measured.lacking}), "
            "and it cannot be assumed"
        )
    return assumed
