"""A traced module as a compact ONNX model: equal values are computed once, equal constants stored once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from financial_assets.errors import ExportError
from financial_assets.models.tracing import BATCH, Operation, Ref, Trace

__all__ = ["write_onnx"]

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


class _Writer:
    """Builds the graph; ``emit`` and ``constant`` return the name of an existing equal value where there is one."""

    def __init__(self, source: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.values: dict[Ref, str] = {Ref(0): source}
        self._known: dict[tuple[object, ...], str] = {}

    def emit(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        key = (kind, *inputs, *sorted(attributes.items()))
        if key not in self._known:
            name = f"v{len(self._known)}"
            self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
            self._known[key] = name
        return self._known[key]

    def constant(self, value: np.ndarray) -> str:
        key = ("constant", value.dtype.str, value.shape, value.tobytes())
        if key not in self._known:
            name = f"c{len(self._known)}"
            self.initializers.append(numpy_helper.from_array(value, name))
            self._known[key] = name
        return self._known[key]

    def integers(self, *values: int) -> str:
        return self.constant(np.asarray(values, dtype=np.int64))

    def operand(self, value: object) -> str:
        """Name of a value, a constant tensor or a number (float32: the only arithmetic there is in a feature)."""
        if isinstance(value, Ref):
            return self.values[value]
        if isinstance(value, Tensor):
            array = value.numpy()
            return self.constant(array.astype(np.float32) if array.dtype == np.float64 else array)
        if isinstance(value, (bool, int, float)):
            return self.constant(np.asarray(value, dtype=np.float32))
        raise ExportError(f"{value!r} is no operand")


Converter = Callable[[_Writer, Operation], str | list[str]]


def write_onnx(
    traced: Trace,
    *,
    source: tuple[str, Sequence[str | int]],
    outputs: Mapping[str, Sequence[str | int]],
    opset: int,
    ir_version: int,
) -> onnx.ModelProto:
    """The ONNX model of a trace; float32 in, float32 out.

    Parameters
    ----------
    traced
        What to write.
    source
        Name and shape of the input.
    outputs
        Names and shapes of the outputs, in the order of the trace.
    opset, ir_version
        Of the model.

    Raises
    ------
    ExportError
        If an operation has no converter here.
    """
    writer = _Writer(source[0])
    for operation in traced.operations:
        results = _convert(writer, operation)
        for part, name in enumerate([results] if isinstance(results, str) else results):
            writer.values[Ref(operation.result, part)] = name
    for name, ref in zip(outputs, traced.outputs, strict=True):
        writer.nodes.append(helper.make_node("Identity", [writer.values[ref]], [name]))
    graph = helper.make_graph(
        _needed(writer.nodes, set(outputs)),
        "features",
        [helper.make_tensor_value_info(source[0], TensorProto.FLOAT, list(source[1]))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
        writer.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def _needed(nodes: Sequence[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that an output depends on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _convert(writer: _Writer, operation: Operation) -> str | list[str]:
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
        raise ExportError(f"{operation.name} has no ONNX converter: build the feature from others, or add one")
    return _CONVERTERS[kind](writer, operation)


def _argument(operation: Operation, place: int, default: Any = None) -> Any:
    return operation.args[place] if len(operation.args) > place else default


def _slice(writer: _Writer, operation: Operation) -> str:
    axis, start = _argument(operation, 1, 0), _argument(operation, 2) or 0
    stop, step = _argument(operation, 3), _argument(operation, 4, 1)
    numbers = (start, _WHOLE_AXIS if stop is None else stop, axis % operation.rank, step)
    return writer.emit("Slice", [writer.operand(operation.args[0]), *map(writer.integers, numbers)])


def _select(writer: _Writer, operation: Operation) -> str:
    value, axis, index = operation.args
    position = writer.constant(np.asarray(index, dtype=np.int64))
    return writer.emit("Gather", [writer.operand(value), position], axis=axis % (operation.rank + 1))


def _unbind(writer: _Writer, operation: Operation) -> list[str]:
    axis = _argument(operation, 1, 0) % (operation.rank + 1)
    value, indices = writer.operand(operation.args[0]), range(operation.parts)
    return [writer.emit("Gather", [value, writer.constant(np.asarray(i, dtype=np.int64))], axis=axis) for i in indices]


def _cat(writer: _Writer, operation: Operation) -> str:
    axis = _argument(operation, 1, 0) % operation.rank
    return writer.emit("Concat", [writer.operand(value) for value in operation.args[0]], axis=axis)


def _stack(writer: _Writer, operation: Operation) -> str:
    axis = _argument(operation, 1, 0) % operation.rank
    rows = [writer.emit("Unsqueeze", [writer.operand(row), writer.integers(axis)]) for row in operation.args[0]]
    return writer.emit("Concat", rows, axis=axis)


def _unsqueeze(writer: _Writer, operation: Operation) -> str:
    value, axis = operation.args
    return writer.emit("Unsqueeze", [writer.operand(value), writer.integers(axis % operation.rank)])


def _expand(writer: _Writer, operation: Operation) -> str:
    # One in ONNX's shape keeps the axis as it is, which leaves the batch open.
    sizes = [1 if size is BATCH or size == -1 else size for size in operation.args[1]]
    return writer.emit("Expand", [writer.operand(operation.args[0]), writer.integers(*sizes)])


def _transpose(writer: _Writer, operation: Operation) -> str:
    order = list(range(operation.rank))
    one, other = (axis % operation.rank for axis in operation.args[1:3])
    order[one], order[other] = other, one
    return writer.emit("Transpose", [writer.operand(operation.args[0])], perm=tuple(order))


def _permute(writer: _Writer, operation: Operation) -> str:
    order = tuple(axis % operation.rank for axis in operation.args[1])
    return writer.emit("Transpose", [writer.operand(operation.args[0])], perm=order)


def _view(writer: _Writer, operation: Operation) -> str:
    sizes = [-1 if size is BATCH else size for size in operation.args[1]]
    if sizes.count(-1) > 1:
        raise ExportError(f"{operation.name} to {operation.args[1]} leaves more than one size open")
    return writer.emit("Reshape", [writer.operand(operation.args[0]), writer.integers(*sizes)])


def _pad(mode: str) -> Converter:
    def convert(writer: _Writer, operation: Operation) -> str:
        # torch counts from the last axis: (before, after, before, after ...).
        pairs = list(zip(operation.args[1][::2], operation.args[1][1::2], strict=True))[::-1]
        pairs = [(0, 0)] * (operation.rank - len(pairs)) + pairs
        sizes = writer.integers(*(before for before, _ in pairs), *(after for _, after in pairs))
        fill = [writer.operand(_argument(operation, 2, 0.0))] if mode == "constant" else []
        return writer.emit("Pad", [writer.operand(operation.args[0]), sizes, *fill], mode=mode)

    return convert


def _reduction(kind: str) -> Converter:
    def convert(writer: _Writer, operation: Operation) -> str:
        axes, keep = _argument(operation, 1, ()), bool(_argument(operation, 2, False))
        rank = operation.rank if keep else operation.rank + len(axes)
        if not axes or operation.kwargs:
            raise ExportError(
                f"{operation.name} over {axes} with {dict(operation.kwargs)}: name the axes, and them only"
            )
        places = writer.integers(*(axis % rank for axis in axes))
        return writer.emit(kind, [writer.operand(operation.args[0]), places], keepdims=int(keep))

    return convert


def _clamp(writer: _Writer, operation: Operation) -> str:
    bounds = [operation.kwargs.get(name, _argument(operation, place)) for place, name in ((1, "min"), (2, "max"))]
    names = ["" if bound is None else writer.operand(bound) for bound in bounds]
    return writer.emit("Clip", [writer.operand(operation.args[0]), *(names if names[1] else names[:1])])


def _where(writer: _Writer, operation: Operation) -> str:
    return writer.emit("Where", [writer.operand(value) for value in operation.args])


def _filled(number: float) -> Converter:
    def convert(writer: _Writer, operation: Operation) -> str:
        shape = writer.emit("Shape", [writer.operand(operation.args[0])])
        return writer.emit("Expand", [writer.operand(number), shape])

    return convert


def _not_equal(writer: _Writer, operation: Operation) -> str:
    return writer.emit("Not", [writer.emit("Equal", [writer.operand(value) for value in operation.args])])


def _reversed_subtraction(writer: _Writer, operation: Operation) -> str:
    value, other = operation.args[:2]
    return writer.emit("Sub", [writer.operand(other), writer.operand(value)])


def _to_float(writer: _Writer, operation: Operation) -> str:
    if str(operation.kwargs.get("dtype")) != "torch.float32":
        raise ExportError(f"{operation.name} to {operation.kwargs.get('dtype')}: features are float32")
    return writer.emit("Cast", [writer.operand(operation.args[0])], to=TensorProto.FLOAT)


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
}
