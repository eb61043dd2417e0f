"""Where nothing can be known, nothing is found; a little is found as often as theory says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.models.variants import Variant
from financial_assets.models.walk_forward.folds import FoldPlan
from financial_assets.models.walk_forward.run import WalkForward
from financial_assets.models.walk_forward.scores import score_table
from tests.models.conftest import SEQUENCE_LENGTH, walk

IGNORANCE = {"timing": 0.0, "auc": 0.5, "rank_ic": 0.0}


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "walk_forward_canaries.py"
    spec = importlib.util.spec_from_file_location("walk_forward_canaries", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(3))
def test_on_a_random_walk_the_scores_of_a_network_stay_within_their_band(
    seed: int, graph: FeatureGraph, tiny: Variant, tmp_path: Path
) -> None:
    panel = walk(seed=seed, tickers=12, count=640)
    folds = WalkForward(
        folder=tmp_path,
        panel=panel,
        features=compute_panel(panel, graph),
        plan=FoldPlan(splits=1, test_sessions=60),
        sequence_length=SEQUENCE_LENGTH,
        seed=seed,
        device="cpu",
        graph=graph,
        variants={"tiny": tiny},
        bayes_accuracy=0.5,
    )
    table = score_table(folds.run("tiny", folds.folds[0]).forecasts)
    pooled = table[table["fold"] == "all"].set_index("score")
    for score, ignorance in IGNORANCE.items():
        row = pooled.loc[score]
        # Twice the half width of a 95 % interval: one chance in ten thousand each.
        assert abs(row["estimate"] - ignorance) <= row["high"] - row["low"], score


def test_a_planted_rank_correlation_is_found_with_the_power_of_theory(benchmark: ModuleType) -> None:
    mean, power, theory = benchmark.planted(100)
    assert mean == pytest.approx(0.03, abs=0.004)
    assert power == pytest.approx(theory, abs=0.15)
    assert benchmark.planted(100, true=0.0)[1] < 0.09


def test_resampled_sessions_keep_moves_and_ranges_but_no_order_and_no_drift(benchmark: ModuleType) -> None:
    panel = benchmark.simulated(1, 0.8)
    drawn = benchmark.resampled(panel, 1)
    moves, others = (np.diff(np.log(one.values[:, 3].astype(float)), axis=1) for one in (panel, drawn))
    for own, other in zip(moves, others, strict=True):
        distance = np.abs(np.sort(own - own.mean())[:, None] - other).min(axis=0)
        assert distance.max() < 1e-5, "each is one of the ticker's own"
    follows, no_longer = (np.mean(one[:, 1:] * one[:, :-1] > 0) for one in (moves, others))
    assert follows > 0.85
    assert abs(no_longer - 0.5) < 0.03
    # Moves in another order would add up to the same, here to nothing.
    assert (np.abs(others.sum(axis=1)) > 1e-3).all(), "the moves ahead do not follow from the ones before"
    low, high = drawn.values[:, 2], drawn.values[:, 1]
    assert (low <= high).all()
