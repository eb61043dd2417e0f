"""Differences of a metric as people read them: with a sign, in its unit."""

from __future__ import annotations

from financial_assets.experiment.metrics.metric import Metric


def amount(value: float, metric: Metric) -> str:
    """The size of a difference with its unit: ``7 points`` of accuracy in percent."""
    return signed_amount(abs(value), metric).removeprefix("+")


def signed_amount(value: float, metric: Metric) -> str:
    """A difference with its sign and unit: ``-1.3 points``."""
    unit = metric.unit
    size = f"{round(unit.scale * value, unit.digits) + 0.0:+.{unit.digits}f}"  # + 0.0: there is no "-0.0"
    if unit.words == "points":
        size = size.removesuffix(".0")
    word = "point" if unit.words == "points" and size in ("+1", "-1") else unit.words
    return f"{size}{'' if not word or word.startswith('%') else ' '}{word}"
