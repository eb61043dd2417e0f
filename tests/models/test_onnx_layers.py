"""Layers that future networks are made of: each against torch, for one row and for many."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.onnx_graphs import Function, answer, written

torch.manual_seed(1)
CAUSAL = nn.Transformer.generate_square_subsequent_mask(3)
ATTENTION = nn.MultiheadAttention(4, 2, batch_first=True)
ENCODER = nn.TransformerEncoderLayer(4, 2, 8, norm_first=True, batch_first=True)
NOTHING_ALLOWED = torch.tensor([[False] * 3, [True] * 3, [True, False, True]])
ACROSS_STEPS, OF_PAIRS, OF_FEATURES = nn.Linear(3, 5), nn.Linear(2, 3), nn.Conv1d(4, 2, 2)
GRUS = nn.GRU(4, 3, num_layers=2, batch_first=True, bidirectional=True)
POSITIONS = nn.Parameter(torch.randn(1, 5, 4))


def encoder(**options: object) -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 8, norm_first=True, batch_first=True, **options)  # pyright: ignore[reportArgumentType]


def explicit_attention(x: Tensor) -> Tensor:
    scores = x @ x.transpose(-1, -2) / 4**0.5
    return torch.softmax(scores + CAUSAL, dim=-1) @ x


def heads(x: Tensor) -> Tensor:
    """Attention of two heads on four axes, as a network without ``nn.MultiheadAttention`` writes it."""
    split = x.reshape(len(x), 3, 2, 2).transpose(1, 2)
    return functional.scaled_dot_product_attention(split, split, split).transpose(1, 2).reshape(len(x), 3, 4)


class Recurrent(nn.Module):
    """Steps, and each state with its layers beside them: everything that a recurrent layer returns."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        steps, states = self.layer(x if self.layer.batch_first else x.transpose(0, 1))
        steps = steps if self.layer.batch_first else steps.transpose(0, 1)
        last: Sequence[Tensor] = states if isinstance(states, tuple) else (states,)
        return torch.cat([steps.flatten(1), *(state.transpose(0, 1).flatten(1) for state in last)], dim=1)


