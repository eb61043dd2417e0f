from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph, FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.explanations.explain import ExplanationPlan, explain
from financial_assets.models.explanations.explanation import Explanation
from financial_assets.models.explanations.plots import plot_explanation
from financial_assets.models.explanations.tables import (
    by_question,
    families_table,
    features_table,
    heads_table,
    segments_table,
)
from financial_assets.models.training import Training
from tests.models.explanations.worlds import FAMILY_OF, Steps

World = tuple[FeaturePanel, PricePanel]
GRAPH = cast(FeatureGraph, SimpleNamespace(features=[SimpleNamespace(name=n, family=f) for n, f in FAMILY_OF.items()]))
QUICK = ExplanationPlan(gradient_windows=60, permutation_windows=400, repeats=2)


@pytest.fixture(scope="module")
def found(trained: Training, world: World) -> Explanation:
    return explain(trained, "f" * 20, GRAPH, *world, plan=replace(QUICK, ablation=True, families=("signal",)))


def test_it_says_what_moves_the_answers(found: Explanation, trained: Training) -> None:
    text = " ".join(found.sentences)
    assert "signal moves the direction most" in text
    assert "completeness error" in text
    assert "loss rises most for signal" in text
    assert "Training without a family raises the loss most for signal" in text
    assert "differences were looked at" in text
    assert (found.first, found.last) == tuple(f"{day:%Y-%m-%d}" for day in trained.spans["calibrate"])


def test_two_explanations_are_equal(found: Explanation, trained: Training, world: World) -> None:
    again = explain(trained, "f" * 20, GRAPH, *world, plan=replace(QUICK, ablation=True, families=("signal",)))
    assert again == found


def test_a_kept_explanation_is_the_same(found: Explanation, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "small.json"
    found.save(path)
    assert Explanation.load(path) == found


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b'{"variant": 3}', b"\xff\xff"])
def test_a_damaged_explanation_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "small.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"small\.json is not a stored explanation"):
        Explanation.load(path)


def test_trees_are_told_apart_in_words(trained: Training, world: World) -> None:
    steps: list[str] = []
    found = explain(replace(trained, network=Steps()), "f" * 20, GRAPH, *world, plan=QUICK, on_step=steps.append)
    assert found.gradients == ()
    assert found.completeness_error is None
    assert "integrated gradients do not apply" in found.sentences[0]
    assert steps[0] == "a model without gradients: permutation only"
    assert found.across_days[0].family == "signal"
    assert "integrated gradients by family" not in plot_explanation(found)
    assert features_table(found).empty
    assert "ablation was not asked for" in " ".join(found.sentences)


def test_tables_and_pictures(found: Explanation) -> None:
    families = families_table(found)
    assert families["family"].iloc[0] == "signal"
    assert {"share, direction", "permuted across days", "permuted within days", "trained without"} <= set(families)
    assert families.loc[families["family"] == "noise", "trained without"].item() == ""
    shares, losses = by_question(families).values()
    assert {"family", "direction", "score"} <= set(shares)
    assert list(losses) == ["family", "permuted across days", "permuted within days", "trained without"]
    trees = families_table(replace(found, gradients=()))
    assert [list(table) for table in by_question(trees).values()] == [list(losses)], "no gradients, no shares"
    assert list(heads_table(found)) == ["family", "direction", "quantiles", "quantiles_5d", "score", "total"]
    assert features_table(found)["feature"].iloc[0] == "signal_a"
    assert len(segments_table(found)) == len(found.segments.segments)
    pictures = plot_explanation(found)
    assert {"integrated gradients by family", "rise of the loss without a family"} <= set(pictures)
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())


def test_nothing_after_the_cutoff_is_read(found: Explanation, trained: Training, world: World) -> None:
    """The panel may go on, to the clock of today: an explanation stays what it was."""
    features, panel = world
    earlier = panel.sessions[-60]
    from financial_assets.models.training import train

    past: Any = train(trained.variant, features, panel, cutoff=earlier, sequence_length=3, seed=3, device="cpu")
    at = panel.position(earlier) + 1
    values = panel.values.copy()
    values[:, :6, at:] *= 1.5
    changed = features.values.copy()
    changed[:, :, at:] = 9.0
    one = explain(past, "x", GRAPH, features, panel, plan=QUICK)
    other = explain(past, "x", GRAPH, replace(features, values=changed), replace(panel, values=values), plan=QUICK)
    assert one == other
