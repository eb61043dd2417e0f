from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from financial_assets.errors import ExportError
from financial_assets.models.onnx.tracing import BATCH, BatchSize, trace
from financial_assets.models.onnx.writer import write_onnx
from tests.models.onnx_graphs import Function, Module, answer, example, written

torch.manual_seed(0)
LAYER = nn.Linear(4, 2).requires_grad_(False)
LSTM = nn.LSTM(4, 3, num_layers=2, batch_first=True).requires_grad_(False)
GRU = nn.GRU(4, 3, batch_first=True).requires_grad_(False)
STEPS_FIRST = nn.LSTM(4, 3).requires_grad_(False)


def centred(x: Tensor) -> Tensor:
    parts = x.unbind(1)
    return torch.stack([parts[0] - 0.5, 1.0 - parts[1], parts[2] / 3.0], dim=1)


FUNCTIONS: dict[str, Function] = {
    "arithmetic": lambda x: (x + 1.0) * x - x / 4.0,
    "reversed": lambda x: 2.0 - x,
    "transcendental": lambda x: torch.sin(x) + torch.log(torch.exp(x).clamp(min=0.1)) + torch.sqrt(x.abs()),
    "rounding": lambda x: x.floor() + torch.ceil(x) + torch.round(x) + torch.sign(x) + torch.tanh(-x),
    "slices": lambda x: torch.cat((x[..., :1].expand(-1, -1, 3), x[..., 1:], x[..., :-1]), dim=-1)[..., ::2][..., :4],
    "step": lambda x: torch.cat([x[..., ::2], x[..., 1::2]], dim=-1),
    "choice": lambda x: torch.where((x > 0) & (x <= 2.0) | (x == -2.0), x, -1.0),
    "comparisons": lambda x: (x != 0.0).float() + (x >= 1.0).to(torch.float32) + (~(x < 1.0)).float(),
    "extremes": lambda x: torch.maximum(x, -x) + torch.minimum(x, x * x) + x.clamp(-1, 1),
    "clamps": lambda x: x.clamp(max=0.5) + x.clamp_min(0.1),
    "parts": centred,
    "select": lambda x: torch.stack([x[:, 2], x[:, -1], x[:, 0]], dim=-2),
    "indexed": lambda x: (
        x[..., torch.tensor([[0, 1], [3, 2]])] + x[:, torch.tensor([2, 0, 1])].sum(-1)[..., None, None]
    ),
    "axes": lambda x: x.transpose(1, 2).contiguous().transpose(-1, -2),
    "permuted": lambda x: x.permute(0, 2, 1).contiguous().permute(0, -1, 1),
    "viewed": lambda x: (x.reshape(x.shape[0], 12) * 2.0).view(x.shape[0], 3, 4),
    "padded": lambda x: nn.functional.pad(x[..., 1:], (1, 0)) + nn.functional.pad(x[:, 1:], (0, 0, 0, 1), value=2.0),
    "edges": lambda x: nn.functional.pad(x[..., 1:-1], (2, 0), mode="replicate"),
    "reduced": lambda x: (
        x.sum(-1, keepdim=True) + x.mean(1, keepdim=True) + x.amax((1, 2), keepdim=True) + x.amin(-1)[..., None]
    ),
    "filled": lambda x: torch.zeros_like(x) + torch.ones_like(x) * x,
    "unsqueezed": lambda x: (x.unsqueeze(-1) * 2.0)[..., 0],
    "sorted": lambda x: torch.sort(x, dim=1).values + torch.sort(x, descending=True).values,
    "affine": lambda x: LAYER(x[:, 1]),
    "lstm": lambda x: LSTM(x)[0],
    "lstm states": lambda x: torch.cat([LSTM(x)[1][0], LSTM(x)[1][1]]).transpose(0, 1) * 2.0,
    "lstm, steps first": lambda x: STEPS_FIRST(x.transpose(0, 1))[0].transpose(0, 1),
    "constants": lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0]) + torch.tensor(0.25),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_every_converter_answers_as_torch_for_every_batch_size(name: str, batch: int) -> None:
    x = torch.randn(batch, 3, 4, generator=torch.Generator().manual_seed(batch))
    expected = FUNCTIONS[name](x)
    found = answer(written(FUNCTIONS[name], tuple(expected.shape[1:])), x)
    assert found.shape == tuple(expected.shape)
    assert np.abs(found - expected.numpy()).max() < 1e-6


