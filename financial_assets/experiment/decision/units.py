"""Differences of a metric as people read them: with a sign, in its unit."""

from __future__ import annotations

from financial_assets.experiment.paired_score import PairedMetric

_UNITS: dict[PairedMetric, tuple[float, int, str]] = {
    "accuracy": (100, 1, " points"),
    "brier": (1, 4, ""),
    "log_loss": (1, 4, " nats"),
    "pinball": (10_000, 2, " basis points"),
}
METRIC_NAMES: dict[PairedMetric, str] = {
    "accuracy": "accuracy",
    "brier": "Brier score",
    "log_loss": "log loss",
    "pinball": "pinball loss",
}
"""Metric -> its name in a sentence."""


def amount(value: float, metric: PairedMetric) -> str:
    """The size of a difference with its unit: ``7 points`` of accuracy in percent."""
    return signed_amount(abs(value), metric).removeprefix("+")


def signed_amount(value: float, metric: PairedMetric) -> str:
    """A difference with its sign and unit: ``-1.3 points``."""
    scale, digits, unit = _UNITS[metric]
    size = f"{round(scale * value, digits) + 0.0:+.{digits}f}"  # + 0.0: there is no "-0.0"
    if metric == "accuracy":
        size = size.removesuffix(".0")
        unit = " point" if size in ("+1", "-1") else unit
    return f"{size}{unit}"
