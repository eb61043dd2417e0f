"""Which metric decides a plan whose policy leaves that open: the one that can see the most, by a fixed rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from financial_assets.errors import ExperimentError
from financial_assets.experiment.metrics.metric import Question
from financial_assets.experiment.metrics.registry import METRICS, metrics_of
from financial_assets.experiment.plan.plan import DailyDeviation


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
        Metric -> minimum detectable effect over plausible effect; below 1 a test can find what may be hoped for.
    """

    metric: str
    why: str
    ratios: Mapping[str, float]


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
    others = ", ".join(f"{METRICS[name].title} {ratio:.2f}" for name, ratio in ratios.items() if name != best)
    why = (
        f"{METRICS[best].title} can find {ratios[best]:.2f} of its plausible effect within {horizon} sessions"
        f"{f'; {others}' if others else ''}"
    )
    return MetricChoice(best, why, ratios)
