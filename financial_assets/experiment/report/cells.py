"""Figures as a table cell or a sentence of the page shows them: Jinja filters, a dash for what is not defined."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from financial_assets.experiment.decision.reasons import sessions_in_words
from financial_assets.experiment.decision.record import ConfidenceSequence
from financial_assets.experiment.decision.series import metric_of, question_of
from financial_assets.experiment.decision.words import horizon_in_words, metric_and_why
from financial_assets.experiment.evaluation.candidates import AlwaysValid
from financial_assets.experiment.metrics.metric import Metric
from financial_assets.scoring.intervals import Interval

_HUGE = 1e6  # returns of an extreme simulated market are shown with an exponent


def _percent(value: float | None, digits: int = 1) -> str:
    if value is None or value != value:
        return "–"
    return f"{100 * value:.{digits}f} %" if abs(value) < _HUGE else f"{100 * value:.1e} %"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} pp"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or value != value else f"{round(value, digits) + 0.0:.{digits}f}"  # no "-0.0"


def _ms(value: float) -> str:
    return "–" if value != value else f"{1000 * value:.2f}"


_NO_BOUND = "no bound yet"


_SHORT = {"points": " pp", "basis points": " bp"}


def _difference(value: float | None, metric: Metric) -> str:
    """A difference in the plan's metric; a bound at the end of the scale says nothing yet."""
    if value is None:
        return "–"
    if metric.limit is not None and abs(value) >= metric.limit:
        return _NO_BOUND
    unit, words = metric.unit, metric.unit.words
    return f"{unit.scale * value:+.{unit.digits}f}{_SHORT.get(words, f' {words}' if words else '')}"


def _bounds(interval: ConfidenceSequence, metric: Metric) -> str:
    """Both ends of an interval, or the one that says something."""
    low, high = (_difference(bound, metric) for bound in (interval.low, interval.high))
    if low == high:
        return low
    if high == _NO_BOUND:
        return f"at least {low}"
    return f"at most {high}" if low == _NO_BOUND else f"{low} to {high}"


def _size(value: float, metric: Metric) -> str:
    """A size of a difference: no sign."""
    return _difference(abs(value), metric).removeprefix("+")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _interval(value: Interval | None, digits: int = 1, scale: float = 100, sign: str = "") -> Markup:
    """A mean with its interval; ``sign`` is ``+`` where a sign belongs to every figure."""
    return Markup("–") if value is None else _range(value.estimate, value.low, value.high, digits, scale, sign)


def _always(value: AlwaysValid, scale: float, digits: int) -> Markup:
    """A mean with its interval that holds on all days."""
    return _range(value.mean, value.low, value.high, digits, scale, "+")


def _range(mean: float, low: float | None, high: float | None, digits: int, scale: float, sign: str) -> Markup:
    shown, form = f"{scale * mean:{sign},.{digits}f}", Markup('{}&nbsp;<span class="ci">{}</span>')
    if low is None or high is None:
        return form.format(shown, _NO_BOUND)
    return form.format(shown, f"{scale * low:{sign},.{digits}f} to {scale * high:{sign},.{digits}f}")


def _code(text: str) -> Markup:
    """Text with its `backquoted` parts as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(parts)
    )


def _e_value(log_e: float) -> str:
    return f"{math.exp(log_e):.3g}" if log_e < 20 else f"10^{log_e / math.log(10):.0f}"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": _percent,
    "points": _points,
    "interval": _interval,
    "number": _number,
    "ms": _ms,
    "difference": _difference,
    "sentence": _sentence,
    "size": _size,
    "bounds": _bounds,
    "always": _always,
    "e_value": _e_value,
    "p": _p,
    "code": _code,
    "metric": metric_of,
    "metric_and_why": metric_and_why,
    "horizon_in_words": horizon_in_words,
    "sessions_in_words": sessions_in_words,
    "question": question_of,
    "prefixed": lambda text, prefix: f"{prefix}{text}",
}
"""Jinja filters by name."""
