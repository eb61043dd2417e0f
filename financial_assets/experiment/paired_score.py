"""The names of metrics in policies and plans, and how a difference is written in a record."""

from __future__ import annotations

from typing import Literal

from financial_assets.experiment.metrics.paired import KEYS, PairedDays, rows_of

__all__ = ["KEYS", "MetricSetting", "PairedDays", "PairedMetric", "in_words", "rows_of"]

PairedMetric = Literal[
    "accuracy",
    "brier",
    "log_loss",
    "rank_ic",
    "excess_accuracy",
    "long_short",
    "pinball",
    "qlike",
    "var_es",
    "pinball_5d",
    "qlike_5d",
    "var_es_5d",
    "qlike_range",
]
"""Keys of :data:`~financial_assets.experiment.metrics.registry.METRICS`, in its order."""

MetricSetting = Literal["auto", PairedMetric]
"""What a rollout policy may say: a metric, or that one is chosen when a plan is registered."""


def in_words(value: float, metric: PairedMetric) -> str:
    """A difference with its sign; losses are small numbers, of which three digits are kept."""
    return f"{value:+.3f}" if metric == "accuracy" else f"{value:+.3g}"