LAYERS: dict[str, Function] = {
    "linear": nn.Linear(4, 2),
    "linear without bias": nn.Linear(4, 2, bias=False),
    "linear across steps": lambda x: ACROSS_STEPS(x.transpose(1, 2)),
    "linear on four axes": lambda x: OF_PAIRS(x.view(-1, 3, 2, 2)),
    "matrix and vector": lambda x: x @ torch.tensor([1.0, -2.0, 0.5, 3.0]),
    "einsum": lambda x: torch.einsum("bij,bkj->bik", x / 2.0, x),
    "layer norm": nn.LayerNorm(4),
    "layer norm of two axes": nn.LayerNorm((3, 4)),
    "layer norm without weights": nn.LayerNorm(4, elementwise_affine=False),
    "layer norm without bias": nn.LayerNorm(4, bias=False),
    "layer norm far from zero": lambda x: functional.layer_norm(x + 100.0, (4,)),
    "layer norm of little": lambda x: functional.layer_norm(x * 1e-3, (4,)),
    "batch norm": nn.BatchNorm1d(3),
    "gelu": nn.GELU(),
    "gelu by tanh": nn.GELU(approximate="tanh"),
    "softmax": lambda x: torch.softmax(x, dim=-1),
    "softmax over steps": lambda x: torch.softmax(x, dim=1),
    "logarithm of softmax": lambda x: torch.log_softmax(x, dim=1),
    "explicit attention": explicit_attention,
    "attention": lambda x: functional.scaled_dot_product_attention(x, x, x),
    "attention, scaled": lambda x: functional.scaled_dot_product_attention(x, x, x, scale=0.3),
    "attention, causal": lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True),
    "attention, all masked": lambda x: functional.scaled_dot_product_attention(x, x, x, attn_mask=NOTHING_ALLOWED),
    "attention of heads": heads,
    "multihead": lambda x: ATTENTION(x, x, x, need_weights=False)[0],
    "multihead with weights": lambda x: torch.cat(ATTENTION(x, x, x), dim=-1),
    "multihead, masked": lambda x: ATTENTION(x, x, x, attn_mask=CAUSAL)[0],
    "multihead across": lambda x: ATTENTION(x[:, -1:], x, x, need_weights=False)[0],
    "encoder": ENCODER,
    "encoder with gelu": encoder(activation=functional.gelu),
    "encoder without bias": encoder(bias=False),
    "encoder, causal": lambda x: ENCODER(x, src_mask=CAUSAL, is_causal=True),
    "encoders": nn.TransformerEncoder(ENCODER, 2, enable_nested_tensor=False),
    "encoder, post-norm": nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
    "positions": lambda x: x + POSITIONS[:, :3],
    "gru": Recurrent(nn.GRU(4, 3, batch_first=True)),
    "gru of layers": Recurrent(nn.GRU(4, 3, num_layers=2, batch_first=True)),
    "gru, steps first": Recurrent(nn.GRU(4, 3)),
    "gru without bias": Recurrent(nn.GRU(4, 3, bias=False, batch_first=True)),
    "gru, both directions": Recurrent(nn.GRU(4, 3, num_layers=2, batch_first=True, bidirectional=True)),
    "lstm without bias": Recurrent(nn.LSTM(4, 3, bias=False, batch_first=True)),
    "lstm, both directions": Recurrent(nn.LSTM(4, 3, num_layers=2, batch_first=True, bidirectional=True)),
    "lstm, both directions, steps first": Recurrent(nn.LSTM(4, 3, bidirectional=True)),
    "convolution": nn.Conv1d(3, 5, 3, padding=1),
    "convolution by stride": nn.Conv1d(3, 6, 2, stride=2, dilation=2, groups=3, bias=False),
    "causal convolution": lambda x: OF_FEATURES(functional.pad(x.transpose(1, 2), (1, 0))),
    "average pooling": nn.AvgPool1d(2),
    "average pooling of a border": nn.AvgPool1d(3, stride=1, padding=1),
    "average pooling without a border": nn.AvgPool1d(3, stride=1, padding=1, count_include_pad=False),
    "average pooling of all": nn.AdaptiveAvgPool1d(1),
    "maximum pooling": nn.MaxPool1d(2),
    "maximum pooling of a border": nn.MaxPool1d(2, stride=1, padding=1, dilation=2),
    "maximum pooling of all": nn.AdaptiveMaxPool1d(1),
    "gated": nn.GLU(),
    "silu": nn.SiLU(),
    "relu": nn.ReLU(),
    "leaky relu": nn.LeakyReLU(0.2),
    "elu": nn.ELU(0.7),
    "softplus": lambda x: functional.softplus(x * 20.0),
    "softplus, sharper": nn.Softplus(beta=2.0),
    "sums so far": lambda x: torch.cumsum(x, dim=1) + torch.cumsum(x, dim=-1),
    "chunks": lambda x: torch.cat([a - b for a, b in pairwise(x.chunk(3, dim=1))], dim=1),
    "unequal chunks": lambda x: torch.cat(x.chunk(2, dim=1)[::-1], dim=1),
    "parts": lambda x: torch.cat(x.split([1, 3], dim=-1)[::-1], dim=-1),
    "masked": lambda x: x.masked_fill(x > 0.0, -1.0).masked_fill(torch.eye(4)[:3] > 0.0, 2.0),
    "one axis less": lambda x: x.unsqueeze(1).squeeze(1) + x[:, :1].squeeze(1).unsqueeze(1),
}


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_every_layer_answers_as_torch_for_one_row_and_many(name: str) -> None:
    layer = LAYERS[name]
    for module in (layer, ATTENTION, ENCODER):
        if isinstance(module, nn.Module):
            module.eval()
    model = written(layer, tuple(layer(torch.zeros(1, 3, 4)).shape[1:]))
    for batch in (1, 2, 3, 64):
        x = torch.randn(batch, 3, 4, generator=torch.Generator().manual_seed(batch))
        expected, found = layer(x), answer(model, x)
        assert found.shape == tuple(expected.shape)
        assert np.abs(found - expected.numpy()).max() < 1e-6, batch


@torch.no_grad()
def test_a_recurrent_layer_is_one_operation_per_layer() -> None:
    model = written(lambda x: GRUS(x)[0], (3, 6))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("GRU") == 2
    assert not {"Sigmoid", "Tanh", "MatMul"}.intersection(kinds)


@torch.no_grad()
def test_the_graph_of_attention_has_no_fused_operator() -> None:
    """Torch runs an encoder in evaluation mode as one operator of its own, which would have no converter."""
    kinds = {node.op_type for node in written(ENCODER.eval()).graph.node}
    assert {"LayerNormalization", "Softmax", "MatMul"} <= kinds
    assert {node.domain for node in written(ENCODER).graph.node} == {""}
