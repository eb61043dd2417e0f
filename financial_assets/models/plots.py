"""Pictures of a training."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from financial_assets.models.training import Epoch


def plot_history(history: Sequence[Epoch], best_epoch: int) -> bytes:
    """Loss on the fit and the stop block by epoch, the restored epoch marked, as PNG."""
    figure = Figure(figsize=(6, 3), dpi=110, layout="constrained")
    axes = figure.subplots()
    numbers = [epoch.number for epoch in history]
    axes.plot(numbers, [epoch.fit_loss for epoch in history], label="fit")
    axes.plot(numbers, [epoch.stop_loss for epoch in history], label="stop")
    axes.axvline(best_epoch, color="0.6", linestyle=":", label=f"restored: epoch {best_epoch}")
    axes.set(xlabel="epoch", ylabel="loss of all heads")
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
