from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from financial_assets.errors import TrainingError
from financial_assets.models.networks.build import build_network
from financial_assets.models.networks.lstm import LstmNetwork
from financial_assets.models.variants import VARIANTS


@pytest.mark.parametrize("name", list(VARIANTS))
def test_shapes_and_the_answer_before_training(name: str) -> None:
    torch.manual_seed(0)
    logit, multiples = build_network(VARIANTS[name], 11).eval()(torch.randn(7, 5, 11))
    assert logit.shape == (7, 1)
    assert multiples.shape == (7, 5)
    # Started at the normal quantiles, the intervals are sane from the first step.
    assert bool((multiples.mean(0).diff() > 0.2).all())


def test_dropout_works_with_one_layer_where_that_of_torch_does_not() -> None:
    inputs = torch.randn(4, 5, 3)
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        torchs = nn.LSTM(3, 8, num_layers=1, dropout=0.9, batch_first=True).train()
    assert torch.equal(torchs(inputs)[0], torchs(inputs)[0])
    ours = LstmNetwork(3, hidden=8, layers=1, dropout=0.9).train()
    assert not torch.equal(ours(inputs)[0], ours(inputs)[0])
    ours.eval()
    assert torch.equal(ours(inputs)[0], ours(inputs)[0])


def test_every_step_of_the_window_matters() -> None:
    torch.manual_seed(0)
    network = build_network(VARIANTS["baseline"], 3).eval()
    inputs = torch.randn(1, 6, 3, requires_grad=True)
    network(inputs)[0].sum().backward()
    assert inputs.grad is not None
    assert bool((inputs.grad.abs().sum(dim=-1) > 0).all())


def test_no_sigmoid_inside_the_network() -> None:
    network = LstmNetwork(1, hidden=4, layers=1, dropout=0.0).eval()
    with torch.no_grad():
        network.direction.bias.fill_(-3.0)
        network.direction.weight.zero_()
    assert float(network(torch.zeros(1, 2, 1))[0].detach()) == pytest.approx(-3.0)


def test_unknown_network_is_named() -> None:
    with pytest.raises(TrainingError, match="perceiver"):
        build_network(replace(VARIANTS["baseline"], network="perceiver"), 3)
