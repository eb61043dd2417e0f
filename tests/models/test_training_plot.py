"""The learning curve that the Dagster UI shows."""

from __future__ import annotations

import io

import matplotlib.image
import pytest
from matplotlib.axes import Axes

from financial_assets.models.plots import plot_history
from financial_assets.models.training import Epoch


def history(count: int) -> list[Epoch]:
    return [Epoch(at, 2.0 / at, 1.0 + abs(at - 3) / 10, 0.5, 0.1) for at in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 12])
def test_it_is_a_picture_of_the_size_of_the_page(count: int) -> None:
    png = plot_history(history(count), best_epoch=1)
    assert png.startswith(b"\x89PNG")
    pixels = matplotlib.image.imread(io.BytesIO(png))
    assert pixels.shape[:2] == (330, 660)
    assert pixels[..., :3].std() > 0.01, "something is drawn"


def test_it_draws_both_losses_by_epoch_and_marks_the_restored_one(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, tuple[list[float], list[float]]] = {}
    marked: list[float] = []
    plot, line = Axes.plot, Axes.axvline

    def remember(axes: Axes, x: list[float], y: list[float], label: str) -> object:
        drawn[label] = (list(x), list(y))
        return plot(axes, x, y, label=label)

    def mark(axes: Axes, x: float, **options: object) -> object:
        marked.append(x)
        return line(axes, x, **options)

    monkeypatch.setattr(Axes, "plot", remember)
    monkeypatch.setattr(Axes, "axvline", mark)
    epochs = history(5)
    plot_history(epochs, best_epoch=3)
    assert drawn == {
        "fit": ([1, 2, 3, 4, 5], [epoch.fit_loss for epoch in epochs]),
        "stop": ([1, 2, 3, 4, 5], [epoch.stop_loss for epoch in epochs]),
    }
    assert marked == [3]
