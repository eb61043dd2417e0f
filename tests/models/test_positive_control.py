"""The whole way from simulated prices to a calibrated model: it finds what is there, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.models.fitting import network as module
from financial_assets.models.heads import HEADS, HeadOutputs, Heads
from financial_assets.models.networks.build import build_network
from financial_assets.models.scores import check_answers, check_not_constant, held_out_scores
from financial_assets.models.training import Training, train
from financial_assets.models.variants import VARIANTS, Variant

TICKERS = ["AAA", "BBB", "CCC"]


def simulated(strength: float, seed: int = 1, sessions: int = 1000) -> tuple[PricePanel, float]:
    source = SimulatedPrices(SimulatedMarket(sessions=sessions, seed=seed, signal_strength=strength))
    return build_panel(source.fetch(TICKERS).prices), source.bayes_accuracy


def trained(panel: PricePanel, graph: FeatureGraph, variant: Variant) -> Training:
    features = compute_panel(panel, graph)
    return train(variant, features, panel, cutoff=panel.sessions[-1], sequence_length=5, seed=4, device="cpu")


@pytest.fixture(scope="module")
def strong() -> tuple[PricePanel, float]:
    return simulated(0.6)


def beats_the_majority(training: Training) -> bool:
    return held_out_scores(training.held_out)["accuracy_minus_majority"].low > 0


@pytest.mark.parametrize("name", ["baseline", "enhanced", "lightweight", "linear", "boosted"])
def test_a_strong_signal_is_found_and_the_bayes_accuracy_not_exceeded(
    name: str, strong: tuple[PricePanel, float], graph: FeatureGraph
) -> None:
    panel, bayes = strong
    training = trained(panel, graph, VARIANTS[name])
    accuracy = held_out_scores(training.held_out, level=0.998)["accuracy"]
    assert beats_the_majority(training)
    assert accuracy.estimate > 0.5 + 0.6 * (bayes - 0.5)
    # A leak would show more than there is to know.
    assert accuracy.low < bayes
    assert not check_not_constant(training.held_out).constant
    assert training.platt.unconstrained_scale > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_where_nothing_is_nothing_is_found(seed: int, graph: FeatureGraph) -> None:
    panel, bayes = simulated(0.0, seed)
    assert bayes == 0.5
    training = trained(panel, graph, VARIANTS["baseline"])
    rows = len(training.held_out)
    # 99.9 % binomial band; the tickers are independent.
    assert abs(training.held_out.correct.mean() - 0.5) <= 3.29 * 0.5 / np.sqrt(rows)
    assert not check_answers(training.held_out).alarm


class _SigmoidInside(nn.Module):
    """The original system's fault, planted: the network ends in a sigmoid and is judged as if it gave logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
        outputs = self.network(inputs, volatility)
        return outputs._replace(logit=torch.sigmoid(outputs.logit))


def test_the_original_double_sigmoid_is_caught(
    monkeypatch: pytest.MonkeyPatch, strong: tuple[PricePanel, float], graph: FeatureGraph
) -> None:
    """A sigmoid of a sigmoid is always above one half: always "up", whatever the signal."""
    monkeypatch.setattr(module, "build_network", lambda *args: _SigmoidInside(build_network(*args)))
    training = trained(strong[0], graph, VARIANTS["baseline"])
    answers = training.held_out
    assert check_not_constant(answers).share_up == 1.0
    assert answers.correct.mean() == answers.up.mean()
    assert not beats_the_majority(training)


def test_a_network_that_ignores_its_input_is_constant(
    monkeypatch: pytest.MonkeyPatch, strong: tuple[PricePanel, float], graph: FeatureGraph
) -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = Heads(1)

        def forward(self, inputs: Tensor, volatility: Tensor) -> HeadOutputs:
            return self.heads(torch.zeros(len(inputs), 1))

    monkeypatch.setattr(module, "build_network", lambda *_: Deaf())
    training = trained(strong[0], graph, VARIANTS["baseline"])
    assert check_not_constant(training.held_out).constant_heads == HEADS
