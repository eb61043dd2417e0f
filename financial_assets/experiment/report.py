"""The evaluation as one self-contained HTML page, and its plots for other places."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from financial_assets.atomic import atomic_write_text
from financial_assets.experiment import charts
from financial_assets.experiment.results import Estimate, Evaluation

__all__ = ["html", "plots", "write_report"]

_VERDICTS = {
    "refused": ("No analysis", "bad"),
    "no_data": ("No data yet", "open"),
    "underpowered": ("Undecided", "open"),
    "no_difference": ("No difference", "open"),
    "challenger_better": ("Challenger better", "good"),
    "champion_better": ("Champion better", "bad"),
}

_TITLES = (
    ("accuracy", "Directions predicted right, beside what must be beaten"),
    ("profit", "Cumulative profit and loss after costs"),
    ("reliability", "Do the probabilities mean what they say?"),
    ("latency", "Latency of answered requests"),
    ("traffic", "Traffic share by weight epoch"),
)


def html(evaluation: Evaluation) -> str:
    """The page: verdict first, then tables and plots; it refers to nothing outside itself."""
    environment = Environment(
        loader=PackageLoader("financial_assets.experiment", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "points": _points, "interval": _interval, "number": _number, "ms": _ms}
    strategies = [(skill.name, skill.pnl) for skill in evaluation.skills if skill.pnl is not None]
    if evaluation.buy_and_hold is not None:
        strategies.append(("buy and hold", evaluation.buy_and_hold))
    label, mood = _VERDICTS[evaluation.conclusion.verdict]
    return environment.get_template("report.html.j2").render(
        e=evaluation,
        label=label,
        mood=mood,
        pnl=strategies,
        names=list(evaluation.tickers[0].accuracy) if evaluation.tickers else [],
        titles=_TITLES,
        svg={name: Markup(charts.svg(evaluation, name)) for name in charts.CHARTS},  # drawn here, from numbers
    )


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Write the page to ``path`` and the evaluation as JSON beside it, atomically."""
    atomic_write_text(path, html(evaluation))
    atomic_write_text(path.with_suffix(".json"), evaluation.to_json())


def plots(evaluation: Evaluation) -> dict[str, bytes]:
    """The plots by name, as PNG images."""
    return {name: charts.png(evaluation, name) for name in charts.CHARTS}


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or value != value else f"{100 * value:.{digits}f} %"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} pp"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _ms(value: float) -> str:
    return "–" if value != value else f"{1000 * value:.2f}"


def _interval(value: Estimate | None, digits: int = 1, scale: float = 100) -> Markup:
    if value is None:
        return Markup("–")
    low, high = scale * value.low, scale * value.high
    return Markup('{}&nbsp;<span class="ci">{} to {}</span>').format(
        f"{scale * value.estimate:.{digits}f}", f"{low:.{digits}f}", f"{high:.{digits}f}"
    )
