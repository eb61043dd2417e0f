"""The plots of the routed requests: how fast they were answered, and how they were split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from financial_assets.experiment.evaluation.evaluation import Evaluation
from financial_assets.experiment.evaluation.measures import EpochTraffic
from financial_assets.experiment.report.style import INK, PALETTE, chart, colours_of, figure, legend, percent


@chart(
    "Latency of answered requests",
    "Share of requests that were answered within a time, by arm. Figures: table of requests through the gateway.",
)
def latency(evaluation: Evaluation) -> Figure:
    """Share of requests answered within a time, by arm."""
    drawing, axes = figure()
    colours = colours_of(evaluation)
    for arm in evaluation.traffic:
        if arm.latency_grid:
            milliseconds = 1000 * np.array(arm.latency_grid)
            axes.plot(milliseconds, np.linspace(0, 1, 101), color=colours[arm.model], linewidth=1.6, label=arm.model)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(percent)
    axes.set(xlabel="milliseconds from request to answer, seen by the client", ylabel="requests answered")
    axes.grid()
    legend(axes)
    return drawing


@chart(
    "Traffic share by weight epoch",
    "Share of the requests that each arm got, and a mark where its weight would put the border. Figures: table "
    "of the traffic split.",
)
def traffic(evaluation: Evaluation) -> Figure:
    """Requests by arm in each weight epoch, beside what the weights ask for; many epochs are added up by regime."""
    bars = _traffic_bars(evaluation.epochs)
    drawing, axes = figure(height=1.1 + 0.55 * max(len(bars), 1))
    colours, named_inside = colours_of(evaluation), set[str]()
    for row, (_, observed, asked) in enumerate(reversed(bars)):
        total, left, border = sum(observed.values()), 0.0, 0.0
        for model, count in observed.items():
            share = count / total if total else 0.0
            axes.barh(row, share, left=left, height=0.55, color=colours[model])
            label = _bar_label(model, share, len(bars))
            axes.text(left + share / 2, row, label, ha="center", va="center", color=PALETTE["page"][0], fontsize=8)
            named_inside |= {model} if model in label else set()
            left, border = left + share, border + asked.get(model, 0.0)
            axes.plot([border, border], [row - 0.4, row + 0.4], color=INK, linewidth=1.5)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in reversed(bars)])
    axes.set(xlim=(0, 1.005), xlabel="share of attributed requests; marks: the weights")
    axes.xaxis.set_major_formatter(percent)
    shown = dict.fromkeys(model for _, observed, _ in bars for model, count in observed.items() if count)
    if shown.keys() - named_inside:
        handles = [Patch(color=colours[model], label=model) for model in shown]
        drawing.legend(handles=handles, loc="outside lower left", ncols=2)
    return drawing


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
            (
                f"epoch {epoch.label}\n{'SRM ok' if epoch.passed else 'SRM FAILED'}",
                epoch.observed,
                _shares(epoch.weights),
            )
            for epoch in epochs
        ]
    # Adaptive weights open an epoch per day: sums keep observed and expected counts comparable, mean shares would not.
    bars: list[_Bar] = []
    for regime in dict.fromkeys(epoch.regime for epoch in epochs):
        same = [epoch for epoch in epochs if epoch.regime == regime]
        failed = sum(not epoch.passed for epoch in same)
        models = dict.fromkeys(model for epoch in same for model in epoch.observed)
        observed = {model: sum(epoch.observed.get(model, 0) for epoch in same) for model in models}
        expected = {model: sum(epoch.expected.get(model, 0.0) for epoch in same) for model in models}
        span = f"{len(same)} epoch{'s' if len(same) > 1 else ''}" + ("" if regime is None else f", {regime}")
        srm = f"SRM FAILED in {failed}" if failed else "SRM ok"
        bars.append((f"{span}\n{srm}", observed, _shares(expected)))
    return bars


def _shares(values: Mapping[str, float]) -> dict[str, float]:
    total = sum(values.values())
    return {name: value / total if total else 0.0 for name, value in values.items()}
