"""Graphs with the served signature whose faults are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from financial_assets.models.onnx.tracing import trace
from financial_assets.models.onnx.writer import write_onnx

OUTPUTS = {"probability_up": 1, "return_quantiles": 5, "return_quantiles_5d": 5, "excess_return": 1}
LEVELS = torch.tensor([[-2.3, -1.6, 0.0, 1.6, 2.3]])

Heads = tuple[Tensor, Tensor, Tensor, Tensor]
Logit = Callable[[Tensor], Tensor]


def momentum(bars: Tensor) -> Tensor:
    """A logit that depends on the last moves alone, in units of their size: ``[batch, 1]``."""
    moves = torch.log(bars[:, -20:, 3] / bars[:, -21:-1, 3])
    size = torch.sqrt((moves * moves).mean(dim=1, keepdim=True)) + 1e-3
    return moves[:, -5:].mean(dim=1, keepdim=True) / size


class External(nn.Module):
    """Heads around a logit."""

    def __init__(self, logit: Logit = momentum) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, bars: Tensor) -> Heads:
        logit = self.logit(bars)
        moves = torch.log(bars[:, -20:, 3] / bars[:, -21:-1, 3])
        volatility = torch.sqrt((moves * moves).mean(dim=1, keepdim=True)) + 1e-4
        return torch.sigmoid(logit), volatility * LEVELS, volatility * 2.2 * LEVELS, logit * 0.01


def write_graph(folder: Path, name: str = "house", module: nn.Module | None = None, card: str | None = None) -> Path:
    """``<name>.onnx`` and its card; a card of ``""`` is left out."""

    def example(batch: int) -> Tensor:
        steps = torch.arange(256, dtype=torch.float32)[None, :, None]
        rows = torch.arange(1, batch + 1, dtype=torch.float32)[:, None, None]
        return (100.0 + rows + torch.sin(steps)).expand(batch, 256, 7).contiguous()

    model = write_onnx(
        trace((module or External()).eval(), example),
        source=("bars", ("batch", 256, 7)),
        outputs={output: ("batch", width) for output, width in OUTPUTS.items()},
        opset=20,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    onnx.save(model, str(path))
    text = f"name: {name}\ndata_cutoff: 2002-12-31\nlicence: Apache-2.0\n" if card is None else card
    if text:
        path.with_suffix(".yaml").write_text(text)
    return path
