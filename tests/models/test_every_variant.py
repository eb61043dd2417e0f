"""Each architecture from training to the served file: it learns, repeats itself, is stored and exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models.artifacts.storage import load_training, save_training
from financial_assets.models.fitting.gradient import evaluate
from financial_assets.models.networks.build import NETWORKS, build_network
from financial_assets.models.onnx.export import export_onnx
from financial_assets.models.onnx.parity import prove_parity
from financial_assets.models.predictor import build_predictor
from financial_assets.models.scores import check_not_constant
from financial_assets.models.training import Training
from financial_assets.models.training_data import TrainingData
from financial_assets.models.variants import VARIANTS
from tests.models.small_variants import SMALL, train_small

EACH = pytest.mark.parametrize("name", list(SMALL))


@pytest.fixture(scope="module")
def market(make_persistent: Callable[..., PricePanel]) -> PricePanel:
    """Three of four sessions go on in the direction of the one before."""
    return make_persistent(count=900)


@pytest.fixture(scope="module")
def known(market: PricePanel, graph: FeatureGraph) -> FeaturePanel:
    return compute_panel(market, graph)


@pytest.fixture(scope="module")
def until(market: PricePanel) -> pd.Timestamp:
    return market.sessions[799]


@pytest.fixture(scope="module")
def trained(known: FeaturePanel, market: PricePanel, until: pd.Timestamp) -> dict[str, Training]:
    return {name: train_small(variant, known, market, until) for name, variant in SMALL.items()}


def loss(network: torch.nn.Module, data: TrainingData) -> float:
    """On the calibrate block, which no network has seen."""
    return evaluate(network, data.calibrate, torch.arange(len(data.calibrate)))[0].total


def test_every_architecture_is_here() -> None:
    assert {variant.network for variant in SMALL.values()} == set(NETWORKS)
    assert {variant.network for variant in VARIANTS.values()} == set(NETWORKS)


@EACH
def test_it_learns_what_an_untrained_network_does_not_know(
    name: str, trained: dict[str, Training], known: FeaturePanel, market: PricePanel, until: pd.Timestamp
) -> None:
    training = trained[name]
    data = TrainingData.until(until, known, market, sequence_length=training.sequence_length).scaled(training.scaler)
    torch.manual_seed(7)
    untrained = build_network(training.variant, len(data.feature_names))
    assert loss(training.network, data) < loss(untrained, data) - 0.01
    assert training.held_out.correct.mean() > 0.6
    assert not check_not_constant(training.held_out).constant


@EACH
def test_two_runs_are_bit_identical(
    name: str, trained: dict[str, Training], known: FeaturePanel, market: PricePanel, until: pd.Timestamp
) -> None:
    torch.rand(3)
    again, before = train_small(SMALL[name], known, market, until), trained[name]
    states = again.network.state_dict(), before.network.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert np.array_equal(again.held_out.logit, before.held_out.logit)
    assert again.details == before.details


@EACH
def test_it_is_stored_and_read_back(
    name: str,
    trained: dict[str, Training],
    known: FeaturePanel,
    market: PricePanel,
    until: pd.Timestamp,
    tmp_path: Path,
) -> None:
    before = trained[name]
    after = load_training(save_training(tmp_path / "training", before))
    assert (after.variant, after.details, after.history) == (before.variant, before.details, before.history)
    data = TrainingData.until(until, known, market, sequence_length=before.sequence_length).scaled(before.scaler)
    batch = data.stop.gather(torch.arange(50))
    with torch.no_grad():
        pairs = zip(
            after.network(batch.inputs, batch.volatility), before.network(batch.inputs, batch.volatility), strict=True
        )
    assert all(torch.equal(one, other) for one, other in pairs)


@EACH
def test_its_file_answers_as_it_does(
    name: str,
    trained: dict[str, Training],
    graph: FeatureGraph,
    features: FeaturePanel,
    panel: PricePanel,
    tmp_path: Path,
) -> None:
    predictor = build_predictor(trained[name], graph)
    export_onnx(predictor, tmp_path / "model.onnx")
    report = prove_parity(predictor, tmp_path / "model.onnx", features, panel, windows=200)
    assert (report.windows, report.panel_window) == (200, 0.0)


@pytest.mark.parametrize("name", ["linear", "boosted", "ensemble"])
def test_what_takes_no_gradient_steps_has_one_epoch_and_tells_what_it_chose(
    name: str, trained: dict[str, Training]
) -> None:
    training = trained[name]
    assert (len(training.history), training.best_epoch) == (1, 1)
    assert np.isfinite(training.history[0].stop_loss)
    assert training.details
    assert all(np.isfinite(value) for value in training.details.values())
    assert trained["baseline"].details == {}


def test_a_variant_with_steps_of_its_own_reads_them(trained: dict[str, Training], graph: FeatureGraph) -> None:
    predictor = build_predictor(trained["transformer"], graph)
    assert predictor.sequence_length == 8
    assert build_predictor(trained["baseline"], graph).sequence_length == 5


def test_the_ensemble_is_not_worse_than_its_members_on_the_block_that_weighs_them(
    trained: dict[str, Training],
) -> None:
    losses = {name: trained[name].history[trained[name].best_epoch - 1].stop_loss for name in trained}
    assert losses["ensemble"] < max(losses["baseline"], losses["linear"])
