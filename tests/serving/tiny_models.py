"""Tiny ONNX graphs whose answers are known, and bars to ask them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

QUANTILES = np.array([[-0.02, -0.01, 0.0, 0.01, 0.02]], dtype=np.float32)


def write_model(folder: Path, logit: float, channels: int = 7) -> Path:
    """A graph that answers sigmoid(logit) and quantiles proportional to the mean close; returns its folder."""
    values = {
        "start": np.array([3], np.int64),
        "stop": np.array([4], np.int64),
        "channel": np.array([2], np.int64),
        "window": np.array([1, 2], np.int64),
        "column": np.array([1], np.int64),
        "nothing": np.array(0, np.float32),
        "logit": np.array(logit, np.float32),
        "levels": QUANTILES,
    }
    nodes = [
        helper.make_node("Slice", ["bars", "start", "stop", "channel"], ["close"]),
        helper.make_node("ReduceMean", ["close", "window"], ["flat"], keepdims=0),
        helper.make_node("Unsqueeze", ["flat", "column"], ["mean"]),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "logit"], ["shifted"]),
        helper.make_node("Sigmoid", ["shifted"], ["probability_up"]),
        helper.make_node("Mul", ["mean", "levels"], ["return_quantiles"]),
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [tensor("bars", TensorProto.FLOAT, ["batch", 256, channels])],
        [
            tensor("probability_up", TensorProto.FLOAT, ["batch", 1]),
            tensor("return_quantiles", TensorProto.FLOAT, ["batch", 5]),
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def make_bars(rows: int) -> np.ndarray:
    """Valid bars whose mean close differs from row to row."""
    bars = np.full((rows, 256, 7), 100.0, dtype=np.float32)
    bars += np.arange(rows, dtype=np.float32)[:, None, None]
    bars[..., 6] = np.arange(12000, 12256)
    return bars


def expected_answer(bars: np.ndarray, logit: float) -> tuple[np.ndarray, np.ndarray]:
    """What a model of :func:`write_model` says."""
    mean = bars[:, :, 3].mean(axis=1, keepdims=True)
    return np.full((len(bars), 1), 1 / (1 + np.exp(-logit))), mean * QUANTILES
