"""The evaluation as one self-contained HTML page, and its plots for other places."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from financial_assets.atomic import atomic_write_text
from financial_assets.experiment.decision.judgement import leading_decision
from financial_assets.experiment.decision.record import ConfidenceSequence
from financial_assets.experiment.decision.words import guardrail_lines, progress, reasons_in_words
from financial_assets.experiment.evaluation.candidates import ALWAYS_ALPHA, AlwaysValid
from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.evaluation.var_backtest import FAMILY_ALPHA, TailBackTest
from financial_assets.experiment.report import charts
from financial_assets.experiment.report.decision_case import DecisionCase
from financial_assets.experiment.report.evidence_chart import evidence
from financial_assets.experiment.report.style import png_of, svg_of
from financial_assets.scoring.intervals import Interval

__all__ = ["html", "plots", "write_report"]

_VERDICTS = {
    "refused": ("No analysis", "bad"),
    "no_data": ("No data yet", "open"),
    "underpowered": ("Undecided", "open"),
    "no_difference": ("No difference", "open"),
    "challenger_better": ("Challenger better", "good"),
    "champion_better": ("Champion better", "bad"),
}

_UNITS = {
    "average accuracy so far": ("pp", 100, 1),
    "log loss": ("nats", 1, 4),
    "pinball loss": ("bp", 10_000, 2),
    "net profit per day": ("bp", 10_000, 1),
}
_ACTIONS = {"promote": ("promote", "good"), "hold": ("hold", "open"), "rollback": ("roll back", "bad")}

_TITLES = (
    ("accuracy", "Directions predicted right, beside what must be beaten"),
    ("differences", "Paired differences: who was right more often"),
    ("profit", "Cumulative profit and loss after costs, and drawdown"),
    ("reliability", "Do the probabilities mean what they say?"),
    ("latency", "Latency of answered requests"),
    ("traffic", "Traffic share by weight epoch"),
)


def html(evaluation: Evaluation, cases: Sequence[DecisionCase] = (), clock: str = "") -> str:
    """The page: verdict first, then tables and plots; it refers to nothing outside itself.

    Parameters
    ----------
    evaluation
        What log and prices say.
    cases
        The decision about each challenger, with plan and evidence; none without a challenger.
    clock
        The market clock beside the newest bar, in words; empty when they are the same session.
    """
    case, others = _main_case(cases)
    environment = Environment(
        loader=PackageLoader("financial_assets.experiment.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    strategies = [(skill.name, skill.pnl) for skill in evaluation.skills if skill.pnl is not None]
    if evaluation.buy_and_hold is not None:
        strategies.append(("buy and hold", evaluation.buy_and_hold))
    label, mood = _VERDICTS[evaluation.conclusion.verdict]
    if evaluation.conclusion.verdict == "no_data" and _leader(evaluation) is None:
        label = "No challenger"
    drawn = {name: Markup(charts.svg(evaluation, name)) for name in charts.CHARTS}  # drawn here, from numbers
    if case is not None:
        action, mood = _ACTIONS[case.decision.action]
        label = f"Decision: {action}"
    return environment.get_template("report.html.j2").render(
        e=evaluation,
        clock=clock,
        case=case,
        cases=[case, *others] if case else [],
        others=[(_ACTIONS[other.decision.action], other) for other in others],
        reasons={one.plan.challenger: reasons_in_words(one.decision, one.plan) for one in cases},
        rails={one.plan.challenger: guardrail_lines(one.decision, one.plan) for one in cases},
        progress={one.plan.challenger: progress(one.decision, one.plan) for one in cases},
        tails=_worst_tails(evaluation),
        family_alpha=FAMILY_ALPHA,
        evidence={one.plan.challenger: _drawn(one, place) for place, one in enumerate([case, *others]) if one},
        label=label,
        mood=mood,
        pnl=strategies,
        risks={risk.name: risk for risk in evaluation.business.risks} if evaluation.business else {},
        names=list(evaluation.tickers[0].accuracy) if evaluation.tickers else [],
        titles=_TITLES,
        svg=drawn,
        range_cell=_range_cell,
        units=_UNITS,
        always_alpha=ALWAYS_ALPHA,
        scores=max((one.further for one in evaluation.candidates), key=len, default=()),
        leader=_leader(evaluation),
        crowd=sum(arm["role"] == "challenger" for arm in evaluation.arms) > 1,
        main=_main_difference(evaluation),
    )


def write_report(evaluation: Evaluation, path: Path, cases: Sequence[DecisionCase] = (), clock: str = "") -> None:
    """Write the page to ``path`` and the evaluation as JSON beside it, atomically; see :func:`html`."""
    page = html(evaluation, cases, clock)
    atomic_write_text(path, page)
    atomic_write_text(path.with_suffix(".json"), evaluation.to_json())


def plots(evaluation: Evaluation, cases: Sequence[DecisionCase] = ()) -> dict[str, bytes]:
    """The plots by name, as PNG images."""
    main, others = _main_case(cases)
    shown = {} if main is None else {"evidence": png_of(lambda: evidence(main), "evidence")}
    for case in others:
        shown[f"evidence, {case.plan.challenger}"] = png_of(lambda case=case: evidence(case), "evidence")
    return shown | {name: charts.png(evaluation, name) for name in charts.CHARTS}


_MOST_TAILS = 48


def _worst_tails(evaluation: Evaluation) -> list[TailBackTest]:
    """The back-tests that have room on a page, in their order."""
    found = evaluation.backtests
    order = sorted(found, key=lambda one: min(p for p in (one.kupiec, one.independence, 1.0) if p is not None))
    kept = {id(one) for one in order[:_MOST_TAILS]}
    return [one for one in found if id(one) in kept]


def _drawn(case: DecisionCase, place: int) -> Markup:
    return Markup(svg_of(lambda: evidence(case), f"evidence-{place}" if place else "evidence"))


def _main_case(cases: Sequence[DecisionCase]) -> tuple[DecisionCase | None, list[DecisionCase]]:
    first = leading_decision([case.decision for case in cases])
    main = next((case for case in cases if case.decision is first), None)
    return main, [case for case in cases if case is not main]


def _leader(evaluation: Evaluation) -> str | None:
    """The challenger that comes first."""
    return next((arm["model"] for arm in evaluation.arms if arm["role"] == "challenger"), None)


def _main_difference(evaluation: Evaluation) -> Interval | None:
    """First challenger less champion in accuracy, over all days."""
    role = {arm["model"]: arm["role"] for arm in evaluation.arms}
    first = [item for item in evaluation.comparisons if item.first == _leader(evaluation)]
    found = (item for item in first if role.get(item.second) == "champion" and item.score == "accuracy")
    return next((item.difference for item in found), None)


_HUGE = 1e6  # returns of a market that nobody will see are shown short


def _percent(value: float | None, digits: int = 1) -> str:
    if value is None or value != value:
        return "–"
    return f"{100 * value:.{digits}f} %" if abs(value) < _HUGE else f"{100 * value:.1e} %"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} pp"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or value != value else f"{round(value, digits) + 0.0:.{digits}f}"  # no "-0.0"


def _ms(value: float) -> str:
    return "–" if value != value else f"{1000 * value:.2f}"


_NO_BOUND = "no bound yet"


def _difference(value: float | None, metric: str) -> str:
    """A difference in the plan's metric; a bound at the end of the scale says nothing yet."""
    if value is None:
        return "–"
    if metric in ("accuracy", "brier") and abs(value) >= 1:
        return _NO_BOUND
    match metric:
        case "accuracy":
            return f"{100 * value:+.1f} pp"
        case "pinball":
            return f"{10_000 * value:+.2f} bp"
        case _:
            return f"{value:+.4f}"


