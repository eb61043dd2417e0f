"""Pictures of a search."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure

from financial_assets.models.search.result import SearchResult

_COMPLETE, _ENDED, _BEST, _INK = "#1f5fa8", "#cbd2d9", "#d1661a", "#1f2933"


def plot_trials(result: SearchResult) -> bytes:
    """Loss of every trial on the stop block, and the lowest so far, as PNG."""
    figure = Figure(figsize=(7, 3.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for outcome, colour, label in (("complete", _COMPLETE, "complete"), ("pruned", _ENDED, "ended early")):
        chosen = [trial for trial in result.trials if trial.outcome == outcome]
        axes.scatter(
            [trial.number for trial in chosen], [trial.loss for trial in chosen], s=22, color=colour, label=label
        )
    complete = [trial for trial in result.trials if trial.outcome == "complete"]
    if complete:
        lowest = np.minimum.accumulate([trial.loss for trial in complete])
        axes.step([trial.number for trial in complete], lowest, where="post", color=_BEST, label="lowest so far")
    if np.isfinite(result.present_loss):
        axes.axhline(result.present_loss, color=_INK, linestyle=":", linewidth=1, label="present settings")
    axes.set(xlabel="trial", ylabel="loss on the stop block")
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def plot_importances(result: SearchResult) -> bytes:
    """Share of the variation of the loss that each setting explains, as PNG."""
    shares = sorted(result.importances.items(), key=lambda item: item[1])
    figure = Figure(figsize=(6, 0.9 + 0.35 * max(len(shares), 2)), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in shares], [share for _, share in shares], color=_COMPLETE)
    axes.set(xlabel="share of the variation between complete trials (fANOVA)", xlim=(0, 1))
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
