"""The evidence of a test over time: running mean, always-on bounds, planned looks and what each requires."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from financial_assets.experiment.report.decision_case import DecisionCase
from financial_assets.experiment.report.style import INK, ROLE_COLOURS, RULE, figure, legend

__all__ = ["evidence"]

_NAMES = {
    "accuracy": "accuracy, pp",
    "brier": "Brier score, better up",
    "log_loss": "log loss, nats, better up",
    "pinball": "pinball loss, bp, better up",
}
_SCALES = {"accuracy": 100, "pinball": 10_000}
_SETTLED = 20
"""The mean of fewer days swings so far that it would leave the plot, or flatten all that follows."""


def evidence(case: DecisionCase) -> Figure:
    """Challenger minus champion: mean of all days so far, and when it would be enough."""
    drawing, axes = figure(height=4.0, width=5.6)
    plan, days = case.plan, np.arange(1, len(case.differences) + 1)
    level, first = plan.confidence, _SETTLED - 1 if len(days) > 2 * _SETTLED else 0
    settled = case.running_mean[first:]
    reach = _reach(case, settled)
    axes.fill_between(
        days, case.low, case.high, color=RULE, alpha=0.5, linewidth=0, label=f"{level} interval, valid on every day"
    )
    axes.axhline(0, color=INK, linewidth=0.8)
    if plan.test.margin:
        axes.axhline(plan.test.margin, color=INK, linewidth=0.8, linestyle=":")
    label = f"mean difference so far, from day {first + 1}" if first else "mean difference so far"
    axes.plot(days[first:], settled, color=ROLE_COLOURS["challenger"], linewidth=1.8, label=label)
    shown = [line for line in case.lines if line.needed is not None and abs(line.needed) <= reach]
    for line in case.lines:
        axes.axvline(line.day, color=RULE, linewidth=0.9, linestyle="--")
    for done, face, label in (
        (True, INK, "needed for promotion at a past look"),
        (False, "white", "needed for promotion at a coming look"),
    ):
        points = [(line.day, line.needed) for line in shown if (line.found is not None) == done]
        if points:
            axes.scatter(*zip(*points, strict=True), marker="v", s=46, color=face, edgecolor=INK, label=label, zorder=3)
    axes.axhline(
        plan.detectable,
        color=ROLE_COLOURS["champion"],
        linewidth=1,
        linestyle="-.",
        label="smallest detectable difference",
    )
    axes.set_xlim(0, 1.02 * max(plan.looks[-1], len(days)))
    axes.set_ylim(-reach, reach)
    axes.yaxis.set_major_formatter(FuncFormatter(_unit(plan.test.metric)))
    axes.set_ylabel(f"difference in {_NAMES[plan.test.metric]}")
    axes.set_xlabel(f"evaluated days after {plan.starts_after}; dashed: planned looks")
    axes.grid(axis="y")
    legend(axes, below=True)
    return drawing


def _reach(case: DecisionCase, mean: np.ndarray) -> float:
    """Half the height: the mean, its last bounds and the looks from the second on fit in."""
    last = [abs(case.low[-1]), abs(case.high[-1])] if len(case.low) else []
    bounds = [value for value in last if value < case.plan.bound]
    needed = [line.needed for line in case.lines[1:] if line.needed is not None]
    fitting = [2 * case.plan.detectable, *np.abs(mean).tolist(), *bounds, *needed]
    return min(1.15 * max(fitting), case.plan.bound)


def _unit(metric: str) -> FuncFormatter:
    scale, form = _SCALES.get(metric, 1), "{:+.3g}"
    return FuncFormatter(lambda value, _: "0" if abs(value) < 1e-12 else form.format(round(scale * value, 6)))
