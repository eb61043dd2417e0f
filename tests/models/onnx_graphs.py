"""Functions of one tensor as ONNX models, and their answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from financial_assets.models.onnx.tracing import trace
from financial_assets.models.onnx.writer import write_onnx

Function = Callable[[Tensor], Tensor]


class Module(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.function(x),)


def example(batch: int) -> Tensor:
    return torch.linspace(-2.0, 3.0, batch * 12).reshape(batch, 3, 4)


def written(function: Function, shape: tuple[int, ...] = (3, 4)) -> onnx.ModelProto:
    model = write_onnx(
        trace(Module(function), example),
        source=("x", ("batch", 3, 4)),
        outputs={"y": ("batch", *shape)},
        opset=20,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def answer(model: onnx.ModelProto, x: Tensor) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": x.numpy()})[0])
