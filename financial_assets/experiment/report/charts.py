"""The report's plots, drawn from an evaluation without any display."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.evaluation.measures import EpochTraffic, Skill
from financial_assets.experiment.report.style import (
    FURTHER_COLOURS,
    INK,
    ROLE_COLOURS,
    RULE,
    figure,
    legend,
    png_of,
    svg_of,
    time_axis,
)
from financial_assets.scoring.performance import equity_curve

__all__ = ["CHARTS", "png", "svg"]


def _percent(value: float, _: int | None) -> str:
    """A tick, not rounded: 47.5 % is not 48 %."""
    return f"{round(100 * value, 6):g}%"


def accuracy(evaluation: Evaluation) -> Figure:
    """Accuracy of arms and baselines with day-clustered intervals, beside a coin."""
    shown = [skill for skill in evaluation.skills if skill.accuracy is not None]
    made, axes = figure(height=0.9 + 0.38 * max(len(shown), 2))
    colours = _colours(evaluation)
    for row, skill in enumerate(reversed(shown)):
        bar = skill.accuracy
        assert bar is not None
        axes.plot([bar.low, bar.high], [row, row], color=colours[skill.name], linewidth=2.5, solid_capstyle="butt")
        axes.plot(bar.estimate, row, "o", color=colours[skill.name], markersize=6)
    axes.axvline(0.5, color=INK, linewidth=1, linestyle=":")
    axes.annotate("coin", (0.5, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=9)
    axes.set_yticks(range(len(shown)), [skill.name for skill in reversed(shown)])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel(f"predicted right, {evaluation.level:.0%} interval")
    axes.grid(axis="x")
    return made


def profit(evaluation: Evaluation) -> Figure:
    """Cumulative profit and loss after costs of the arms, beside buy and hold, and the fall from the last peak."""
    made = Figure(figsize=(5.0, 4.8), layout="constrained")
    axes, below = made.subplots(2, sharex=True, height_ratios=(2.2, 1))
    days, colours = np.array(evaluation.trading_days, dtype="datetime64[D]"), _colours(evaluation)
    strategies = [
        (skill.name, skill.pnl, colours[skill.name], "--" if skill.role == "baseline" else "-")
        for skill in _arms_and_logistic(evaluation)
    ]
    for name, pnl, colour, style in [("buy and hold", evaluation.buy_and_hold, RULE, "-"), *strategies]:
        if pnl is None:
            continue
        value = _value(pnl.daily)
        axes.plot(days, value[1:] - 1, style, color=colour, linewidth=1.4 if colour != RULE else 2.5, label=name)
        below.plot(days, (value / np.maximum.accumulate(value))[1:] - 1, style, color=colour, linewidth=1)
    for panel, label in ((axes, f"return after {evaluation.cost_bps:g} bp per side"), (below, "from peak")):
        panel.axhline(0, color=INK, linewidth=0.8)
        panel.yaxis.set_major_formatter(_percent)
        panel.set_ylabel(label)
        panel.grid(axis="y")
    time_axis(below)
    legend(axes)
    return made


def differences(evaluation: Evaluation) -> Figure:
    """Paired differences in accuracy with their intervals, beside no difference and the one that matters."""
    shown = [item for item in evaluation.comparisons if item.score == "accuracy"]
    made, axes = figure(height=1.1 + 0.5 * max(len(shown), 2))
    colours = _colours(evaluation)
    for row, item in enumerate(reversed(shown)):
        colour, d = colours.get(item.first, ROLE_COLOURS["baseline"]), item.difference
        axes.plot([d.low, d.high], [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
        axes.plot(d.estimate, row, "o", color=colour, markersize=6)
    axes.axvline(0, color=INK, linewidth=1)
    axes.axvline(evaluation.plan["worthwhile"], color=INK, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(shown)), [f"{item.first}\nminus {item.second}" for item in reversed(shown)], fontsize=9)
    axes.set_ylim(-0.6, max(len(shown), 1) - 0.4)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+g}"))
    axes.set_xlabel(f"pp, {evaluation.level:.0%} interval; dotted: would matter")
    axes.grid(axis="x")
    return made


def reliability(evaluation: Evaluation) -> Figure:
    """Observed frequency of ups against the predicted probability."""
    made, axes = figure()
    values, colours = [0.4, 0.6], _colours(evaluation)
    for skill in _arms_and_logistic(evaluation):
        x, y = [b.predicted for b in skill.reliability], [b.observed for b in skill.reliability]
        size = [18 + 160 * b.count / sum(c.count for c in skill.reliability) for b in skill.reliability]
        axes.plot(x, y, color=colours[skill.name], linewidth=1, alpha=0.6)
        axes.scatter(x, y, s=size, color=colours[skill.name], label=skill.name, alpha=0.85)
        values += x + y
    ends = [max(0.0, min(values) - 0.03), min(1.0, max(values) + 0.03)]
    axes.plot(ends, ends, color=INK, linewidth=1, linestyle=":")
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.xaxis.set_major_formatter(_percent)
    axes.yaxis.set_major_formatter(_percent)
    axes.set_xlabel("predicted probability of an up day")
    axes.set_ylabel("observed share of up days")
    axes.grid()
    legend(axes)
    return made


def latency(evaluation: Evaluation) -> Figure:
    """Share of requests answered within a time, by arm."""
    made, axes = figure()
    colours = _colours(evaluation)
    for arm in evaluation.traffic:
        if arm.latency_grid:
            colour = colours.get(arm.model, ROLE_COLOURS["baseline"])
            milliseconds = 1000 * np.array(arm.latency_grid)
            axes.plot(milliseconds, np.linspace(0, 1, 101), color=colour, linewidth=1.6, label=arm.model)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(_percent)
    axes.set_xlabel("milliseconds from request to answer, seen by the client")
    axes.set_ylabel("requests answered")
    axes.grid()
    legend(axes)
    return made


def traffic(evaluation: Evaluation) -> Figure:
    """Requests by arm in each weight epoch, beside what the weights ask for; many epochs are added up by regime."""
    bars = _traffic_bars(evaluation.epochs)
    made, axes = figure(height=1.1 + 0.55 * max(len(bars), 1))
    colours, named = _colours(evaluation), set[str]()
    for row, (_, observed, asked) in enumerate(reversed(bars)):
        total, seen, mark = sum(observed.values()), 0.0, 0.0
        for model, count in observed.items():
            share = count / total if total else 0.0
            axes.barh(row, share, left=seen, height=0.55, color=colours.get(model, ROLE_COLOURS["baseline"]))
            label = _bar_label(model, share, len(bars))
            axes.text(seen + share / 2, row, label, ha="center", va="center", color="white", fontsize=8)
            named |= {model} if model in label else set()
            seen, mark = seen + share, mark + asked.get(model, 0.0)
            axes.plot([mark, mark], [row - 0.4, row + 0.4], color=INK, linewidth=1.5)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in reversed(bars)])
    axes.set_xlim(0, 1.005)
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel("share of attributed requests; black marks: the weights")
    shown = dict.fromkeys(model for _, observed, _ in bars for model, count in observed.items() if count)
    if shown.keys() - named:
        handles = [Patch(color=colours.get(model, ROLE_COLOURS["baseline"]), label=model) for model in shown]
        made.legend(handles=handles, loc="outside lower left", ncols=2)
    return made


def _bar_label(model: str, share: float, bars: int) -> str:
    """What has room in a bar: name and share, share, or nothing."""
    if bars < 6 and share * _BAR_LETTERS > len(model):
        return f"{model}\n{share:.1%}"
    return "" if share < 0.06 else f"{share:.1%}" if share > 0.12 and bars < 6 else f"{share:.0%}"


_BAR_LETTERS = 64  # that fit into the whole width of the traffic plot
_MOST_BARS = 12
_Bar = tuple[str, Mapping[str, int], Mapping[str, float]]


def _traffic_bars(epochs: Sequence[EpochTraffic]) -> list[_Bar]:
    """Label, requests by model, and the share that each should have had."""
    if len(epochs) <= _MOST_BARS:
        return [
            (f"epoch {one.label}\n{'SRM ok' if one.passed else 'SRM FAILED'}", one.observed, _shares(one.weights))
            for one in epochs
        ]
    bars: list[_Bar] = []
    for regime in dict.fromkeys(one.regime for one in epochs):
        mine = [one for one in epochs if one.regime == regime]
        failed = sum(not one.passed for one in mine)
        models = dict.fromkeys(model for one in mine for model in one.observed)
        observed = {model: sum(one.observed.get(model, 0) for one in mine) for model in models}
        expected = {model: sum(one.expected.get(model, 0.0) for one in mine) for model in models}
        said = f"SRM FAILED in {failed}" if failed else "SRM ok"
        span = f"{len(mine)} epoch{'s' if len(mine) > 1 else ''}" + ("" if regime is None else f", {regime}")
        bars.append((f"{span}\n{said}", observed, _shares(expected)))
    return bars


def _shares(values: Mapping[str, float]) -> dict[str, float]:
    total = sum(values.values())
    return {name: value / total if total else 0.0 for name, value in values.items()}


CHARTS: Mapping[str, Callable[[Evaluation], Figure]] = {
    "accuracy": accuracy,
    "differences": differences,
    "profit": profit,
    "reliability": reliability,
    "latency": latency,
    "traffic": traffic,
}
"""Plots by name."""


def png(evaluation: Evaluation, name: str, dpi: int = 110) -> bytes:
    """One plot as a PNG image."""
    return png_of(lambda: CHARTS[name](evaluation), name, dpi)


def svg(evaluation: Evaluation, name: str) -> str:
    """One plot as an ``<svg>`` element to be put into a page."""
    return svg_of(lambda: CHARTS[name](evaluation), name)


def _colours(evaluation: Evaluation) -> dict[str, str]:
    """By forecaster: that of its role, further challengers and shadows having their own."""
    roles = {skill.name: skill.role for skill in evaluation.skills} | {
        arm["model"]: arm["role"] for arm in evaluation.arms
    }
    found = {name: ROLE_COLOURS[role] for name, role in roles.items()}
    for role, further in FURTHER_COLOURS.items():
        models = [arm["model"] for arm in evaluation.arms if arm["role"] == role]
        found |= dict(zip(models[1:], itertools.cycle(further), strict=False))
    return found


def _arms_and_logistic(evaluation: Evaluation) -> list[Skill]:
    return [skill for skill in evaluation.skills if skill.role != "baseline" or skill.name == "logistic"]


def _value(daily: tuple[float, ...]) -> np.ndarray:
    """Value of one unit of capital, the start included."""
    return np.concatenate([[1.0], np.minimum(equity_curve(daily), _TALLEST)])


_TALLEST = 1e12  # an axis cannot be drawn up to the largest float
