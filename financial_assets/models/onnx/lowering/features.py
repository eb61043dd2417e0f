"""The part of a served graph from raw bars to what its network reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from financial_assets.features.bars import causal_volatility
from financial_assets.models.onnx.builder import GraphBuilder
from financial_assets.models.onnx.lowering.primitives import read_program
from financial_assets.models.onnx.lowering.writer import write_program
from financial_assets.models.request_shape import SERVED_LOOKBACK

if TYPE_CHECKING:
    from financial_assets.models.predictor import Predictor


def write_features(builder: GraphBuilder, predictor: Predictor, bars: str) -> str:
    """Write a predictor's features and volatility.

    Parameters
    ----------
    builder
        Where to write.
    predictor
        Whose features, of as many sessions as its network reads.
    bars
        Name of the request's bars ``[batch, SERVED_LOOKBACK, channel]``.

    Returns
    -------
    str
        Name of the input of ``AnswerOfFeatures``.

    Raises
    ------
    ExportError
        If a feature uses an operation that has no form on slots.
    """
    depth, steps, channels = predictor.bars_needed, predictor.sequence_length, len(predictor.channels)
    functions = [*(feature.function for feature in predictor.graph.features), causal_volatility]
    program, (*features, volatility) = read_program(functions, depth, channels)
    by_step = np.stack([series[-steps:] for series in features], axis=1)
    first = builder.integers((SERVED_LOOKBACK - depth) * channels)
    flat = builder.emit("Reshape", [bars, builder.integers(-1, SERVED_LOOKBACK * channels)])
    by_slot = builder.emit("Transpose", [flat], perm=(1, 0))
    end = builder.integers(SERVED_LOOKBACK * channels)
    recent = builder.emit("Slice", [by_slot, first, end, builder.integers(0)])
    values = write_program(builder, program, recent, np.concatenate([by_step.ravel(), volatility[-1:]]))
    return builder.emit("Transpose", [values], perm=(1, 0))


class AnswerOfFeatures(nn.Module):
    """What follows: unclipped features of each step and volatility ``[batch, step * feature + 1]`` to the answer."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor
        self.width = predictor.sequence_length * len(predictor.graph.names) + 1

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """``probability_up`` ``[batch, 1]`` and ``return_quantiles`` ``[batch, 5]``."""
        graph, steps = self.predictor.graph, self.predictor.sequence_length
        features = values[:, :-1].reshape(values.shape[0], steps, len(graph.names))
        clipped = torch.minimum(torch.maximum(features, graph.low[:, 0]), graph.high[:, 0])
        return self.predictor.answer(clipped, values[:, -1:])
