"""Tiny ONNX graphs whose answers are known, and bars to ask them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

QUANTILES = np.array([[-0.02, -0.01, 0.0, 0.01, 0.02]], dtype=np.float32)
FIVE_SESSIONS, SCORE = np.float32(3), np.float32(0.001)
"""Quantiles of five sessions by those of one, and the score by the mean close."""


def write_model(folder: Path, logit: float, channels: int = 7, *, earlier: bool = False) -> Path:
    """A graph that answers sigmoid(logit), and quantiles and a score proportional to the mean close.

    Returns its folder. With ``earlier`` it has the two outputs of a model of an earlier version.
    """
    values = {
        "start": np.array([3], np.int64),
        "stop": np.array([4], np.int64),
        "channel": np.array([2], np.int64),
        "window": np.array([1, 2], np.int64),
        "column": np.array([1], np.int64),
        "nothing": np.array(0, np.float32),
        "logit": np.array(logit, np.float32),
        "levels": QUANTILES,
        "horizon": np.array(FIVE_SESSIONS, np.float32),
        "unit": np.array(SCORE, np.float32),
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
    widths = {"probability_up": 1, "return_quantiles": 5}
    if not earlier:
        nodes += [
            helper.make_node("Mul", ["return_quantiles", "horizon"], ["return_quantiles_5d"]),
            helper.make_node("Mul", ["mean", "unit"], ["excess_return"]),
        ]
        widths |= {"return_quantiles_5d": 5, "excess_return": 1}
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [tensor("bars", TensorProto.FLOAT, ["batch", 256, channels])],
        [tensor(name, TensorProto.FLOAT, ["batch", width]) for name, width in widths.items()],
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


def expected_answer(bars: np.ndarray, logit: float) -> dict[str, np.ndarray]:
    """What a model of :func:`write_model` answers, by output; one of an earlier version the first two."""
    mean = bars[:, :, 3].mean(axis=1, keepdims=True)
    return {
        "probability_up": np.full((len(bars), 1), 1 / (1 + np.exp(-logit))),
        "return_quantiles": mean * QUANTILES,
        "return_quantiles_5d": mean * QUANTILES * FIVE_SESSIONS,
        "excess_return": mean * SCORE,
    }
