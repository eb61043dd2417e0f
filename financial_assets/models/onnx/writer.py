"""A traced module as a compact ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import onnx
from onnx import TensorProto, helper

from financial_assets.models.onnx.builder import ML_DOMAIN, GraphBuilder
from financial_assets.models.onnx.operators import convert
from financial_assets.models.onnx.tracing import Operation, Ref, Trace

FEATURES = "features"
"""Name of what a network reads, for those who look into a file."""

_ML_OPSET = 3
"""The first with trees of float64, and the last whose tree operators are not deprecated."""


def write_onnx(
    traced: Trace,
    *,
    source: tuple[str, Sequence[str | int]],
    outputs: Mapping[str, Sequence[str | int]],
    opset: int,
    before: Callable[[GraphBuilder, str], str] | None = None,
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
    opset
        Version of the operators; the file has the oldest format that knows it, for the sake of older runtimes.
    before
        Writes what turns the model's input into that of the trace, and gives its name, which the file has as
        ``FEATURES``; default: they are the same.

    Raises
    ------
    ExportError
        If an operation has no converter here.
    """
    builder = GraphBuilder(source[0])
    names: dict[str, str] = {}
    if before is not None:
        builder.values[Ref(0)] = before(builder, source[0])
        names = {builder.values[Ref(0)]: FEATURES}
    for operation in _live(traced):
        results = convert(builder, operation)
        for part, name in enumerate([results] if isinstance(results, str) else results):
            builder.values[Ref(operation.result, part)] = name
    computed = {name for node in builder.nodes for name in node.output}
    for name, ref in zip(outputs, traced.outputs, strict=True):
        value = builder.values[ref]
        if value in computed and value not in names:
            names[value] = name
        else:  # the input as it is, or two outputs that are one
            builder.nodes.append(helper.make_node("Identity", [value], [name]))
    nodes = _needed(builder.nodes, {*outputs, *(value for value, name in names.items() if name in outputs)})
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "predictor",
        [helper.make_tensor_value_info(source[0], TensorProto.FLOAT, list(source[1]))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
        [constant for constant in builder.initializers if constant.name in used],
    )
    operators = [helper.make_opsetid("", opset)]
    if any(node.domain == ML_DOMAIN for node in nodes):
        operators.append(helper.make_opsetid(ML_DOMAIN, _ML_OPSET))
    return helper.make_model(
        graph,
        opset_imports=operators,
        ir_version=helper.find_min_ir_version_for(operators),
        producer_name="financial-assets",
    )


def _live(traced: Trace) -> list[Operation]:
    """The operations that an output depends on: others need no converter."""
    wanted, kept = {ref.number for ref in traced.outputs}, list[Operation]()
    for operation in reversed(traced.operations):
        if operation.result in wanted:
            wanted.update(_numbers((operation.args, *operation.kwargs.values())))
            kept.append(operation)
    return kept[::-1]


def _numbers(value: object) -> Iterator[int]:
    if isinstance(value, Ref):
        yield value.number
    elif isinstance(value, tuple):
        for part in cast("tuple[object, ...]", value):
            yield from _numbers(part)


def _needed(nodes: Sequence[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that an output depends on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
