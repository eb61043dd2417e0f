from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from financial_assets.errors import TrainingError
from financial_assets.models.heads import Heads
from financial_assets.models.networks.attention import AttentionPooling
from financial_assets.models.networks.build import build_network
from financial_assets.models.networks.lstm import LstmNetwork
from financial_assets.models.networks.multiscale import STRIDES, every
from financial_assets.models.networks.transformer import sinusoids
from financial_assets.models.variants import VARIANTS


def any_volatility(batch: int) -> torch.Tensor:
    return torch.tensor([0.01, 0.02]).expand(batch, 2)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_shapes_and_the_answer_before_training(name: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(200, VARIANTS[name].window(5), 11)
    outputs = build_network(VARIANTS[name], 11).eval()(inputs, any_volatility(200))
    assert [tuple(output.shape) for output in outputs] == [(200, 1), (200, 5), (200, 5), (200, 1)]
    if name == "boosted":  # no trees, no answer
        return
    # Started at the normal quantiles, the intervals are sane from the first step.
    for multiples in (outputs.multiples, outputs.multiples_5d):
        assert bool((multiples.mean(0).diff() > 0.2).all())


def test_heads_are_read_out_separately() -> None:
    """One matrix, but no head reads what another one learns."""
    torch.manual_seed(0)
    heads = Heads(6)
    last = torch.randn(4, 6)
    before = heads(last)
    with torch.no_grad():
        heads.linear.weight[1:6] += 1.0
    after = heads(last)
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [False, True, False, False]


def test_dropout_works_with_one_layer_where_that_of_torch_does_not() -> None:
    inputs = torch.randn(4, 5, 3)
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        torchs = nn.LSTM(3, 8, num_layers=1, dropout=0.9, batch_first=True).train()
    assert torch.equal(torchs(inputs)[0], torchs(inputs)[0])
    ours = LstmNetwork(3, hidden=8, layers=1, dropout=0.9).train()
    volatility = any_volatility(4)
    assert not torch.equal(ours(inputs, volatility).logit, ours(inputs, volatility).logit)
    ours.eval()
    assert torch.equal(ours(inputs, volatility).logit, ours(inputs, volatility).logit)


def test_every_step_of_the_window_matters() -> None:
    torch.manual_seed(0)
    network = build_network(VARIANTS["baseline"], 3).eval()
    inputs = torch.randn(1, 6, 3, requires_grad=True)
    network(inputs, any_volatility(1)).logit.sum().backward()
    assert inputs.grad is not None
    assert bool((inputs.grad.abs().sum(dim=-1) > 0).all())


def test_no_sigmoid_inside_the_network() -> None:
    network = LstmNetwork(1, hidden=4, layers=1, dropout=0.0).eval()
    with torch.no_grad():
        network.heads.linear.bias[0] = -3.0
        network.heads.linear.weight.zero_()
    assert float(network(torch.zeros(1, 2, 1), any_volatility(1)).logit.detach()) == pytest.approx(-3.0)


def test_unknown_network_is_named() -> None:
    with pytest.raises(TrainingError, match="perceiver"):
        build_network(replace(VARIANTS["baseline"], network="perceiver"), 3)


@pytest.mark.parametrize("name", ["advanced", "attention", "transformer"])
def test_the_whole_window_is_read_and_its_order_matters(name: str) -> None:
    torch.manual_seed(0)
    variant = replace(VARIANTS[name], hidden=16, layers=1)
    network = build_network(variant, 3).eval()
    inputs = torch.randn(1, variant.window(10), 3, requires_grad=True)
    before = network(inputs, any_volatility(1)).logit
    before.sum().backward()
    assert inputs.grad is not None
    reaches_back = (inputs.grad[0].abs().sum(dim=-1) > 0).nonzero().min()
    # The slowest of three scales reads every fourth step, so that the first one it reads is the fourth.
    assert int(reaches_back) == (3 if name == "advanced" else 0)
    assert not torch.allclose(network(inputs.flip(1), any_volatility(1)).logit, before)


@pytest.mark.parametrize("name", ["advanced", "transformer"])
def test_a_width_that_the_heads_cannot_share_is_refused(name: str) -> None:
    with pytest.raises(TrainingError, match="hidden=13 must be a multiple"):
        build_network(replace(VARIANTS[name], hidden=13), 3)


def test_scales_end_at_the_last_step_and_have_the_same_number_of_steps() -> None:
    places = torch.arange(48).float().view(1, 48, 1)
    for stride in STRIDES:
        read = every(places, stride)[0, :, 0]
        assert len(read) == 12
        assert float(read[-1]) == 47
        assert bool((read.diff() == stride).all())


def test_positions_are_counted_back_from_the_last_step() -> None:
    assert torch.equal(sinusoids(60, 8)[-10:], sinusoids(10, 8))
    assert len(sinusoids(60, 8).unique(dim=0)) == 60


def test_attention_pools_convexly() -> None:
    torch.manual_seed(0)
    states = torch.randn(5, 7, 4)
    pooled = AttentionPooling(4)(states)
    assert bool((pooled <= states.amax(dim=1)).all())
    assert bool((pooled >= states.amin(dim=1)).all())
