"""Steps on slots as ONNX nodes: one gathering per operand, and the operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from onnx import TensorProto

from financial_assets.models.onnx.builder import GraphBuilder
from financial_assets.models.onnx.lowering.program import Operand, Program, Slots, Step


def write_program(builder: GraphBuilder, program: Program, source: str, wanted: Slots) -> str:
    """Write what ``wanted`` depends on.

    Parameters
    ----------
    builder
        Where to write.
    program
        Steps; afterwards it holds those only that were written.
    source
        Name of the bars: float32 ``[session * channel, batch]``, the oldest session's channels first. The batch comes
        last everywhere, so that slots are gathered as contiguous rows of it.
    wanted
        Slots in the order of the result.

    Returns
    -------
    str
        Name of their values, ``[wanted, batch]``.
    """
    program.prune(wanted)
    values = _Values(builder, program, source)
    for group in program.groups():
        values.add(group)
    return values.gathered(wanted)


class _Values:
    """Where the slots' values are: ``tensors`` hold some each, along their first axis."""

    def __init__(self, builder: GraphBuilder, program: Program, source: str) -> None:
        self.builder = builder
        bars = program.depth * program.channels
        self.tensors, self.sizes = [source], [bars]
        self.tensor_of = np.full(program.count, -1, dtype=np.int64)
        self.place_of = np.arange(program.count, dtype=np.int64)
        self.tensor_of[:bars] = 0

    def add(self, group: Sequence[Step]) -> None:
        """Compute steps of one kind together."""
        name = group[0].kind.name
        written = _WRITERS.get(name, partial(_direct, name))(_Group(self, group))
        for place, tensor in enumerate(written):
            if tensor is None:
                continue
            slots = np.concatenate([step.results[place] for step in group])
            self.tensor_of[slots] = len(self.tensors)
            self.place_of[slots] = np.arange(len(slots))
            self.tensors.append(tensor)
            self.sizes.append(len(slots))

    def gathered(self, slots: Slots) -> str:
        """The values of slots, whatever tensors they are in: ``[*slots.shape, ...]``."""
        sources = np.unique(self.tensor_of[slots])
        starts = np.zeros(len(self.tensors), dtype=np.int64)
        sizes = [self.sizes[source] for source in sources]
        starts[sources] = np.cumsum([0, *sizes[:-1]])
        names = [self.tensors[source] for source in sources]
        tensor = names[0] if len(names) == 1 else self.builder.emit("Concat", names, axis=0)
        places = starts[self.tensor_of[slots]] + self.place_of[slots]
        if np.array_equal(places, np.arange(sum(sizes))):
            return tensor
        return self.builder.emit("Gather", [tensor, self.builder.constant(places.astype(np.int32))], axis=0)


class _Group:
    """Steps of one kind, as their writer sees them."""

    def __init__(self, values: _Values, steps: Sequence[Step]) -> None:
        self.emit = values.builder.emit
        self.constant = values.builder.constant
        self._values = values
        self._steps = steps

    @property
    def operands(self) -> int:
        return len(self._steps[0].operands)

    def is_needed(self, output: int) -> bool:
        """Whether anything needs an output of any of the steps."""
        return any(step.is_needed[output] for step in self._steps)

    def array(self, place: int) -> Operand:
        """One operand of all steps: slots or constants."""
        return np.concatenate([step.operands[place] for step in self._steps])

    def operand(self, place: int) -> str:
        """Name of one operand's values: ``[n, batch]`` or ``[n, window, batch]``."""
        array = self.array(place)
        if array.dtype.kind != "f":
            return self._values.gathered(array)
        if (array == array[:1]).all():
            array = array[:1]
        return self.constant(array[..., None] if array.size > 1 else array.reshape(()))

    def number(self, value: float) -> str:
        """A constant number."""
        return self.constant(np.array(value, dtype=np.float32))

    def reduced(self, kind: str, value: str, *, keepdims: int = 0) -> str:
        """A reduction over the bars of each window."""
        return self.emit(kind, [value, self.constant(np.array([1], dtype=np.int64))], keepdims=keepdims)

    def flat(self, value: str) -> str:
        """``[n, 1, batch]`` as ``[n, batch]``."""
        return self.emit("Squeeze", [value, self.constant(np.array([1], dtype=np.int64))])


