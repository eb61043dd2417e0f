"""An ONNX graph under construction: equal values are computed once, equal constants stored once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from financial_assets.errors import ExportError
from financial_assets.models.onnx.tracing import Ref

ML_DOMAIN = "ai.onnx.ml"
"""The standard's operators for classical machine learning, which every build of onnxruntime has."""


class GraphBuilder:
    """Nodes and constants of a graph; each method returns the name of a value, of an equal one where there is one."""

    def __init__(self, source: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.values: dict[Ref, str] = {Ref(0): source}
        self._results: dict[tuple[object, ...], list[str]] = {}
        self._constants: dict[tuple[object, ...], str] = {}

    def emit(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """The only result of a node."""
        return self.emit_parts(kind, inputs, 1, **attributes)[0]

    def emit_parts(self, kind: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """The ``count`` results of a node."""
        plain = {
            name: value.SerializeToString() if isinstance(value, TensorProto) else value
            for name, value in attributes.items()
        }
        key = (kind, *inputs, *sorted(plain.items()))
        if key not in self._results:
            names = [f"v{len(self._results)}"] if count == 1 else [f"v{len(self._results)}.{i}" for i in range(count)]
            self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
            self._results[key] = names
        return self._results[key]

    def constant(self, value: np.ndarray) -> str:
        """A constant."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = f"c{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(value, self._constants[key]))
        return self._constants[key]

    def integers(self, *values: object) -> str:
        """A constant list of integers.

        Raises
        ------
        ExportError
            If one is not an integer but the batch size, which differs between requests.
        """
        if not all(isinstance(value, (int, np.integer)) for value in values):
            raise ExportError(f"{values} depends on the batch size in a way that cannot be exported")
        return self.constant(np.asarray(values, dtype=np.int64))

    def operand(self, value: object) -> str:
        """Name of a value, a constant tensor or a number (float32: the only arithmetic there is in a model)."""
        if isinstance(value, Ref):
            if value not in self.values:
                raise ExportError(f"result {value.part} of operation {value.number} has no ONNX form: do not use it")
            return self.values[value]
        if isinstance(value, Tensor):
            array = value.numpy()
            return self.constant(array.astype(np.float32) if array.dtype == np.float64 else array)
        if isinstance(value, (bool, int, float)):
            return self.constant(np.asarray(value, dtype=np.float32))
        raise ExportError(f"{value!r} is not an operand")
