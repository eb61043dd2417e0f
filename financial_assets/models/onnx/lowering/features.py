"""The part of a served graph from raw bars to what its network reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from financial_assets.features.bars import KNOWN_VARIANCES, VOLATILITY_FLOOR
from financial_assets.models.heads import ServedAnswer
from financial_assets.models.onnx.builder import GraphBuilder
from financial_assets.models.onnx.lowering.calendar import of_the_day, write_calendar
from financial_assets.models.onnx.lowering.primitives import read_program
from financial_assets.models.onnx.lowering.writer import write_program
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.models.scaling import CLIP
from financial_assets.models.volatility import VARIANCE_FLOOR

if TYPE_CHECKING:
    from financial_assets.models.predictor import Predictor


_SPARE = 8
"""Bars before those needed that may be read, times 0: series that are lagged then have the length of others."""


def write_features(builder: GraphBuilder, predictor: Predictor, bars: str) -> str:
    """Write a predictor's features, and the variances that its volatility is forecast from.

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
        If a feature uses an operation that has no form on series.
    """
    steps, channels = predictor.sequence_length, len(predictor.channels)
    depth = min(predictor.bars_needed + _SPARE, SERVED_LOOKBACK)
    functions = [*(feature.function for feature in predictor.graph.features), *KNOWN_VARIANCES]
    program, values = read_program(functions, depth, channels)
    ends = [builder.integers(number) for number in (SERVED_LOOKBACK - depth, SERVED_LOOKBACK, 1)]
    recent = builder.emit("Slice", [bars, *ends])
    bars_by_channel = _columns_to_rows(builder, recent, channels, (channels, -1, depth))
    of_day = [place for place, form in enumerate(values) if of_the_day(program, form)]
    dated = [functions[place] for place in of_day]
    found = write_calendar(builder, dated, bars_by_channel, (depth - steps, depth)) if dated else {}
    given = {values[of_day[place]].series: where for place, where in found.items()}
    for series in given:
        program.give(series)
    rows = write_program(builder, program, bars_by_channel, values, steps, given)
    by_step = builder.emit("Reshape", [rows, builder.integers(len(values), -1)])
    columns = builder.emit("Transpose", [by_step], perm=(1, 0))
    return builder.emit("Reshape", [columns, builder.integers(-1, steps, len(values))])


def _columns_to_rows(builder: GraphBuilder, value: str, columns: int, shape: tuple[int, ...]) -> str:
    """The last axis first. As a matrix: onnxruntime would move a plain transposition to places where it is slower."""
    matrix = builder.emit("Reshape", [value, builder.integers(-1, columns)])
    return builder.emit("Reshape", [builder.emit("Transpose", [matrix], perm=(1, 0)), builder.integers(*shape)])


class AnswerOfFeatures(nn.Module):
    """What follows: unclipped features and, last, variances ``[batch, step, feature + variance]``."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor
        self.features = len(predictor.graph.names)
        self.shape = (predictor.sequence_length, self.features + len(KNOWN_VARIANCES))
        low, high = (predictor.scaler(bound[:, 0]) for bound in (predictor.graph.low, predictor.graph.high))
        # Scaling keeps the order of numbers, so that the bounds of features and of scaled features are one.
        self.low, self.high = low.clamp(min=-CLIP), high.clamp(max=CLIP)

    def forward(self, values: Tensor) -> ServedAnswer:
        """The predictor's answer."""
        features, volatility = self.read(values)
        return self.predictor.calibration(self.predictor.network(self.scaled(features), volatility), volatility)

    def read(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Unclipped features, and forecast volatility ``[batch, horizon]``: ``of_variances`` as one product."""
        features, variances = values.split((self.features, len(KNOWN_VARIANCES)), dim=-1)
        level, slopes = self.predictor.volatility.log_scale()
        log_volatility = torch.addmm(level, torch.log(variances[:, -1].clamp(min=VARIANCE_FLOOR)), slopes)
        return features, torch.exp(log_volatility).clamp(min=VOLATILITY_FLOOR)

    def scaled(self, features: Tensor) -> Tensor:
        """What the network reads ``[batch, step, feature]``."""
        scaler = self.predictor.scaler
        scaled = (features - scaler.center) / scaler.scale
        return torch.minimum(torch.maximum(scaled, self.low), self.high)
