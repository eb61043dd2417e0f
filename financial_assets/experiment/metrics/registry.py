"""All metrics by name, and those of a registered plan."""

from __future__ import annotations

from collections.abc import Mapping

from financial_assets.experiment.metrics.books import PROFIT
from financial_assets.experiment.metrics.direction import DIRECTION
from financial_assets.experiment.metrics.metric import Metric, Question
from financial_assets.experiment.metrics.ranking import RANKING
from financial_assets.experiment.metrics.risk import PINBALL_IN_RETURN, RISK

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*DIRECTION, *RANKING, *RISK)}
"""What a plan may be decided by."""

EARLIER_METRICS: Mapping[str, Metric] = {**METRICS, "pinball": PINBALL_IN_RETURN}
"""What plans of the first rule are decided by, and what reports describe forecasters by: ``pinball`` in log return."""

GUARDS: Mapping[str, Metric] = {"accuracy": METRICS["accuracy"], "profit": PROFIT, "tail": METRICS["var_es"]}
"""By what a challenger must not be shown to do harm."""


def metrics_of(question: Question) -> tuple[Metric, ...]:
    """Those that answer a question, in their order."""
    return tuple(metric for metric in METRICS.values() if metric.question == question)
