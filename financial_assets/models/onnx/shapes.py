"""How operations that move numbers and compute none are written in ONNX: slices, joins, axes and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from types import MappingProxyType

import numpy as np
from torch import Tensor

from financial_assets.errors import ExportError
from financial_assets.models.onnx.builder import GraphBuilder
from financial_assets.models.onnx.layers import Converter
from financial_assets.models.onnx.tracing import BatchSize, Operation, argument

_WHOLE_AXIS = np.iinfo(np.int64).max


def _slice(builder: GraphBuilder, operation: Operation) -> str:
    axis, start = argument(operation, 1, 0), argument(operation, 2) or 0
    stop, step = argument(operation, 3), argument(operation, 4, 1)
    numbers = (start, _WHOLE_AXIS if stop is None else stop, axis % operation.rank, step)
    return builder.emit("Slice", [builder.operand(operation.args[0]), *map(builder.integers, numbers)])


def _select(builder: GraphBuilder, operation: Operation) -> str:
    value, axis, index = operation.args
    return _gather(builder, builder.operand(value), index, axis % (operation.rank + 1))


def _unbind(builder: GraphBuilder, operation: Operation) -> list[str]:
    axis = argument(operation, 1, 0) % (operation.rank + 1)
    value = builder.operand(operation.args[0])
    return [_gather(builder, value, index, axis) for index in range(operation.parts)]


def _gather(builder: GraphBuilder, value: str, index: int, axis: int) -> str:
    return builder.emit("Gather", [value, builder.constant(np.asarray(index, dtype=np.int64))], axis=axis)


def _index(builder: GraphBuilder, operation: Operation) -> str:
    value, indices = operation.args
    axis = len(indices) - 1
    if not isinstance(indices[axis], Tensor) or any(index is not None for index in indices[:axis]):
        raise ExportError(f"{operation.name}: only one axis can be indexed, by places that the data do not decide")
    places = builder.constant(indices[axis].numpy().astype(np.int64))
    return builder.emit("Gather", [builder.operand(value), places], axis=axis)


def _cat(builder: GraphBuilder, operation: Operation) -> str:
    axis = argument(operation, 1, 0) % operation.rank
    return builder.emit("Concat", [builder.operand(value) for value in operation.args[0]], axis=axis)


def _stack(builder: GraphBuilder, operation: Operation) -> str:
    axis = argument(operation, 1, 0) % operation.rank
    rows = [builder.emit("Unsqueeze", [builder.operand(row), builder.integers(axis)]) for row in operation.args[0]]
    return builder.emit("Concat", rows, axis=axis)


def _unsqueeze(builder: GraphBuilder, operation: Operation) -> str:
    value, axis = operation.args
    return builder.emit("Unsqueeze", [builder.operand(value), builder.integers(axis % operation.rank)])


def _expand(builder: GraphBuilder, operation: Operation) -> str:
    # One in ONNX's shape keeps the axis as it is, which leaves the batch open.
    sizes = [1 if isinstance(size, BatchSize) else size for size in operation.args[1]]
    return builder.emit("Expand", [builder.operand(operation.args[0]), builder.integers(*sizes)])


def _transpose(builder: GraphBuilder, operation: Operation) -> str:
    order = list(range(operation.rank))
    first, second = (axis % operation.rank for axis in operation.args[1:3])
    order[first], order[second] = second, first
    return builder.emit("Transpose", [builder.operand(operation.args[0])], perm=tuple(order))


def _permute(builder: GraphBuilder, operation: Operation) -> str:
    order = tuple(axis % operation.rank for axis in operation.args[1])
    return builder.emit("Transpose", [builder.operand(operation.args[0])], perm=order)


def _matrix_transpose(builder: GraphBuilder, operation: Operation) -> str:
    return builder.emit("Transpose", [builder.operand(operation.args[0])], perm=tuple(range(operation.rank))[::-1])


def _squeeze(builder: GraphBuilder, operation: Operation) -> str:
    if len(operation.args) != 2 or not isinstance(operation.args[1], int):
        raise ExportError(f"{operation.name}: name the one axis to drop")
    axis = operation.args[1] % (operation.rank + 1)
    return builder.emit("Squeeze", [builder.operand(operation.args[0]), builder.integers(axis)])


def _split(builder: GraphBuilder, operation: Operation) -> list[str]:
    value, sizes = builder.operand(operation.args[0]), operation.args[1]
    axis = argument(operation, 2, 0) % operation.rank
    if not isinstance(sizes, int):
        return builder.emit_parts("Split", [value, builder.integers(*sizes)], operation.parts, axis=axis)
    # The last part of equal ones may be shorter; a slice ends where the axis does.
    ends = list(accumulate([sizes] * operation.parts))
    ranges = [(end - sizes, end, axis, 1) for end in ends]
    return [builder.emit("Slice", [value, *map(builder.integers, numbers)]) for numbers in ranges]


def _view(builder: GraphBuilder, operation: Operation) -> str:
    sizes = [-1 if isinstance(size, BatchSize) else size for size in operation.args[1]]
    if sizes.count(-1) > 1:
        raise ExportError(f"{operation.name} to {operation.args[1]} leaves more than one size open")
    return builder.emit("Reshape", [builder.operand(operation.args[0]), builder.integers(*sizes)])


def _pad(mode: str) -> Converter:
    def write(builder: GraphBuilder, operation: Operation) -> str:
        # torch counts from the last axis: (before, after, before, after ...).
        pairs = list(zip(operation.args[1][::2], operation.args[1][1::2], strict=True))[::-1]
        pairs = [(0, 0)] * (operation.rank - len(pairs)) + pairs
        sizes = builder.integers(*(before for before, _ in pairs), *(after for _, after in pairs))
        fill = [builder.operand(argument(operation, 2, 0.0))] if mode == "constant" else []
        return builder.emit("Pad", [builder.operand(operation.args[0]), sizes, *fill], mode=mode)

    return write


SHAPES: Mapping[str, Converter] = MappingProxyType(
    {
        "slice": _slice,
        "select": _select,
        "unbind": _unbind,
        "index": _index,
        "cat": _cat,
        "stack": _stack,
        "unsqueeze": _unsqueeze,
        "expand": _expand,
        "transpose": _transpose,
        "permute": _permute,
        "t": _matrix_transpose,
        "squeeze": _squeeze,
        "split": _split,
        "unsafe_split": _split,
        "split_with_sizes": _split,
        "view": _view,
        "_unsafe_view": _view,
        "constant_pad_nd": _pad("constant"),
        "replication_pad1d": _pad("edge"),
    }
)
"""Converters by the names of torch's operations."""
