"""The model card for people: what it must say, and pictures that show the figures that they claim to show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from financial_assets.models.artifacts.card_text import PICTURES, write_pictures
from financial_assets.models.artifacts.tracked import shown_settings
from financial_assets.models.plots import plot_coverage, plot_reliability
from financial_assets.models.scores import held_out_scores
from financial_assets.models.training import Training
from financial_assets.models.variants import VARIANTS


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Places, heights and half-widths of the points with intervals that are drawn."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    draw = Axes.errorbar

    def note(self: Axes, x: Any, y: Any, yerr: Any = None, **rest: Any) -> Any:
        found.append((np.asarray(x), np.asarray(y), np.asarray(yerr)))
        return draw(self, x, y, yerr=yerr, **rest)

    monkeypatch.setattr(Axes, "errorbar", note)
    return found


def test_the_pictures_of_a_card_are_files_of_their_names(training: Training, tmp_path: Path) -> None:
    written = write_pictures(training, tmp_path / "plots")
    assert {title: path.name for title, path in written.items()} == PICTURES
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written.values())


def test_coverage_is_shown_as_its_distance_from_the_level_for_both_horizons(
    training: Training, drawn: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    plot_coverage(training.held_out)
    scores = held_out_scores(training.held_out)
    assert len(drawn) == 2
    for (_, heights, _), suffix in zip(drawn, ("", "_5d"), strict=True):
        assert heights[0] == pytest.approx(100 * (scores[f"coverage{suffix}_1%"].estimate - 0.01))
        assert heights[-1] == pytest.approx(100 * (scores[f"coverage{suffix}_99%"].estimate - 0.99))


def test_reliability_is_of_equally_many_answers_in_order(
    training: Training, drawn: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    answers = training.held_out
    plot_reliability(answers, training.platt)
    ((probabilities, shares, _),) = drawn
    assert (np.diff(probabilities) >= 0).all()
    lowest = np.argsort(answers.logit, kind="stable")[: len(shares) and -(-len(answers) // len(shares))]
    assert shares[0] == pytest.approx(answers.up[lowest].mean())


@pytest.mark.filterwarnings("error")
def test_a_network_that_always_answers_the_same_has_a_picture_too(training: Training) -> None:
    same = replace(training.held_out, logit=np.zeros(len(training.held_out)))
    assert plot_reliability(same, training.platt).startswith(b"\x89PNG")


def test_settings_that_a_variant_has_no_value_of_are_not_shown() -> None:
    shown = shown_settings(VARIANTS["baseline"].hyperparameters())
    assert (shown["hidden"], shown["network"]) == (24, "lstm")
    assert not {"steps", "members"} & shown.keys()
    assert shown_settings(VARIANTS["transformer"].hyperparameters())["steps"] == 60
    assert shown_settings(VARIANTS["linear"].hyperparameters())["dropout"] == 0.0, "zero is a value"
    ensemble = shown_settings(VARIANTS["ensemble"].hyperparameters())
    assert ensemble["members"] == "baseline, enhanced, lightweight, linear"
    assert shown_settings({"hidden": 8}) == {"hidden": 8}, "a card of an earlier version"