def _bounds(interval: ConfidenceSequence, metric: str) -> str:
    """Both ends of an interval, or the one that says something."""
    low, high = (_difference(bound, metric) for bound in (interval.low, interval.high))
    if low == high:
        return low
    if high == _NO_BOUND:
        return f"at least {low}"
    return f"at most {high}" if low == _NO_BOUND else f"{low} to {high}"


def _size(value: float, metric: str) -> str:
    """A size of a difference: no sign."""
    return _difference(abs(value), metric).removeprefix("+")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _interval(value: Interval | None, digits: int = 1, scale: float = 100) -> Markup:
    if value is None:
        return Markup("–")
    low, high = scale * value.low, scale * value.high
    return Markup('{}&nbsp;<span class="ci">{} to {}</span>').format(
        f"{scale * value.estimate:.{digits}f}", f"{low:.{digits}f}", f"{high:.{digits}f}"
    )


def _always(value: AlwaysValid, scale: float, digits: int) -> Markup:
    """A mean with its interval that holds on all days."""
    shown = f"{scale * value.mean:+.{digits}f}"
    if value.low is None or value.high is None:
        return Markup('{}&nbsp;<span class="ci">no bound yet</span>').format(shown)
    low, high = (f"{scale * bound:+.{digits}f}" for bound in (value.low, value.high))
    return Markup('{}&nbsp;<span class="ci">{} to {}</span>').format(shown, low, high)


def _e_value(log_e: float) -> str:
    return f"{math.exp(log_e):.3g}" if log_e < 20 else f"10^{log_e / math.log(10):.0f}"


def _range_cell(value: Interval | None, scale: float, digits: int) -> Markup:
    if value is None:
        return Markup("<td>–</td>")
    shown = value.times(scale)
    return Markup('<td>{}<span class="ci">{} to {}</span></td>').format(
        f"{shown.estimate:+,.{digits}f}", f"{shown.low:+,.{digits}f}", f"{shown.high:+,.{digits}f}"
    )


_FILTERS: Mapping[str, Callable[..., Any]] = {
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
}
