"""A decision with its plan and its evidence, day by day: what a page needs to show it, and its plot over time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy import special

from financial_assets.experiment.decision.evidence import Judgement
from financial_assets.experiment.decision.looks import always_on_path
from financial_assets.experiment.decision.record import Decision, Look
from financial_assets.experiment.decision.series import metric_of
from financial_assets.experiment.plan.plan import ExperimentPlan
from financial_assets.experiment.report.style import INK, ROLE_COLOURS, RULE, figure, legend
from financial_assets.experiment.statistics.long_run import (
    effective_count,
    long_run_deviation,
    skew_required,
    skewness,
)

_NEVER = 90.0
_FEWEST_DAYS = 20
_AXIS_UNITS = {"points": "pp", "basis points": "bp"}
_SETTLED = 20
"""The mean of fewer days swings so far that it would leave the plot, or flatten all that follows."""


@dataclass(frozen=True, slots=True)
class LookLine:
    """One planned look: what it requires and, once it took place, its result.

    ``needed`` is the mean daily difference that reaches the boundary, computed from the variation seen up to a look
    that took place, and from the plan's for one to come; ``None`` for a look so early that no error may be spent.
    """

    day: int
    boundary: float
    spent: float
    needed: float | None
    look: Look | None

    @property
    def impossible(self) -> bool:
        """Whether no evidence reaches the boundary."""
        return self.boundary >= _NEVER


@dataclass(frozen=True, slots=True, eq=False)
class DecisionCase:
    """What a decision was taken on.

    Attributes
    ----------
    decision, plan
        Record and pre-registration.
    sessions
        Evaluated days ``[day]``.
    differences
        Daily paired differences ``[day]``.
    low, high
        Always-on bounds after each day ``[day]``.
    lines
        The planned looks.
    """

    decision: Decision
    plan: ExperimentPlan
    sessions: pd.DatetimeIndex
    differences: np.ndarray
    low: np.ndarray
    high: np.ndarray
    lines: tuple[LookLine, ...]

    @property
    def running_mean(self) -> np.ndarray:
        """Mean of all days so far ``[day]``."""
        return np.cumsum(self.differences) / np.arange(1, len(self.differences) + 1)


def case_of(judgement: Judgement) -> DecisionCase:
    """The case of a decision, from the very evidence that it was taken on."""
    decision, plan, days = judgement.decision, judgement.plan, judgement.evidence.main
    differences = days.differences
    bounds = np.array(always_on_path(plan, differences)).reshape(-1, 2)
    looks = {look.day: look for look in decision.looks}
    return DecisionCase(
        decision=decision,
        plan=plan,
        sessions=days.sessions,
        differences=differences,
        low=bounds[:, 0],
        high=bounds[:, 1],
        lines=tuple(
            LookLine(day, boundary, spent, _needed(plan, differences, day, boundary), looks.get(day))
            for day, boundary, spent in zip(plan.looks, plan.boundaries, plan.spent, strict=True)
        ),
    )


def _needed(plan: ExperimentPlan, differences: np.ndarray, day: int, boundary: float) -> float | None:
    """The mean at which the look's z-value is the boundary; z has the p-value of Student's t, as the decision's."""
    if boundary >= _NEVER:
        return None
    seen, days = 0.0, differences[:day]
    if len(differences) >= max(day, _FEWEST_DAYS):
        seen = float(days.std(ddof=1) if plan.rule == 1 else long_run_deviation(days, plan.lags)[0])
    deviation = seen if seen > 0 else plan.spread.deviation
    t = -float(special.stdtrit(day - 1, special.ndtr(-boundary)))
    if plan.corrects_skewness and seen > 0:
        t = skew_required(t, float(skewness(days)), float(effective_count(seen, days, plan.lags)))
    needed = plan.test.margin + t * deviation / math.sqrt(day)
    return needed if math.isfinite(needed) else None


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
        points = [(line.day, line.needed) for line in shown if (line.look is not None) == done]
        if points:
            axes.scatter(*zip(*points, strict=True), marker="v", s=46, color=face, edgecolor=INK, label=label, zorder=3)
    axes.axhline(
        plan.detectable,
        color=ROLE_COLOURS["champion"],
        linewidth=1,
        linestyle="-.",
        label="smallest detectable difference",
    )
    axes.set(xlim=(0, 1.02 * max(plan.looks[-1], len(days))), ylim=(-reach, reach))
    metric = metric_of(plan)
    scale = metric.unit.scale
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: "0" if abs(value) < 1e-12 else f"{round(scale * value, 6):+.3g}")
    )
    unit = _AXIS_UNITS.get(metric.unit.words, metric.unit.words)
    axes.set_ylabel(", ".join(filter(None, (f"difference in {metric.title}", unit, "better up"))))
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
