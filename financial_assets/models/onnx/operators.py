"""How each aten operation is written in ONNX.

Only what features and networks need, and only where the two agree to the last bit or nearly so; anything else is
refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from onnx import TensorProto
from torch import Tensor

from financial_assets.errors import ExportError
from financial_assets.models.onnx.tracing import BATCH, Operation

__all__ = ["Emitter", "convert"]

_BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min", "pow": "Pow",
    "gt": "Greater", "lt": "Less", "ge": "GreaterOrEqual", "le": "LessOrEqual", "eq": "Equal",
    "bitwise_and": "And", "bitwise_or": "Or", "logical_and": "And", "logical_or": "Or",
}  # fmt: skip
_UNARY = {
    "sqrt": "Sqrt", "log": "Log", "exp": "Exp", "neg": "Neg", "abs": "Abs", "floor": "Floor", "ceil": "Ceil",
    "sin": "Sin", "cos": "Cos", "tanh": "Tanh", "sigmoid": "Sigmoid", "sign": "Sign", "reciprocal": "Reciprocal",
    "round": "Round", "bitwise_not": "Not", "logical_not": "Not", "isfinite": "IsFinite", "atan": "Atan",
}  # fmt: skip
_SAME = frozenset({"alias", "clone", "detach", "contiguous", "lift_fresh"})
_WHOLE_AXIS = np.iinfo(np.int64).max


class Emitter(Protocol):
    """Where nodes go; each method returns the name of a value."""

    def emit(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """The only result of a node."""
        ...

    def emit_parts(self, kind: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """The ``count`` results of a node."""
        ...

    def constant(self, value: np.ndarray) -> str:
        """A constant."""
        ...

    def integers(self, *values: int) -> str:
        """A constant list of integers."""
        ...

    def operand(self, value: object) -> str:
        """A value of the trace, a constant tensor or a number."""
        ...


Converter = Callable[[Emitter, Operation], str | list[str]]


def convert(writer: Emitter, operation: Operation) -> str | list[str]:
    """Write ``operation``; the name of its result, or of each of its parts.

    Raises
    ------
    ExportError
        If there is no converter, or the operation rounds differently.
    """
    kind = operation.name.removeprefix("aten.").split(".")[0]
    if kind in _SAME:
        return writer.operand(operation.args[0])
    if kind in _UNARY:
        return writer.emit(_UNARY[kind], [writer.operand(operation.args[0])])
    if kind in _BINARY:
        if operation.kwargs:
            raise ExportError(
                f"{operation.name} with {dict(operation.kwargs)} rounds differently: write the product out"
            )
        return writer.emit(_BINARY[kind], [writer.operand(operand) for operand in operation.args[:2]])
    if kind not in _CONVERTERS:
        raise ExportError(f"{operation.name} has no ONNX converter: build it from others, or add one")
    return _CONVERTERS[kind](writer, operation)


def _argument(operation: Operation, place: int, default: Any = None) -> Any:
    return operation.args[place] if len(operation.args) > place else default


def _slice(writer: Emitter, operation: Operation) -> str:
    axis, start = _argument(operation, 1, 0), _argument(operation, 2) or 0
    stop, step = _argument(operation, 3), _argument(operation, 4, 1)
    numbers = (start, _WHOLE_AXIS if stop is None else stop, axis % operation.rank, step)
    return writer.emit("Slice", [writer.operand(operation.args[0]), *map(writer.integers, numbers)])


def _select(writer: Emitter, operation: Operation) -> str:
    value, axis, index = operation.args
    position = writer.constant(np.asarray(index, dtype=np.int64))
    return writer.emit("Gather", [writer.operand(value), position], axis=axis % (operation.rank + 1))


def _unbind(writer: Emitter, operation: Operation) -> list[str]:
    axis = _argument(operation, 1, 0) % (operation.rank + 1)
    value, indices = writer.operand(operation.args[0]), range(operation.parts)
    return [writer.emit("Gather", [value, writer.constant(np.asarray(i, dtype=np.int64))], axis=axis) for i in indices]


def _cat(writer: Emitter, operation: Operation) -> str:
    axis = _argument(operation, 1, 0) % operation.rank
    return writer.emit("Concat", [writer.operand(value) for value in operation.args[0]], axis=axis)


def _stack(writer: Emitter, operation: Operation) -> str:
    axis = _argument(operation, 1, 0) % operation.rank
    rows = [writer.emit("Unsqueeze", [writer.operand(row), writer.integers(axis)]) for row in operation.args[0]]
    return writer.emit("Concat", rows, axis=axis)


def _unsqueeze(writer: Emitter, operation: Operation) -> str:
    value, axis = operation.args
    return writer.emit("Unsqueeze", [writer.operand(value), writer.integers(axis % operation.rank)])


def _expand(writer: Emitter, operation: Operation) -> str:
    # One in ONNX's shape keeps the axis as it is, which leaves the batch open.
    sizes = [1 if size is BATCH or size == -1 else size for size in operation.args[1]]
    return writer.emit("Expand", [writer.operand(operation.args[0]), writer.integers(*sizes)])


def _transpose(writer: Emitter, operation: Operation) -> str:
    order = list(range(operation.rank))
    first, second = (axis % operation.rank for axis in operation.args[1:3])
    order[first], order[second] = second, first
    return writer.emit("Transpose", [writer.operand(operation.args[0])], perm=tuple(order))


def _permute(writer: Emitter, operation: Operation) -> str:
    order = tuple(axis % operation.rank for axis in operation.args[1])
    return writer.emit("Transpose", [writer.operand(operation.args[0])], perm=order)


def _view(writer: Emitter, operation: Operation) -> str:
    sizes = [-1 if size is BATCH else size for size in operation.args[1]]
    if sizes.count(-1) > 1:
        raise ExportError(f"{operation.name} to {operation.args[1]} leaves more than one size open")
    return writer.emit("Reshape", [writer.operand(operation.args[0]), writer.integers(*sizes)])


def _pad(mode: str) -> Converter:
    def write(writer: Emitter, operation: Operation) -> str:
        # torch counts from the last axis: (before, after, before, after ...).
        pairs = list(zip(operation.args[1][::2], operation.args[1][1::2], strict=True))[::-1]
        pairs = [(0, 0)] * (operation.rank - len(pairs)) + pairs
        sizes = writer.integers(*(before for before, _ in pairs), *(after for _, after in pairs))
        fill = [writer.operand(_argument(operation, 2, 0.0))] if mode == "constant" else []
        return writer.emit("Pad", [writer.operand(operation.args[0]), sizes, *fill], mode=mode)

    return write


def _reduction(kind: str) -> Converter:
    def write(writer: Emitter, operation: Operation) -> str:
        axes, keep = _argument(operation, 1, ()), bool(_argument(operation, 2, False))
        rank = operation.rank if keep else operation.rank + len(axes)
        if not axes or operation.kwargs:
            raise ExportError(
                f"{operation.name} over {axes} with {dict(operation.kwargs)}: name the axes, and them only"
            )
        places = writer.integers(*(axis % rank for axis in axes))
        return writer.emit(kind, [writer.operand(operation.args[0]), places], keepdims=int(keep))

    return write


def _clamp(writer: Emitter, operation: Operation) -> str:
    bounds = [operation.kwargs.get(name, _argument(operation, place)) for place, name in ((1, "min"), (2, "max"))]
    names = ["" if bound is None else writer.operand(bound) for bound in bounds]
    return writer.emit("Clip", [writer.operand(operation.args[0]), *(names if names[1] else names[:1])])


def _where(writer: Emitter, operation: Operation) -> str:
    return writer.emit("Where", [writer.operand(value) for value in operation.args])


def _filled(number: float) -> Converter:
    def write(writer: Emitter, operation: Operation) -> str:
        shape = writer.emit("Shape", [writer.operand(operation.args[0])])
        return writer.emit("Expand", [writer.operand(number), shape])

    return write


def _not_equal(writer: Emitter, operation: Operation) -> str:
    return writer.emit("Not", [writer.emit("Equal", [writer.operand(value) for value in operation.args])])


def _reversed_subtraction(writer: Emitter, operation: Operation) -> str:
    subtrahend, minuend = operation.args[:2]
    return writer.emit("Sub", [writer.operand(minuend), writer.operand(subtrahend)])


def _to_float(writer: Emitter, operation: Operation) -> str:
    if str(operation.kwargs.get("dtype")) != "torch.float32":
        raise ExportError(f"{operation.name} to {operation.kwargs.get('dtype')}: features are float32")
    return writer.emit("Cast", [writer.operand(operation.args[0])], to=TensorProto.FLOAT)


def _affine(writer: Emitter, operation: Operation) -> str:
    if operation.kwargs:
        raise ExportError(f"{operation.name} with {dict(operation.kwargs)} rounds differently: write the product out")
    bias, inputs, weight = map(writer.operand, operation.args)
    return writer.emit("Gemm", [inputs, weight, bias])


def _sort(writer: Emitter, operation: Operation) -> list[str]:
    values, axis = writer.operand(operation.args[0]), _argument(operation, 1, -1) % operation.rank
    size = writer.emit("Shape", [values], start=axis, end=axis + 1)
    return writer.emit_parts("TopK", [values, size], 2, axis=axis, largest=int(_argument(operation, 2, False)))


def _gates(weight: Tensor) -> np.ndarray:
    """A layer's weight with the axis for directions that ONNX wants and its gates in ONNX's order.

    That is input, output, forget, cell; torch stacks them as input, forget, cell, output.
    """
    gates = weight.numpy().reshape(4, -1, *weight.shape[1:])
    return np.concatenate(gates[[0, 3, 1, 2]])[np.newaxis]


def _lstm(writer: Emitter, operation: Operation) -> list[str]:
    inputs, weights, batch_first = operation.args
    state, hidden, cell = writer.operand(inputs), [], []
    if batch_first:
        state = writer.emit("Transpose", [state], perm=(1, 0, 2))
    for layer in range(0, len(weights), 4):
        from_input, from_state, *biases = map(_gates, weights[layer : layer + 4])
        constants = map(writer.constant, (from_input, from_state, np.concatenate(biases, axis=1)))
        steps, *last = writer.emit_parts("LSTM", [state, *constants], 3, hidden_size=from_state.shape[2])
        state = writer.emit("Squeeze", [steps, writer.integers(1)])
        hidden.append(last[0])
        cell.append(last[1])
    if batch_first:
        state = writer.emit("Transpose", [state], perm=(1, 0, 2))
    return [state, writer.emit("Concat", hidden, axis=0), writer.emit("Concat", cell, axis=0)]


_CONVERTERS: dict[str, Converter] = {
    "slice": _slice,
    "select": _select,
    "unbind": _unbind,
    "cat": _cat,
    "stack": _stack,
    "unsqueeze": _unsqueeze,
    "expand": _expand,
    "transpose": _transpose,
    "permute": _permute,
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
    "where": _where,
    "zeros_like": _filled(0.0),
    "ones_like": _filled(1.0),
    "ne": _not_equal,
    "rsub": _reversed_subtraction,
    "_to_copy": _to_float,
    "addmm": _affine,
    "sort": _sort,
    "lstm": _lstm,
}
