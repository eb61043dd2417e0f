"""Trees end where the stop block says, and large blocks are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models.fitting import boosted as module
from financial_assets.models.fitting.boosted import fit_boosted
from financial_assets.models.fitting.rows import decision_rows, sample
from financial_assets.models.networks.boosted import BoostedNetwork
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training_data import TrainingData
from tests.models.small_variants import SMALL


@pytest.fixture(scope="module")
def data(make_persistent: Callable[..., PricePanel], graph: FeatureGraph) -> TrainingData:
    panel = make_persistent(count=900)
    data = TrainingData.until(panel.sessions[799], compute_panel(panel, graph), panel, sequence_length=5)
    return data.scaled(RobustScaler.fit(data.fit.last_step))


def fitted(data: TrainingData, **changes: float) -> tuple[BoostedNetwork, dict[str, float]]:
    network = BoostedNetwork(len(data.feature_names))
    return network, dict(fit_boosted(network, replace(SMALL["boosted"], **changes), data, seed=3))  # type: ignore[arg-type]


def test_a_new_network_has_no_trees_and_answers_zeros() -> None:
    outputs = BoostedNetwork(3)(torch.randn(4, 2, 3), torch.ones(4, 2))
    assert [tuple(output.shape) for output in outputs] == [(4, 1), (4, 5), (4, 5), (4, 1)]
    assert not any(bool(output.any()) for output in outputs)


def test_each_sum_ends_at_its_best_round_and_has_at_least_one(data: TrainingData) -> None:
    network, rounds = fitted(data)
    assert len(rounds) == 12
    assert all(1 <= count <= SMALL["boosted"].epochs for count in rounds.values())
    assert len(network.direction[0].roots) == rounds["direction rounds"]
    assert rounds["direction rounds"] > 1, "there is a signal to find"
    limited = fitted(data, epochs=1)[1]
    assert set(limited.values()) == {1}


def test_rows_of_a_large_block_are_drawn_by_the_seed(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decision_rows(data.fit, 10**6, 1)
    assert len(whole.up) == len(data.fit)
    assert np.array_equal(whole.inputs, data.fit.last_step.numpy())
    drawn = sample(1000, 100, 5)
    assert torch.equal(drawn, sample(1000, 100, 5))
    assert not torch.equal(drawn, sample(1000, 100, 6))
    assert bool((drawn.diff() > 0).all())
    assert int(drawn.max()) > 900
    monkeypatch.setattr(module, "_MOST_ROWS", 300)
    assert fitted(data)[1] == fitted(data)[1]


def test_one_direction_only_is_refused(data: TrainingData) -> None:
    rising = replace(data, outcome=data.outcome.abs() + 1e-6)
    with pytest.raises(TrainingError, match="one direction only"):
        fitted(rising)
