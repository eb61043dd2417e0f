"""How each aten operation is written in ONNX.

Only what features and networks need, and only where the two agree to the last bit or nearly so; anything else is
refused by name.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
from onnx import TensorProto
from torch import Tensor

from financial_assets.errors import ExportError
from financial_assets.models.onnx.builder import GraphBuilder
from financial_assets.models.onnx.layers import LAYERS, Converter
from financial_assets.models.onnx.tracing import BatchSize, Operation

_DIRECT = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min", "pow": "Pow",
    "gt": "Greater", "lt": "Less", "ge": "GreaterOrEqual", "le": "LessOrEqual", "eq": "Equal", "where": "Where",
    "bitwise_and": "And", "bitwise_or": "Or", "logical_and": "And", "logical_or": "Or",
    "sqrt": "Sqrt", "log": "Log", "exp": "Exp", "neg": "Neg", "abs": "Abs", "floor": "Floor", "ceil": "Ceil",
    "sin": "Sin", "cos": "Cos", "tanh": "Tanh", "sigmoid": "Sigmoid", "sign": "Sign", "reciprocal": "Reciprocal",
    "relu": "Relu", "mm": "MatMul", "bmm": "MatMul", "mv": "MatMul", "erf": "Erf",
    "round": "Round", "bitwise_not": "Not", "logical_not": "Not", "isfinite": "IsFinite", "atan": "Atan",
}  # fmt: skip
"""Operations whose arguments are the inputs of one node."""

_SAME = frozenset({"alias", "clone", "detach", "contiguous", "lift_fresh"})
_WHOLE_AXIS = np.iinfo(np.int64).max


def convert(builder: GraphBuilder, operation: Operation) -> str | list[str]:
    """Write ``operation``; the name of its result, or of each of its parts.

    Raises
    ------
    ExportError
        If there is no converter, or the operation rounds differently.
    """
    kind = operation.name.removeprefix("aten.").split(".")[0]
    if kind in _SAME:
        return builder.operand(operation.args[0])
    if kind in _DIRECT:
        return builder.emit(_DIRECT[kind], _inputs(builder, operation))
    if kind not in _CONVERTERS:
        raise ExportError(f"{operation.name} has no ONNX converter: build it from others, or add one")
    return _CONVERTERS[kind](builder, operation)


def _inputs(builder: GraphBuilder, operation: Operation) -> list[str]:
    if operation.kwargs:
        raise ExportError(f"{operation.name} with {dict(operation.kwargs)} rounds differently: write the product out")
    return [builder.operand(value) for value in operation.args]


def _argument(operation: Operation, place: int, default: Any = None) -> Any:
    return operation.args[place] if len(operation.args) > place else default


def _slice(builder: GraphBuilder, operation: Operation) -> str:
    axis, start = _argument(operation, 1, 0), _argument(operation, 2) or 0
    stop, step = _argument(operation, 3), _argument(operation, 4, 1)
    numbers = (start, _WHOLE_AXIS if stop is None else stop, axis % operation.rank, step)
    return builder.emit("Slice", [builder.operand(operation.args[0]), *map(builder.integers, numbers)])


def _select(builder: GraphBuilder, operation: Operation) -> str:
    value, axis, index = operation.args
    return _gather(builder, builder.operand(value), index, axis % (operation.rank + 1))


def _unbind(builder: GraphBuilder, operation: Operation) -> list[str]:
    axis = _argument(operation, 1, 0) % (operation.rank + 1)
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
    axis = _argument(operation, 1, 0) % operation.rank
    return builder.emit("Concat", [builder.operand(value) for value in operation.args[0]], axis=axis)


def _stack(builder: GraphBuilder, operation: Operation) -> str:
    axis = _argument(operation, 1, 0) % operation.rank
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
    axis = _argument(operation, 2, 0) % operation.rank
    steps = [sizes] * operation.parts if isinstance(sizes, int) else list(sizes)
    # The last part of equal ones may be shorter; a slice ends where the axis does.
    ends = list(accumulate(steps))
    ranges = [(end - step, end, axis, 1) for step, end in zip(steps, ends, strict=True)]
    return [builder.emit("Slice", [value, *map(builder.integers, numbers)]) for numbers in ranges]


def _masked_fill(builder: GraphBuilder, operation: Operation) -> str:
    value, mask, filling = map(builder.operand, operation.args)
    return builder.emit("Where", [mask, filling, value])


def _cumulative_sum(builder: GraphBuilder, operation: Operation) -> str:
    if operation.kwargs:
        raise ExportError(f"{operation.name} with {dict(operation.kwargs)}: values are float32")
    axis = np.asarray(operation.args[1] % operation.rank, dtype=np.int64)
    return builder.emit("CumSum", [builder.operand(operation.args[0]), builder.constant(axis)])


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
        fill = [builder.operand(_argument(operation, 2, 0.0))] if mode == "constant" else []
        return builder.emit("Pad", [builder.operand(operation.args[0]), sizes, *fill], mode=mode)

    return write


def _reduction(kind: str) -> Converter:
    def write(builder: GraphBuilder, operation: Operation) -> str:
        axes, keep = _argument(operation, 1, ()), bool(_argument(operation, 2, False))
        rank = operation.rank if keep else operation.rank + len(axes)
        if not axes or operation.kwargs:
            raise ExportError(
                f"{operation.name} over {axes} with {dict(operation.kwargs)}: name the axes, and them only"
            )
        places = builder.integers(*(axis % rank for axis in axes))
        return builder.emit(kind, [builder.operand(operation.args[0]), places], keepdims=int(keep))

    return write


def _clamp(builder: GraphBuilder, operation: Operation) -> str:
    bounds = [operation.kwargs.get(name, _argument(operation, place)) for place, name in ((1, "min"), (2, "max"))]
    names = ["" if bound is None else builder.operand(bound) for bound in bounds]
    return builder.emit("Clip", [builder.operand(operation.args[0]), *(names if names[1] else names[:1])])


def _filled(number: float) -> Converter:
    def write(builder: GraphBuilder, operation: Operation) -> str:
        shape = builder.emit("Shape", [builder.operand(operation.args[0])])
        return builder.emit("Expand", [builder.operand(number), shape])

    return write


def _not_equal(builder: GraphBuilder, operation: Operation) -> str:
    return builder.emit("Not", [builder.emit("Equal", _inputs(builder, operation))])


def _reversed_subtraction(builder: GraphBuilder, operation: Operation) -> str:
    subtrahend, minuend = operation.args[:2]
    return builder.emit("Sub", [builder.operand(minuend), builder.operand(subtrahend)])


def _to_float(builder: GraphBuilder, operation: Operation) -> str:
    if str(operation.kwargs.get("dtype")) != "torch.float32":
        raise ExportError(f"{operation.name} to {operation.kwargs.get('dtype')}: features are float32")
    return builder.emit("Cast", [builder.operand(operation.args[0])], to=TensorProto.FLOAT)


def _affine(builder: GraphBuilder, operation: Operation) -> str:
    bias, inputs, weight = _inputs(builder, operation)
    return builder.emit("Gemm", [inputs, weight, bias])


def _sort(builder: GraphBuilder, operation: Operation) -> list[str]:
    values, axis = builder.operand(operation.args[0]), _argument(operation, 1, -1) % operation.rank
    size = builder.emit("Shape", [values], start=axis, end=axis + 1)
    return builder.emit_parts("TopK", [values, size], 2, axis=axis, largest=int(_argument(operation, 2, False)))


_CONVERTERS: dict[str, Converter] = {
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
    "masked_fill": _masked_fill,
    "cumsum": _cumulative_sum,
    "view": _view,
    "_unsafe_view": _view,
    "constant_pad_nd": _pad("constant"),
    "replication_pad1d": _pad("edge"),
    "sum": _reduction("ReduceSum"),
    "mean": _reduction("ReduceMean"),
    "amax": _reduction("ReduceMax"),
    "amin": _reduction("ReduceMin"),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "zeros_like": _filled(0.0),
    "ones_like": _filled(1.0),
    "ne": _not_equal,
    "rsub": _reversed_subtraction,
    "_to_copy": _to_float,
    "addmm": _affine,
    "sort": _sort,
    **LAYERS,
}
