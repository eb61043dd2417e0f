"""How each aten operation is written in ONNX.

Only what features and networks need, and only where the two agree to the last bit or nearly so; anything else is
refused by name.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from financial_assets.errors import ExportError
from financial_assets.models.onnx.builder import GraphBuilder
from financial_assets.models.onnx.layers import LAYERS, Converter
from financial_assets.models.onnx.shapes import SHAPES
from financial_assets.models.onnx.tracing import Operation, argument

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


def _masked_fill(builder: GraphBuilder, operation: Operation) -> str:
    value, mask, filling = map(builder.operand, operation.args)
    return builder.emit("Where", [mask, filling, value])


def _cumulative_sum(builder: GraphBuilder, operation: Operation) -> str:
    if operation.kwargs:
        raise ExportError(f"{operation.name} with {dict(operation.kwargs)}: values are float32")
    axis = np.asarray(operation.args[1] % operation.rank, dtype=np.int64)
    return builder.emit("CumSum", [builder.operand(operation.args[0]), builder.constant(axis)])


def _reduction(kind: str) -> Converter:
    def write(builder: GraphBuilder, operation: Operation) -> str:
        axes, keep = argument(operation, 1, ()), bool(argument(operation, 2, False))
        rank = operation.rank if keep else operation.rank + len(axes)
        if not axes or operation.kwargs:
            raise ExportError(
                f"{operation.name} over {axes} with {dict(operation.kwargs)}: name the axes, and them only"
            )
        places = builder.integers(*(axis % rank for axis in axes))
        return builder.emit(kind, [builder.operand(operation.args[0]), places], keepdims=int(keep))

    return write


def _clamp(builder: GraphBuilder, operation: Operation) -> str:
    bounds = [operation.kwargs.get(name, argument(operation, place)) for place, name in ((1, "min"), (2, "max"))]
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
    values, axis = builder.operand(operation.args[0]), argument(operation, 1, -1) % operation.rank
    size = builder.emit("Shape", [values], start=axis, end=axis + 1)
    return builder.emit_parts("TopK", [values, size], 2, axis=axis, largest=int(argument(operation, 2, False)))


_CONVERTERS: dict[str, Converter] = {
    "masked_fill": _masked_fill,
    "cumsum": _cumulative_sum,
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
    **SHAPES,
    **LAYERS,
}