def test_equal_values_are_computed_once_and_what_nobody_needs_is_not_written() -> None:
    def wasteful(x: Tensor) -> Tensor:
        torch.exp(x)
        return (x + 1.0) * (x + 1.0) + (x + 1.0)

    model = written(wasteful)
    assert [node.op_type for node in model.graph.node] == ["Add", "Mul", "Add"]
    assert len(model.graph.initializer) == 1


def test_the_batch_stays_open_in_sizes() -> None:
    traced = trace(Module(lambda x: x[..., :1].expand(x.shape[0], 3, 4)), example)
    assert traced.operations[-1].args[1] == (BATCH, 3, 4)
    merged = trace(Module(lambda x: x.reshape(-1, 4)), example)
    assert merged.operations[-1].args[1] == (BatchSize(3), 4)
    assert str(merged.operations[-1].args[1]) == "(3 * BATCH, 4)"


def test_what_nobody_reads_needs_no_converter() -> None:
    def function(x: Tensor) -> Tensor:
        torch.cumprod(x, -1)
        return x + 1.0

    assert [node.op_type for node in written(function).graph.node] == ["Add"]


class Twice(nn.Module):
    """One value as two outputs, and the input as a third."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        moved = x + 1.0
        return moved, moved, x


def test_an_output_that_is_the_input_or_another_output_is_copied() -> None:
    model = write_onnx(
        trace(Twice(), example),
        source=("x", ("batch", 3, 4)),
        outputs=dict.fromkeys(("sum", "same", "input"), ("batch", 3, 4)),
        opset=20,
    )
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Add", "Identity", "Identity"]
    x = torch.randn(5, 3, 4)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for found, expected in zip(session.run(None, {"x": x.numpy()}), Twice()(x), strict=True):
        assert np.array_equal(found, expected.numpy())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.cumprod(x, -1), "cumprod"),
        (lambda x: torch.cumsum(x, -1, dtype=torch.float64).float(), "cumsum"),
        (lambda x: x + x.sum(), "name the axes"),
        (lambda x: x * 2.0 if bool((x > 0).any()) else x, "Python value"),
        (lambda x: x.clone().mul_(2.0), "mul_"),
        (lambda x: x.sum(-1, keepdim=True, dtype=torch.float64).float() + x, "sum"),
        (lambda x: torch.add(x, x, alpha=2.0), "rounds differently"),
        (lambda x: torch.round(x, decimals=1), "rounds differently"),
        (lambda x: x.double().float(), "float32"),
        (lambda x: GRU(nn.utils.rnn.PackedSequence(x[:, 0], torch.tensor([len(x)])))[1], "packed"),
        (lambda x: GRU(x, torch.ones(1, len(x), 3))[0], "another state"),
        (lambda x: nn.functional.softplus(x, threshold=1.0), "threshold"),
        (lambda x: nn.functional.selu(x), "selu"),
        (lambda x: nn.functional.avg_pool1d(x, 3, ceil_mode=True), "ceil_mode"),
        (lambda x: nn.functional.max_pool1d(x, 3, ceil_mode=True), "ceil_mode"),
        (lambda x: nn.functional.max_pool1d(x, 2, return_indices=True)[1] * 1.0, "no ONNX form"),
        (lambda x: nn.functional.adaptive_max_pool1d(x, 2), "kernel size"),
        (lambda x: nn.functional.conv_transpose1d(x, torch.ones(3, 2, 2)), "transposed"),
        (lambda x: nn.functional.batch_norm(x, None, None, training=True), "evaluation mode"),
        (lambda x: torch.squeeze(x.unsqueeze(1)), "one axis to drop"),
        (lambda x: x[..., : len(x)], "depends on the batch size"),
        (lambda x: nn.LSTM(4, 3, batch_first=True, proj_size=2)(x)[0], "projections"),
        (lambda x: LSTM(x, (torch.ones(2, len(x), 3), torch.ones(2, len(x), 3)))[0], "another state"),
        (lambda x: x[:, torch.tensor([0, 2, 1]), torch.tensor([0, 1, 2])], "one axis"),
        (lambda x: x * x.shape[0], None),  # the batch size as an operand
        (lambda x: x * 2.0 if len(x) == 2 else x + 2.0, "another batch size"),
        (lambda x: x + 1.0 if len(x) == 2 else x + 1.0 + 1.0, "another batch size"),
        (lambda x: x * torch.ones(len(x), 1, 1), "depends on the batch size"),
        (lambda x: x * (len(x) + 5), "depends on the batch size"),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_what_cannot_be_written_is_named(function: Function, message: str | None) -> None:
    with pytest.raises(ExportError, match=message):
        written(function)
