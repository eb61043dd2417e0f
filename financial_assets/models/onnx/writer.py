"""A traced module as a compact ONNX model: equal values are computed once, equal constants stored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from financial_assets.errors import ExportError
from financial_assets.models.onnx.operators import convert
from financial_assets.models.onnx.tracing import Ref, Trace

__all__ = ["write_onnx"]


class _Writer:
    """Builds the graph; ``emit`` and ``constant`` return the name of an existing equal value where there is one."""

    def __init__(self, source: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.values: dict[Ref, str] = {Ref(0): source}
        self._results: dict[tuple[object, ...], list[str]] = {}
        self._constants: dict[tuple[object, ...], str] = {}

    def emit(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self.emit_parts(kind, inputs, 1, **attributes)[0]

    def emit_parts(self, kind: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        key = (kind, *inputs, *sorted(attributes.items()))
        if key not in self._results:
            names = [f"v{len(self._results)}"] if count == 1 else [f"v{len(self._results)}.{i}" for i in range(count)]
            self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
            self._results[key] = names
        return self._results[key]

    def constant(self, value: np.ndarray) -> str:
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = f"c{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(value, self._constants[key]))
        return self._constants[key]

    def integers(self, *values: int) -> str:
        return self.constant(np.asarray(values, dtype=np.int64))

    def operand(self, value: object) -> str:
        """Name of a value, a constant tensor or a number (float32: the only arithmetic there is in a model)."""
        if isinstance(value, Ref):
            return self.values[value]
        if isinstance(value, Tensor):
            array = value.numpy()
            return self.constant(array.astype(np.float32) if array.dtype == np.float64 else array)
        if isinstance(value, (bool, int, float)):
            return self.constant(np.asarray(value, dtype=np.float32))
        raise ExportError(f"{value!r} is not an operand")


def write_onnx(
    traced: Trace,
    *,
    source: tuple[str, Sequence[str | int]],
    outputs: Mapping[str, Sequence[str | int]],
    opset: int,
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

    Raises
    ------
    ExportError
        If an operation has no converter here.
    """
    writer = _Writer(source[0])
    for operation in traced.operations:
        results = convert(writer, operation)
        for part, name in enumerate([results] if isinstance(results, str) else results):
            writer.values[Ref(operation.result, part)] = name
    for name, ref in zip(outputs, traced.outputs, strict=True):
        writer.nodes.append(helper.make_node("Identity", [writer.values[ref]], [name]))
    nodes = _needed(writer.nodes, set(outputs))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "predictor",
        [helper.make_tensor_value_info(source[0], TensorProto.FLOAT, list(source[1]))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
        [constant for constant in writer.initializers if constant.name in used],
    )
    operators = [helper.make_opsetid("", opset)]
    return helper.make_model(
        graph,
        opset_imports=operators,
        ir_version=helper.find_min_ir_version_for(operators),
        producer_name="financial-assets",
    )


def _needed(nodes: Sequence[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that an output depends on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
