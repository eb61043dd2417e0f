"""A torch module as the list of aten operations that it runs, with the batch axis left open.

Made for a predictor: thousands of slices and additions in the features, a small network behind them, and no control
flow that depends on data. Running it once and noting each operation gives the whole program. It is run for two batch
sizes: whatever differs between the two lists must be the batch size itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from financial_assets.errors import ExportError

_BATCH_SIZES = (2, 3)


class _Batch:
    """Stands for the batch size among the arguments of an operation."""

    def __repr__(self) -> str:
        return "BATCH"


BATCH = _Batch()


@dataclass(frozen=True)
class Ref:
    """A value of the trace: the input (0) or the result of an operation; ``part`` of it if that is a list."""

    number: int
    part: int = 0


@dataclass(frozen=True)
class Operation:
    """One aten operation: arguments are ``Ref``, constant tensors, numbers, ``BATCH`` and tuples of these.

    ``result`` numbers its value, which has ``parts`` tensors, the first of them with ``rank`` axes.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: int
    parts: int
    rank: int


@dataclass(frozen=True)
class Trace:
    """Operations in the order they ran, and the values that the module returned."""

    operations: tuple[Operation, ...]
    outputs: tuple[Ref, ...]


def trace(module: nn.Module, example: Callable[[int], Tensor]) -> Trace:
    """Record ``module``.

    Parameters
    ----------
    module
        Maps one tensor with a leading batch axis to a tuple of tensors; in evaluation mode.
    example
        Makes an input for a batch size.

    Raises
    ------
    ExportError
        If the operations depend on the batch size in any other way than by sizes equal to it.
    """
    first, second = (_record(module, example(size)) for size in _BATCH_SIZES)
    if len(first.operations) != len(second.operations) or first.outputs != second.outputs:
        raise ExportError("the module runs other operations for another batch size: it cannot be exported")
    merged = [_merge_operations(a, b) for a, b in zip(first.operations, second.operations, strict=True)]
    return Trace(tuple(merged), first.outputs)


class _Recorder(TorchDispatchMode):
    """Notes every operation with an argument that depends on the input."""

    def __init__(self, source: Tensor) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.refs: dict[int, Ref] = {id(source): Ref(0)}
        # Keeps every tensor alive: the identity of a freed one could be given to another.
        self.alive: list[Tensor] = [source]
        self.within_layer = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self.within_layer and self.depends((args, kwargs)):
            self.note(str(func), args, kwargs, result)
        return result

    def note(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Add an operation that has run."""
        parts = list(result) if isinstance(result, (list, tuple)) else [result]
        if not all(isinstance(part, Tensor) for part in parts):
            raise ExportError(f"{name} turns data into a Python value: what depends on it cannot be exported")
        number = len(self.operations) + 1
        symbols = tuple(self._symbolic(arg) for arg in args)
        named = {key: self._symbolic(value) for key, value in kwargs.items()}
        self.operations.append(Operation(name, symbols, named, number, len(parts), parts[0].dim()))
        for part, tensor in enumerate(parts):
            self.refs[id(tensor)] = Ref(number, part)
            self.alive.append(tensor)

    def depends(self, value: object) -> bool:
        """Whether a value, or one within it, was computed from the input."""
        if isinstance(value, Tensor):
            return id(value) in self.refs
        if isinstance(value, Mapping):
            return any(map(self.depends, value.values()))
        return isinstance(value, (list, tuple)) and any(map(self.depends, value))

    def _symbolic(self, value: object) -> object:
        if isinstance(value, Tensor):
            return self.refs[id(value)] if id(value) in self.refs else value.detach().clone()
        if isinstance(value, (list, tuple)):
            return tuple(map(self._symbolic, value))
        return value


class _LstmRecorder(TorchFunctionMode):
    """Notes an LSTM layer as one operation, as ONNX has it: the kernels that it runs on differ between machines."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") != "lstm":
            return func(*args, **(kwargs or {}))
        self.recorder.within_layer = True
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            self.recorder.within_layer = False
        inputs, state, weights, has_bias, _, _, _, bidirectional, batch_first = args
        if self.recorder.depends(state) or any(bool(part.any()) for part in state):
            raise ExportError("an LSTM that starts from another state than zeros cannot be exported")
        if bidirectional or not has_bias or any(size != 4 * state[0].shape[2] for size in map(len, weights)):
            raise ExportError("an LSTM that is bidirectional, without bias or with projections cannot be exported")
        self.recorder.note("lstm", (inputs, tuple(weights), batch_first), {}, result)
        return result


def _record(module: nn.Module, example: Tensor) -> Trace:
    recorder = _Recorder(example)
    with torch.no_grad(), _LstmRecorder(recorder), recorder:
        outputs = module(example)
    return Trace(tuple(recorder.operations), tuple(recorder.refs[id(output)] for output in outputs))


def _merge_operations(a: Operation, b: Operation) -> Operation:
    signatures = [(part.name, part.result, part.parts, part.rank, set(part.kwargs)) for part in (a, b)]
    if signatures[0] != signatures[1]:
        raise ExportError(f"{a.name} becomes {b.name} for another batch size: the module cannot be exported")
    args = _merge(a.args, b.args, a.name)
    kwargs = {key: _merge(value, b.kwargs[key], a.name) for key, value in a.kwargs.items()}
    return replace(a, args=args, kwargs=kwargs)


def _merge(a: Any, b: Any, name: str) -> Any:
    if isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b):
        return a
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return tuple(_merge(x, y, name) for x, y in zip(a, b, strict=True))
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        if a == b:
            return a
        # Two runs with batches of 2 and 3: a number that follows them is the batch size itself.
        if (a, b) == _BATCH_SIZES:
            return BATCH
    raise ExportError(f"an argument of {name} depends on the batch size in a way that cannot be exported")
