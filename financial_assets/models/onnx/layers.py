"""How the layers of a network are written in ONNX: recurrence, convolution, pooling, normalisation, activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor

from financial_assets.errors import ExportError
from financial_assets.models.onnx.builder import GraphBuilder
from financial_assets.models.onnx.tracing import TREES, Operation
from financial_assets.models.onnx.trees import write_trees

Converter = Callable[[GraphBuilder, Operation], str | list[str]]

_LINEAR_FROM = 16.0
"""Where float32 cannot tell ``log(1 + exp(x))`` from ``x`` any more: ``exp(-x)`` is less than half a unit of ``x``."""


def _arguments(operation: Operation, *defaults: Any) -> list[Any]:
    """The arguments after the first, with the defaults of those left out; torch names none that a layer uses."""
    if operation.kwargs:
        raise ExportError(f"{operation.name} with {dict(operation.kwargs)} has no ONNX converter")
    given = list(operation.args[1:])
    return [*given, *defaults[len(given) :]]


@dataclass(frozen=True)
class _Cell:
    """A recurrent operator: the order of its gates, by their places in torch, and what it returns besides steps."""

    kind: str
    gates: Sequence[int]
    states: int
    attributes: Mapping[str, int] = field(default_factory=dict[str, int])


_LSTM = _Cell("LSTM", (0, 3, 1, 2), 2)
"""Input, output, forget, cell; torch stacks them as input, forget, cell, output."""

_GRU = _Cell("GRU", (1, 0, 2), 1, {"linear_before_reset": 1})
"""Update, reset, new; torch stacks reset, update, new, and resets the state after its product with the weights."""


def _recurrent(cell: _Cell) -> Converter:
    def write(builder: GraphBuilder, operation: Operation) -> list[str]:
        inputs, weights, batch_first, has_bias, bidirectional = operation.args
        directions, kinds = 1 + bidirectional, 4 if has_bias else 2
        steps, last = builder.operand(inputs), [list[str]() for _ in range(cell.states)]
        if batch_first:
            steps = builder.emit("Transpose", [steps], perm=(1, 0, 2))
        for start in range(0, len(weights), kinds * directions):
            layer = weights[start : start + kinds * directions]
            stacked = [_by_direction(layer[kind::kinds], cell.gates) for kind in range(kinds)]
            constants = [*stacked[:2], *([np.concatenate(stacked[2:], axis=1)] if has_bias else [])]
            attributes = {"hidden_size": stacked[1].shape[2], **cell.attributes}
            if bidirectional:
                attributes["direction"] = "bidirectional"
            operands = [steps, *map(builder.constant, constants)]
            found, *ends = builder.emit_parts(cell.kind, operands, 1 + cell.states, **attributes)
            steps = _joined_directions(builder, found) if bidirectional else _only_direction(builder, found)
            for states, end in zip(last, ends, strict=True):
                states.append(end)
        if batch_first:
            steps = builder.emit("Transpose", [steps], perm=(1, 0, 2))
        return [steps, *(builder.emit("Concat", states, axis=0) for states in last)]

    return write


def _by_direction(weights: Sequence[Tensor], order: Sequence[int]) -> np.ndarray:
    """A weight of each direction, with its gates in ONNX's order, stacked on the first axis."""
    gates = [weight.numpy().reshape(len(order), -1, *weight.shape[1:]) for weight in weights]
    return np.stack([np.concatenate(each[list(order)]) for each in gates])


def _only_direction(builder: GraphBuilder, steps: str) -> str:
    return builder.emit("Squeeze", [steps, builder.integers(1)])


def _joined_directions(builder: GraphBuilder, steps: str) -> str:
    """``[step, direction, batch, hidden]`` to ``[step, batch, direction * hidden]``."""
    beside = builder.emit("Transpose", [steps], perm=(0, 2, 1, 3))
    return builder.emit("Reshape", [beside, builder.integers(0, 0, -1)])


def _convolution(builder: GraphBuilder, operation: Operation) -> str:
    weight, bias, stride, padding, dilation, transposed, _, groups = _arguments(operation)
    if transposed:
        raise ExportError("a transposed convolution cannot be exported: use another upsampling")
    inputs = [builder.operand(value) for value in (operation.args[0], weight, bias) if value is not None]
    return builder.emit("Conv", inputs, strides=stride, pads=(*padding, *padding), dilations=dilation, group=groups)


def _average_pooling(builder: GraphBuilder, operation: Operation) -> str:
    kernel, stride, padding, ceil, count_padding, divisor = _arguments(operation, (), (), (0, 0), False, True, None)
    if ceil or divisor is not None:
        raise ExportError("average pooling with ceil_mode or divisor_override cannot be exported: pad the input")
    return builder.emit(
        "AveragePool",
        [builder.operand(operation.args[0])],
        kernel_shape=kernel,
        strides=stride or kernel,
        pads=(*padding, *padding),
        count_include_pad=int(count_padding),
    )


def _max_pooling(builder: GraphBuilder, operation: Operation) -> list[str]:
    kernel, stride, padding, dilation, ceil = _arguments(operation, (), (), (0, 0), (1, 1), False)
    if ceil:
        raise ExportError("maximum pooling with ceil_mode cannot be exported: pad the input")
    # Where the maximum was found is not written.
    return [
        builder.emit(
            "MaxPool",
            [builder.operand(operation.args[0])],
            kernel_shape=kernel,
            strides=stride or kernel,
            pads=(*padding, *padding),
            dilations=dilation,
        )
    ]


