"""A value in words: with its unit, and short enough to be read at a glance."""

from __future__ import annotations

import math

from financial_assets.monitoring.boards.panel import Panel

_SPANS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def words(panel: Panel, value: float) -> str:
    """The value as the panel shows it."""
    if value in panel.words:
        return panel.words[value]
    if math.isinf(value):
        return "infinite"
    match panel.unit:
        case "percent":
            return f"{value:.1f} %"
        case "ratio":
            return f"{100 * value:.1f} %"
        case "seconds":
            return _span(value)
        case "per second":
            return f"{_number(value)}/s"
        case "number" | "sessions":
            return _number(value)


def _span(seconds: float) -> str:
    size = abs(seconds)
    for length, unit in _SPANS:
        if size >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s" if size >= 1 else f"{1000 * seconds:.1f} ms"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"
