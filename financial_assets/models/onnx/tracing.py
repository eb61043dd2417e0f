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
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from financial_assets.errors import ExportError

_BATCH_SIZES = (2, 3)

_RESHAPING = frozenset({"aten.view.default", "aten._unsafe_view.default", "aten.expand.default", "aten.squeeze.dim"})
"""Operations that change nothing if the result has the shape of the argument."""

_TO_A_SHAPE = _RESHAPING - {"aten.squeeze.dim"}

TREES = "evaluate_trees"
"""Name of the function that ``trees`` evaluates its ensembles with."""

_GATES = {"lstm": 4, "gru": 3}
"""Matrices that each weight of a recurrent layer stacks."""


@dataclass(frozen=True)
class BatchSize:
    """Stands for the batch size, or a multiple of it, among the arguments of an operation."""

    times: int = 1

    def __repr__(self) -> str:
        return "BATCH" if self.times == 1 else f"{self.times} * BATCH"


BATCH = BatchSize()


@dataclass(frozen=True)
class Ref:
    """A value of the trace: the input (0) or the result of an operation; ``part`` of it if that is a list."""

    number: int
    part: int = 0


@dataclass(frozen=True)
class Operation:
    """One aten operation: arguments are ``Ref``, constant tensors, numbers, ``BatchSize`` and tuples of these.

    ``result`` numbers its value, which has ``parts`` tensors, the first of them with ``rank`` axes.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: int
    parts: int
    rank: int


def argument(operation: Operation, place: int, default: Any = None) -> Any:
    """An argument by its place, or ``default`` where torch left it out."""
    return operation.args[place] if len(operation.args) > place else default


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
        If the operations depend on the batch size in any other way than by sizes that are multiples of it.
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
        name = str(func)
        if self.within_layer or not self.depends((args, kwargs)):
            return result
        if name in _RESHAPING and result.shape == args[0].shape:
            self.refs[id(result)] = self.refs[id(args[0])]
            self.alive.append(result)
            return result
        # The shape that came out has no -1, so that what is open in it is the batch alone.
        self.note(name, (args[0], tuple(result.shape)) if name in _TO_A_SHAPE else args, kwargs, result)
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


class _LayerRecorder(TorchFunctionMode):
    """Notes a layer as one operation, as ONNX has it: a recurrent one, whose kernels differ between machines, or trees.

    While a mode like this is active, torch's attention layers do not take their fused path.
    """

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name not in _GATES and name != TREES:
            return func(*args, **(kwargs or {}))
        self.recorder.within_layer = True
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            self.recorder.within_layer = False
        self.recorder.note(name, args if name == TREES else self._recurrent(name, args), {}, result)
        return result

    def _recurrent(self, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        inputs, state, weights, has_bias, _, _, _, bidirectional, batch_first = args
        if not isinstance(weights, (list, tuple)):
            raise ExportError(f"{name} of packed sequences cannot be exported: all windows have the same length")
        states = (state,) if isinstance(state, Tensor) else state
        if self.recorder.depends(states) or any(bool(part.any()) for part in states):
            raise ExportError(f"{name} that starts from another state than zeros cannot be exported")
        if any(len(weight) != _GATES[name] * states[0].shape[2] for weight in weights):
            raise ExportError(f"{name} with projections cannot be exported")
        return inputs, tuple(weights), batch_first, has_bias, bidirectional


def _record(module: nn.Module, example: Tensor) -> Trace:
    recorder = _Recorder(example)
    # Attention as products and a softmax; which fused kernel would run otherwise depends on the machine.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _LayerRecorder(recorder), recorder:
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
        # Two runs with batches of 2 and 3: a number that follows them is a multiple of the batch size.
        first, second = _BATCH_SIZES
        if isinstance(a, int) and isinstance(b, int) and a > 0 and a % first == 0 and a // first * second == b:
            return BatchSize(a // first)
    raise ExportError(f"an argument of {name} depends on the batch size in a way that cannot be exported")