def _adaptive_max_pooling(builder: GraphBuilder, operation: Operation) -> list[str]:
    if any(size != 1 for size in operation.args[1]):
        raise ExportError("adaptive pooling to more than one value cannot be exported: give a kernel size")
    return [builder.emit("ReduceMax", [builder.operand(operation.args[0]), builder.integers(-2, -1)], keepdims=1)]


def _layer_normalisation(builder: GraphBuilder, operation: Operation) -> list[str]:
    shape, weight, bias, epsilon = _arguments(operation)
    scale = builder.constant(np.ones(shape, dtype=np.float32)) if weight is None else builder.operand(weight)
    operands = [builder.operand(operation.args[0]), scale, *([] if bias is None else [builder.operand(bias)])]
    return [builder.emit("LayerNormalization", operands, axis=-len(shape), epsilon=epsilon)]


def _batch_normalisation(builder: GraphBuilder, operation: Operation) -> list[str]:
    weight, bias, mean, variance, training, _, epsilon = _arguments(operation)
    if training or mean is None or weight is None:
        raise ExportError("batch normalisation is exported in evaluation mode only, with kept statistics and weights")
    operands = [builder.operand(value) for value in (operation.args[0], weight, bias, mean, variance)]
    return [builder.emit("BatchNormalization", operands, epsilon=epsilon)]


def _softmax(kind: str) -> Converter:
    def write(builder: GraphBuilder, operation: Operation) -> str:
        axis = _arguments(operation, -1)[0] % operation.rank
        return builder.emit(kind, [builder.operand(operation.args[0])], axis=axis)

    return write


def _safe_softmax(builder: GraphBuilder, operation: Operation) -> str:
    """The softmax of ``scaled_dot_product_attention``: zeros where a mask leaves nothing."""
    axis, value = operation.args[1] % operation.rank, builder.operand(operation.args[0])
    largest = builder.emit("ReduceMax", [value, builder.integers(axis)], keepdims=1)
    nothing = builder.emit("Equal", [largest, builder.operand(float("-inf"))])
    shares = builder.emit("Softmax", [value], axis=axis)
    return builder.emit("Where", [nothing, builder.operand(0.0), shares])


def _biased_product(builder: GraphBuilder, operation: Operation) -> str:
    bias, first, second = _inputs_only(builder, operation)
    return builder.emit("Add", [builder.emit("MatMul", [first, second]), bias])


def _inputs_only(builder: GraphBuilder, operation: Operation) -> list[str]:
    if operation.kwargs or len(operation.args) != 3:
        raise ExportError(f"{operation.name} with factors rounds differently: write the product out")
    return [builder.operand(value) for value in operation.args]


def _gelu(builder: GraphBuilder, operation: Operation) -> str:
    approximate = str(operation.kwargs.get("approximate", "none"))
    return builder.emit("Gelu", [builder.operand(operation.args[0])], approximate=approximate)


def _silu(builder: GraphBuilder, operation: Operation) -> str:
    value = builder.operand(operation.args[0])
    return builder.emit("Mul", [value, builder.emit("Sigmoid", [value])])


def _gated(builder: GraphBuilder, operation: Operation) -> str:
    axis = _arguments(operation, -1)[0] % operation.rank
    value, gate = builder.emit_parts("Split", [builder.operand(operation.args[0])], 2, axis=axis, num_outputs=2)
    return builder.emit("Mul", [value, builder.emit("Sigmoid", [gate])])


def _softplus(builder: GraphBuilder, operation: Operation) -> str:
    beta, threshold = _arguments(operation, 1, 20)
    if threshold < _LINEAR_FROM:
        raise ExportError(f"softplus with a threshold of {threshold} cannot be exported: at least {_LINEAR_FROM:g}")
    value = builder.operand(operation.args[0])
    if beta == 1:
        return builder.emit("Softplus", [value])
    scaled = builder.emit("Softplus", [builder.emit("Mul", [value, builder.operand(beta)])])
    return builder.emit("Div", [scaled, builder.operand(beta)])


def _leaky(builder: GraphBuilder, operation: Operation) -> str:
    return builder.emit("LeakyRelu", [builder.operand(operation.args[0])], alpha=float(_arguments(operation, 0.01)[0]))


def _exponential_linear(builder: GraphBuilder, operation: Operation) -> str:
    alpha, scale, input_scale = _arguments(operation, 1.0, 1, 1)
    if (scale, input_scale) != (1, 1):
        raise ExportError("elu with scales (selu, celu) cannot be exported: write the product out")
    return builder.emit("Elu", [builder.operand(operation.args[0])], alpha=float(alpha))


LAYERS: Mapping[str, Converter] = MappingProxyType(
    {
        "lstm": _recurrent(_LSTM),
        "gru": _recurrent(_GRU),
        TREES: write_trees,
        "convolution": _convolution,
        "avg_pool2d": _average_pooling,
        "max_pool2d_with_indices": _max_pooling,
        "adaptive_max_pool2d": _adaptive_max_pooling,
        "native_layer_norm": _layer_normalisation,
        "native_batch_norm": _batch_normalisation,
        "_softmax": _softmax("Softmax"),
        "_log_softmax": _softmax("LogSoftmax"),
        "_safe_softmax": _safe_softmax,
        "baddbmm": _biased_product,
        "gelu": _gelu,
        "silu": _silu,
        "glu": _gated,
        "softplus": _softplus,
        "leaky_relu": _leaky,
        "elu": _exponential_linear,
    }
)
"""Converters by the names of torch's operations and of the layers that a trace has as one."""
