"""The report's plots, drawn from an evaluation without any display.

A new plot is a function here and its entry in ``CHARTS``: page, Dagster metadata and tests take it from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.evaluation.measures import Skill
from financial_assets.experiment.report import style
from financial_assets.experiment.report.economics_chart import economics
from financial_assets.experiment.report.traffic_charts import latency, traffic
from financial_assets.portfolio.performance import equity_curve
from financial_assets.scoring.intervals import Interval


@style.chart(
    "Directions predicted right, and what must be beaten",
    "Accuracy of each forecaster with its interval, and a line at the 50 % of a coin. Figures: table of skill.",
)
def accuracy(evaluation: Evaluation) -> Figure:
    """Accuracy of arms and reference forecasters with day-clustered intervals, beside a coin."""
    shown = [skill for skill in evaluation.skills if skill.accuracy is not None]
    drawing, axes = style.figure(height=0.9 + 0.38 * max(len(shown), 2))
    colours = style.colours_of(evaluation)
    _interval_rows(axes, [(skill.accuracy, colours[skill.name]) for skill in shown])
    axes.axvline(0.5, color=style.INK, linewidth=1, linestyle=":")
    axes.annotate("coin", (0.5, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=9)
    axes.set_yticks(range(len(shown)), [skill.name for skill in reversed(shown)])
    axes.set(ylim=(-0.6, len(shown) - 0.4), xlabel=f"predicted right, {evaluation.level:.0%} interval")
    axes.xaxis.set_major_formatter(style.percent)
    axes.grid(axis="x")
    return drawing


@style.chart(
    "Paired differences: who was right more often",
    "Differences in accuracy with their intervals, a line at no difference and, if the plan names one, a dotted one at "
    "the difference that would matter. Figures: table of paired differences.",
)
def differences(evaluation: Evaluation) -> Figure:
    """Paired differences in accuracy with their intervals, beside no difference and the one that matters."""
    shown = [item for item in evaluation.comparisons if item.score == "accuracy"]
    drawing, axes = style.figure(height=1.1 + 0.5 * max(len(shown), 2))
    colours = style.colours_of(evaluation)
    _interval_rows(axes, [(item.difference, colours[item.first]) for item in shown])
    axes.axvline(0, color=style.INK, linewidth=1)
    worthwhile = evaluation.plan["worthwhile"]  # None if the plan tests another metric: its effect has another unit
    if worthwhile is not None:
        axes.axvline(worthwhile, color=style.INK, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(shown)), [f"{item.first}\nminus {item.second}" for item in reversed(shown)], fontsize=9)
    dotted = "" if worthwhile is None else "; dotted: would matter"
    axes.set(ylim=(-0.6, max(len(shown), 1) - 0.4), xlabel=f"pp, {evaluation.level:.0%} interval{dotted}")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+g}"))
    axes.grid(axis="x")
    return drawing


@style.chart(
    "Cumulative profit and loss after costs, and drawdown",
    "Return of each strategy over time, and below it the fall from its last peak. Figures: table of profit and risk.",
)
def profit(evaluation: Evaluation) -> Figure:
    """Cumulative profit and loss after costs of the arms, beside buy and hold, and the fall from the last peak."""
    drawing = Figure(figsize=(5.0, 4.8), layout="constrained")
    axes, below = drawing.subplots(2, sharex=True, height_ratios=(2.2, 1))
    days, colours = np.array(evaluation.trading_days, dtype="datetime64[D]"), style.colours_of(evaluation)
    strategies = [("buy and hold", evaluation.buy_and_hold, style.PALETTE["soft"][0], ":")]
    strategies += [
        (skill.name, skill.pnl, colours[skill.name], "--" if skill.role == "baseline" else "-")
        for skill in _arms_and_logistic(evaluation)
    ]
    for name, pnl, colour, line in strategies:
        if pnl is None:
            continue
        # The start counts as a peak: a strategy that only loses is below it from the first day on.
        value = np.concatenate([[1.0], np.minimum(equity_curve(pnl.daily), _TALLEST)])
        axes.plot(days, value[1:] - 1, line, color=colour, linewidth=1.4, label=name)
        below.plot(days, (value / np.maximum.accumulate(value))[1:] - 1, line, color=colour, linewidth=1)
    for panel, label in ((axes, f"return after {evaluation.cost_bps:g} bp per side"), (below, "from peak")):
        panel.axhline(0, color=style.INK, linewidth=0.8)
        panel.yaxis.set_major_formatter(style.percent)
        panel.set_ylabel(label)
        panel.grid(axis="y")
    style.time_axis(below)
    style.legend(axes)
    return drawing


@style.chart(
    "Do the probabilities mean what they say?",
    "Observed share of up days against the predicted probability; honest probabilities lie on the dotted diagonal. "
    "Large dots stand for many predictions. Bins with less than 2 % of a forecaster's predictions are left out.",
)
def reliability(evaluation: Evaluation) -> Figure:
    """Observed frequency of ups against the predicted probability."""
    drawing, axes = style.figure()
    ends, colours = [0.45, 0.55], style.colours_of(evaluation)
    for skill in _arms_and_logistic(evaluation):
        total = sum(point.count for point in skill.reliability)
        # A bin of a few days is noise: drawn, it would stretch the axes until everything else is one blot.
        bins = [point for point in skill.reliability if point.count >= _LEAST_WEIGHT * total]
        predicted, observed = [point.predicted for point in bins], [point.observed for point in bins]
        size = [18 + 160 * point.count / total for point in bins]
        axes.plot(predicted, observed, color=colours[skill.name], linewidth=1, alpha=0.6)
        axes.scatter(predicted, observed, s=size, color=colours[skill.name], label=skill.name, alpha=0.85)
        ends += predicted + observed
    low, high = max(0.0, min(ends) - 0.02), min(1.0, max(ends) + 0.02)
    axes.plot([low, high], [low, high], color=style.INK, linewidth=1, linestyle=":")
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.set(xlabel="predicted probability of an up day", ylabel="observed share of up days")
    axes.xaxis.set_major_formatter(style.percent)
    axes.yaxis.set_major_formatter(style.percent)
    axes.grid()
    style.legend(axes, below=True)
    return drawing


def _interval_rows(axes: Any, rows: Sequence[tuple[Interval | None, str]]) -> None:
    """Estimates with their intervals and colours, the first at the top."""
    for place, (bar, colour) in enumerate(reversed(rows)):
        if bar is not None:
            axes.plot([bar.low, bar.high], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt")
            axes.plot(bar.estimate, place, "o", color=colour, markersize=6)


_LEAST_WEIGHT = 0.02


def _arms_and_logistic(evaluation: Evaluation) -> list[Skill]:
    return [skill for skill in evaluation.skills if skill.role != "baseline" or skill.name == "logistic"]


_TALLEST = 1e12  # an axis cannot be drawn up to the largest float


CHARTS: Mapping[str, style.Chart] = {
    "accuracy": accuracy,
    "differences": differences,
    "profit": profit,
    "economics": economics,
    "reliability": reliability,
    "latency": latency,
    "traffic": traffic,
}
"""Plots by name, in the order of the page."""


def svg(evaluation: Evaluation, name: str) -> str:
    """One plot as an ``<svg>`` element to be put into a page."""
    plot = CHARTS[name]
    return style.svg_of(lambda: plot.draw(evaluation), f"plot-{name}", plot.title, plot.description)
