"""Pictures of an explanation."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from financial_assets.models.explanations.explanation import Explanation
from financial_assets.scoring.intervals import Interval

_INK, _BAR, _SOFT = "#1f2933", "#1f5fa8", "#cbd2d9"


def plot_explanation(explanation: Explanation) -> dict[str, bytes]:
    """PNG pictures by title: what there is of attribution, permutation, ablation and groups."""
    drawn = {"rise of the loss when a family speaks of another day": draw_importance(explanation)}
    if explanation.gradients:
        drawn["integrated gradients by family"] = draw_shares(explanation)
        drawn["integrated gradients by step"] = draw_steps(explanation)
    if explanation.ablation:
        rows = [(item.family, item.losses["total"]) for item in explanation.ablation]
        drawn["rise of the loss without a family"] = _intervals(rows, "loss without the family minus loss with it")
    groups = [
        (f"{segment.dimension}: {segment.value}", segment.difference["log_loss"])
        for segment in explanation.segments.segments
        if segment.difference
    ]
    if groups:
        label = f"log loss minus that of the rest; {explanation.segments.level:.0%} for all together"
        drawn["log loss by group"] = _intervals(groups, label)
    return {title: _png(figure) for title, figure in drawn.items()}


def draw_importance(explanation: Explanation) -> Figure:
    """Rise of the total loss by family, across days."""
    rows = [(item.family, item.losses["total"]) for item in explanation.across_days]
    return _intervals(rows, "rise of the loss, 95 % interval")


def draw_shares(explanation: Explanation) -> Figure:
    """Share of the attribution of every answer by family, as a table of colours."""
    families = [family.family for family in explanation.gradients[0].families]
    shares = np.array(
        [
            [next(item.share for item in answer.families if item.family == family) for answer in explanation.gradients]
            for family in families
        ]
    )
    figure = Figure(figsize=(6.4, 1.2 + 0.34 * len(families)), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=max(float(shares.max()), 1e-9), aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.6 * shares.max() else _INK
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(explanation.gradients)), [answer.answer for answer in explanation.gradients])
    axes.set_yticks(range(len(families)), families)
    return figure


def draw_steps(explanation: Explanation) -> Figure:
    """Share of the attribution of every answer by step of the window."""
    figure = Figure(figsize=(6, 3), dpi=110, layout="constrained")
    axes = figure.subplots()
    for answer in explanation.gradients:
        total = sum(answer.steps)
        if total:
            ago = np.arange(1 - len(answer.steps), 1)
            axes.plot(ago, np.array(answer.steps) / total, marker=".", label=answer.answer)
    axes.set(xlabel="session of the window, 0: the decision's", ylabel="share of the attribution")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _intervals(rows: Sequence[tuple[str, Interval]], label: str) -> Figure:
    figure = Figure(figsize=(6, 0.9 + 0.28 * max(len(rows), 3)), dpi=110, layout="constrained")
    axes: Axes = figure.subplots()
    for place, (_, interval) in enumerate(reversed(rows)):
        colour = _SOFT if interval.spans_zero else _BAR
        axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2.5)
        axes.plot(interval.estimate, place, "o", color=colour, markersize=5)
    axes.axvline(0, color=_INK, linewidth=0.9)
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)], fontsize=8)
    axes.set_xlabel(label)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
