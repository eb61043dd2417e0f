"""Plots of drift: the statistic over time, and the streams closest to their thresholds."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from financial_assets.monitoring.drift.detection import LOSS, DriftReport

_INK, _LOSS, _QUIET, _ALARM = "#1f2933", "#1f5fa8", "#cbd2d9", "#d1661a"
_BARS = 15
_NAMED = 5


def plot_drift(report: DriftReport) -> bytes:
    """CUSUM over threshold of every stream by session, and the streams closest to alarm, as PNG."""
    figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
    over_time, closest = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_paths(over_time, report)
    _draw_closest(closest, report)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_paths(axes: Axes, report: DriftReport) -> None:
    sessions = report.paths.index.to_numpy()
    quiet = [name for name in report.paths.columns if name != LOSS and name not in report.moved]
    if quiet and len(sessions):
        axes.plot(sessions, report.paths[quiet].to_numpy(), color=_QUIET, linewidth=0.6)
    for rank, name in enumerate(report.moved):
        label = name if rank < _NAMED else None
        axes.plot(sessions, report.paths[name].to_numpy(), color=_ALARM, linewidth=1.0, alpha=0.7, label=label)
    axes.plot(sessions, report.paths[LOSS].to_numpy(), color=_LOSS, linewidth=1.8, label="loss against majority's")
    for bound in (-1.0, 1.0):
        axes.axhline(bound, color=_INK, linewidth=0.9, linestyle="--")
    reach = float(np.nanmax(np.abs(report.paths.to_numpy()), initial=1.0))
    axes.set_ylim(-1.1 * reach - 0.1, 1.1 * reach + 0.1)
    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_ylabel("CUSUM over threshold (below 0: lower)")
    axes.legend(frameon=False, fontsize=8, loc="best")


def _draw_closest(axes: Axes, report: DriftReport) -> None:
    watched = report.streams[report.streams["state"] == "watched"]
    ratio = (watched["statistic"] / watched["threshold"]).to_numpy()
    order = np.argsort(ratio)[::-1][:_BARS][::-1]
    colours = [_ALARM if watched["alarmed"].iloc[row] else _QUIET for row in order]
    axes.barh(range(len(order)), ratio[order], color=colours)
    axes.set_yticks(range(len(order)), [str(watched["name"].iloc[row]) for row in order], fontsize=8)
    axes.axvline(1.0, color=_INK, linewidth=0.9, linestyle="--")
    axes.set_xlabel("highest CUSUM over threshold")
