"""The report's plots, drawn from an evaluation without any display."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from financial_assets.experiment.results import Evaluation, Skill

__all__ = ["CHARTS", "png", "svg"]

_ROLE_COLOURS = {"champion": "#1f5fa8", "challenger": "#d1661a", "shadow": "#3a8f7b", "baseline": "#7b8794"}
_INK, _RULE = "#1f2933", "#cbd2d9"
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": "#e4e7eb",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
}


def accuracy(evaluation: Evaluation) -> Figure:
    """Accuracy of arms and baselines with day-clustered intervals, beside a coin."""
    shown = [skill for skill in evaluation.skills if skill.accuracy is not None]
    figure, axes = _figure(height=0.9 + 0.38 * max(len(shown), 2))
    for row, skill in enumerate(reversed(shown)):
        bar = skill.accuracy
        assert bar is not None
        axes.plot([bar.low, bar.high], [row, row], color=_colour(skill), linewidth=2.5, solid_capstyle="butt")
        axes.plot(bar.estimate, row, "o", color=_colour(skill), markersize=6)
    axes.axvline(0.5, color=_INK, linewidth=1, linestyle=":")
    axes.annotate("coin", (0.5, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=9)
    axes.set_yticks(range(len(shown)), [skill.name for skill in reversed(shown)])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel(f"directions predicted right, {evaluation.level:.0%} interval")
    axes.grid(axis="x")
    return figure


def profit(evaluation: Evaluation) -> Figure:
    """Cumulative profit and loss after costs of the arms, beside buy and hold."""
    figure, axes = _figure()
    days = np.array(evaluation.trading_days, dtype="datetime64[D]")
    hold = evaluation.buy_and_hold
    if hold is not None:
        axes.plot(days, _growth(hold.daily), color=_RULE, linewidth=2.5, label="buy and hold")
    for skill in _arms_and_logistic(evaluation):
        if skill.pnl is not None:
            style = "--" if skill.role == "baseline" else "-"
            axes.plot(days, _growth(skill.pnl.daily), style, color=_colour(skill), linewidth=1.4, label=skill.name)
    axes.axhline(0, color=_INK, linewidth=0.8)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_ylabel(f"return after {evaluation.cost_bps:g} bp a side")
    axes.grid(axis="y")
    _legend(axes)
    return figure


def reliability(evaluation: Evaluation) -> Figure:
    """Observed frequency of ups against the predicted probability."""
    figure, axes = _figure()
    values = [0.4, 0.6]
    for skill in _arms_and_logistic(evaluation):
        x, y = [b.predicted for b in skill.reliability], [b.observed for b in skill.reliability]
        size = [18 + 160 * b.count / sum(c.count for c in skill.reliability) for b in skill.reliability]
        axes.plot(x, y, color=_colour(skill), linewidth=1, alpha=0.6)
        axes.scatter(x, y, s=size, color=_colour(skill), label=skill.name, alpha=0.85)
        values += x + y
    ends = [max(0.0, min(values) - 0.03), min(1.0, max(values) + 0.03)]
    axes.plot(ends, ends, color=_INK, linewidth=1, linestyle=":")
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("predicted probability of an up day")
    axes.set_ylabel("observed share of up days")
    axes.grid()
    _legend(axes)
    return figure


def latency(evaluation: Evaluation) -> Figure:
    """Share of requests answered within a time, by arm."""
    figure, axes = _figure()
    roles = _roles(evaluation)
    for arm in evaluation.traffic:
        if arm.latency_grid:
            colour = _ROLE_COLOURS[roles.get(arm.model, "baseline")]
            milliseconds = 1000 * np.array(arm.latency_grid)
            axes.plot(milliseconds, np.linspace(0, 1, 101), color=colour, linewidth=1.6, label=arm.model)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("milliseconds from request to answer, seen by the client")
    axes.set_ylabel("requests answered")
    axes.grid()
    _legend(axes)
    return figure


def traffic(evaluation: Evaluation) -> Figure:
    """Requests by arm in each weight epoch, beside what the weights ask for."""
    figure, axes = _figure(height=1.1 + 0.55 * max(len(evaluation.epochs), 1))
    roles = _roles(evaluation)
    for row, epoch in enumerate(reversed(evaluation.epochs)):
        total, weight = sum(epoch.observed.values()), sum(epoch.weights.values())
        seen = asked = 0.0
        for model, count in epoch.observed.items():
            share = count / total if total else 0.0
            colour = _ROLE_COLOURS[roles.get(model, "baseline")]
            axes.barh(row, share, left=seen, height=0.55, color=colour)
            if share > 0.12:
                label = f"{model}\n{share:.1%}" if len(evaluation.epochs) < 6 else f"{share:.0%}"
                axes.text(seen + share / 2, row, label, ha="center", va="center", color="white", fontsize=8)
            seen, asked = seen + share, asked + epoch.weights.get(model, 0) / weight
            axes.plot([asked, asked], [row - 0.4, row + 0.4], color=_INK, linewidth=1.5)
    labels = [f"epoch {e.number}\n{'SRM ok' if e.passed else 'SRM FAILED'}" for e in reversed(evaluation.epochs)]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlim(0, 1.005)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of attributed requests; black marks: the weights")
    return figure


CHARTS: Mapping[str, Callable[[Evaluation], Figure]] = {
    "accuracy": accuracy,
    "profit": profit,
    "reliability": reliability,
    "latency": latency,
    "traffic": traffic,
}
"""Plots by name."""


def png(evaluation: Evaluation, name: str, dpi: int = 110) -> bytes:
    """One plot as a PNG image."""
    return _render(evaluation, name, format="png", dpi=dpi)


def svg(evaluation: Evaluation, name: str) -> str:
    """One plot as an ``<svg>`` element to be put into a page."""
    text = _render(evaluation, name, format="svg", metadata={"Date": None}).decode()
    text = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<svg") :])  # ids would repeat from plot to plot
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r'\1 role="img"', re.sub(r' height="[^"]*pt"', "", text, count=1), count=1
    )


def _render(evaluation: Evaluation, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style):  # ids that are the same each time, and differ between plots
        CHARTS[name](evaluation).savefig(buffer, **options)
    return buffer.getvalue()


def _figure(height: float = 3.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.6, height), layout="constrained")
    return figure, figure.add_subplot()


def _colour(skill: Skill) -> str:
    return _ROLE_COLOURS[skill.role]


def _roles(evaluation: Evaluation) -> dict[str, str]:
    return {arm["model"]: arm["role"] for arm in evaluation.arms}


def _arms_and_logistic(evaluation: Evaluation) -> list[Skill]:
    return [skill for skill in evaluation.skills if skill.role != "baseline" or skill.name == "logistic"]


def _growth(daily: tuple[float, ...]) -> np.ndarray:
    return np.cumprod(1 + np.array(daily)) - 1


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")