def _direct(name: str, group: _Group) -> list[str | None]:
    return [group.emit(name, [group.operand(place) for place in range(group.operands)])]


def _not_equal(group: _Group) -> list[str | None]:
    return [group.emit("Not", [group.emit("Equal", [group.operand(0), group.operand(1)])])]


def _clamp(group: _Group) -> list[str | None]:
    return [group.emit("Min", [group.emit("Max", [group.operand(0), group.operand(1)]), group.operand(2)])]


def _ratio(group: _Group) -> list[str | None]:
    numerator, denominator = group.operand(0), group.operand(1)
    is_defined = group.emit("Greater", [denominator, group.number(0.0)])
    return [group.emit("Div", [numerator, group.emit("Where", [is_defined, denominator, group.number(np.inf)])])]


def _log_ratio(group: _Group) -> list[str | None]:
    logarithm = group.emit("Log", [group.emit("Div", [group.operand(0), group.operand(1)])])
    is_finite = group.emit("Less", [group.emit("Abs", [logarithm]), group.number(np.inf)])
    return [group.emit("Where", [is_finite, logarithm, group.number(0.0)])]


def _centred(group: _Group) -> tuple[str, str, str]:
    """Least bars ``[n, 1, batch]``, the bars less these, and the weighted sum of the latter ``[n, 1, batch]``."""
    bars = group.operand(0)
    least = group.reduced("ReduceMin", bars, keepdims=1)
    above = group.emit("Sub", [bars, least])
    return least, above, group.reduced("ReduceSum", group.emit("Mul", [above, group.operand(1)]), keepdims=1)


def _weighted_average(group: _Group) -> list[str | None]:
    least, _, average = _centred(group)
    return [group.flat(group.emit("Add", [least, average]))]


def _deviations(group: _Group) -> list[str | None]:
    least, above, average = _centred(group)
    deviations = group.emit("Sub", [above, average])
    if not (group.array(2) == 1.0).all():  # the filling deviates, too
        deviations = group.emit("Mul", [deviations, group.operand(2)])
    return [group.flat(group.emit("Add", [least, average])) if group.is_needed(0) else None, deviations]


def _sum_of_products(group: _Group) -> list[str | None]:
    return [group.reduced("ReduceSum", group.emit("Mul", [group.operand(0), group.operand(1)]))]


def _reduction(kind: str, group: _Group) -> list[str | None]:
    return [group.reduced(kind, group.operand(0))]


def _age_of_maximum(group: _Group) -> list[str | None]:
    # Newest bar first, and of equal ones the first is taken: the place is the age.
    age = group.emit("ArgMax", [group.operand(0)], axis=1, keepdims=0)
    return [group.emit("Cast", [age], to=TensorProto.FLOAT)]


def _profile(group: _Group) -> list[str | None]:
    level, middle, width, weight = (group.operand(place) for place in range(4))
    if not (group.array(4) == 1.0).all():
        weight = group.emit("Mul", [weight, group.operand(4)])
    side = group.emit("Div", [group.emit("Sub", [level, middle]), width])
    side = group.emit("Clip", [side, group.number(-1.0), group.number(1.0)])
    return [group.reduced("ReduceSum", group.emit("Mul", [side, weight])), group.reduced("ReduceSum", weight)]


_WRITERS: Mapping[str, Callable[[_Group], list[str | None]]] = {
    "NotEqual": _not_equal,
    "Clamp": _clamp,
    "Ratio": _ratio,
    "LogRatio": _log_ratio,
    "weighted_sum": _sum_of_products,
    "sum_of_products": _sum_of_products,
    "weighted_average": _weighted_average,
    "deviations": _deviations,
    "sum_of_squares": partial(_reduction, "ReduceSumSquare"),
    "sum_of_sizes": partial(_reduction, "ReduceL1"),
    "maximum": partial(_reduction, "ReduceMax"),
    "age_of_maximum": _age_of_maximum,
    "profile": _profile,
}
"""Kinds that are not one ONNX operation of the same name."""
