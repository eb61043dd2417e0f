"""Tasks as ONNX nodes: one gathering of rows per operand, and the operation.

Values are ``[row, batch, session]``. Sessions come last, because onnxruntime is ten times slower with a number or a
column on tensors whose last axis is 1, as it would be for a single request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from onnx import TensorProto

from financial_assets.models.onnx.builder import GraphBuilder
from financial_assets.models.onnx.lowering.expansion import Expansion
from financial_assets.models.onnx.lowering.program import Form, Program
from financial_assets.models.onnx.lowering.rows import Rows
from financial_assets.models.onnx.lowering.schedule import grouped, needed_tasks, rows_of
from financial_assets.models.onnx.lowering.tasks import Task

EXTRA_SESSIONS = (0, 63, 127)
"""Series are computed for the answer's sessions and one of these before them, so that more of them share a node."""

_SHARED = 6
"""From so many rows on, a matrix gets a product of its own."""
_SCATTERED = 2
"""Rows in more tensors than these are brought together before their sessions are taken."""
_END = np.iinfo(np.int64).max


def write_program(
    builder: GraphBuilder,
    program: Program,
    source: str,
    wanted: Sequence[Form],
    sessions: int,
    given: Mapping[int, tuple[str, int, int]] | None = None,
) -> str:
    """Write what ``wanted`` depends on.

    Parameters
    ----------
    builder
        Where to write.
    program
        What to write.
    source
        Name of the bars: float32 ``[channel, batch, session]``, ``program.depth`` sessions, oldest first.
    wanted
        Values in the order of the result.
    sessions
        How many of the last sessions are wanted.
    given
        Series that are there: name of a tensor ``[row, batch, session]``, the row, and how many rows there are.

    Returns
    -------
    str
        Name of their values, ``[wanted, batch, session]``.
    """
    expansion = Expansion(program, [form.unit for form in wanted], sessions, EXTRA_SESSIONS)
    values = Rows(builder, program.channels, source, expansion.flags)
    for series, (tensor, place, size) in (given or {}).items():
        values.store({expansion.row_of(series): place}, tensor, size)
    for group in grouped(needed_tasks(expansion.tasks, expansion.wanted)):
        _compute(values, group)
    factors = np.array([form.factor for form in wanted], dtype=np.float32).reshape(-1, 1, 1)
    return builder.emit("Mul", [values.rows(expansion.wanted), builder.constant(factors)])


def _compute(values: Rows, group: Sequence[Task]) -> None:
    """Write tasks of one kind together."""
    name = group[0].kind.name
    if name == "take":
        _take(values, group)
        return
    # In the order of what they take, so that fewer rows need gathering.
    group = sorted(group, key=lambda task: [values.at[row] for row in rows_of(task)])
    if name == "product":
        _product(values, group)
        return
    arranged = _Group(values, group)
    tensor = _WRITERS.get(name, partial(_direct, name))(arranged)
    values.store(arranged.places, tensor, arranged.size)


class _Group:
    """Tasks of one kind, as their writer sees them."""

    def __init__(self, values: Rows, tasks: Sequence[Task]) -> None:
        self.values = values
        self.emit = values.emit
        self.kind = tasks[0].kind
        self._tasks = tasks
        self.size = len(tasks)
        self.places = {task.result: place for place, task in enumerate(tasks)}

    def operands(self) -> list[str]:
        """Names of the operands' values ``[n, batch, session]``, or of numbers."""
        columns = list(zip(*(task.operands for task in self._tasks), strict=True))
        numbers = {place: column for place, column in enumerate(columns) if self.kind.is_constant[place]}
        rows = {place: [int(row) for row in column] for place, column in enumerate(columns) if place not in numbers}
        gathered = self._alone(*rows.values()) if len(rows) == 1 else self.values.operands(list(rows.values()))
        names = dict(zip(rows, gathered, strict=True)) | {
            place: self._numbers(column) for place, column in numbers.items()
        }
        return [names[place] for place in range(len(columns))]

    def _alone(self, rows: list[int]) -> list[str]:
        """The only operand that is not a number: once if it is the same row, and rather with others than gathered."""
        if len(set(rows)) == 1:
            return [self.values.rows(rows[:1])]
        if len(set(rows)) < len(rows):
            return [self.values.rows(rows)]
        tensor, self.size, places = self.values.covering(rows)
        self.places = dict(zip(self.places, places, strict=True))
        return [tensor]

    def parts(self) -> list[str]:
        """The operands of a single task, parts of one tensor; nothing if it has but two, or more tasks."""
        rows = [int(row) for task in self._tasks for row in task.operands]
        if len(self._tasks) > 1 or len(rows) < 3:
            return []
        return self.values.builder.emit_parts(
            "Split", [self.values.rows(rows)], len(rows), axis=0, num_outputs=len(rows)
        )

    def operand(self, place: int) -> str:
        """Name of one operand's values."""
        return self.operands()[place]

    def _numbers(self, values: Sequence[float]) -> str:
        if len(set(values)) == 1:
            return self.number(values[0])
        column = np.full((self.size, 1, 1), values[0], dtype=np.float32)
        column[list(self.places.values()), 0, 0] = values
        return self.values.constant(column)

    def number(self, value: float) -> str:
        """A constant number."""
        return self.values.constant(np.array(value, dtype=np.float32))


def _take(values: Rows, group: Sequence[Task]) -> None:
    """Some of the sessions of rows: a part of each tensor that they are in."""
    kind = group[0].kind
    assert isinstance(kind.detail, tuple)
    lag, length, _ = kind.detail
    by_tensor: dict[int, list[Task]] = defaultdict(list)
    for task in group:
        by_tensor[values.at[int(task.operands[0])][0]].append(task)
    sessions = (2, length - lag - kind.length, length - lag, 1)
    if len(by_tensor) > _SCATTERED:
        tensor, size, places = values.covering([int(task.operands[0]) for task in group])
        rows = {task.result: place for task, place in zip(group, places, strict=True)}
        values.store(rows, values.part(tensor, sessions), size)
        return
    for source, tasks in by_tensor.items():
        places = {task.result: values.at[int(task.operands[0])][1] for task in tasks}
        first, last = min(places.values()), max(places.values())
        ranges = [sessions] if (first, last) == (0, values.sizes[source] - 1) else [(0, first, last + 1, 1), sessions]
        name = values.part(values.tensors[source], *ranges)
        values.store({row: place - first for row, place in places.items()}, name, last - first + 1)


def _product(values: Rows, group: Sequence[Task]) -> None:
    """Rows times constant matrices: one product per matrix of many rows, one for all others."""
    by_matrix: dict[bytes, list[Task]] = defaultdict(list)
    for task in group:
        assert task.matrix is not None
        by_matrix[task.matrix.tobytes()].append(task)
    shared = [tasks for tasks in by_matrix.values() if len(tasks) >= _SHARED or len(by_matrix) == 1]
    single = [task for tasks in by_matrix.values() if len(tasks) < _SHARED and len(by_matrix) > 1 for task in tasks]
    for tasks in [*shared, single] if single else shared:
        matrices = [task.matrix for task in tasks if task.matrix is not None]
        constant = values.constant(np.stack(matrices) if tasks is single else matrices[0])
        name = values.emit("MatMul", [values.rows([int(task.operands[0]) for task in tasks]), constant])
        values.store({task.result: place for place, task in enumerate(tasks)}, name, len(tasks))


def _direct(name: str, group: _Group) -> str:
    return group.emit(name, group.operands())


def _many(name: str, group: _Group) -> str:
    """Any number of operands, which one node takes apart again where a single row is computed."""
    return group.emit(name, group.parts() or group.operands())


def _not_equal(group: _Group) -> str:
    return group.emit("Not", [group.emit("Equal", group.operands())])


def _ratio(group: _Group) -> str:
    numerator, denominator, neutral = group.operands()
    is_defined = group.emit("Greater", [denominator, group.number(0.0)])
    return group.emit("Where", [is_defined, group.emit("Div", [numerator, denominator]), neutral])


def _log_ratio(group: _Group) -> str:
    logarithm = group.emit("Log", [group.emit("Div", group.operands())])
    is_finite = group.emit("Less", [group.emit("Abs", [logarithm]), group.number(np.inf)])
    return group.emit("Where", [is_finite, logarithm, group.number(0.0)])


def _centre(group: _Group) -> str:
    place = group.kind.detail
    assert isinstance(place, int)
    rows = group.operand(0)
    return group.emit("Sub", [rows, group.values.part(rows, (2, place, place + 1, 1))])


def _maximum(group: _Group) -> str:
    return group.emit("MaxPool", [group.operand(0)], kernel_shape=(group.kind.detail,))


def _age_of_maximum(group: _Group) -> str:
    # Newest session first: of equal maxima the first counts. The places that come with the maxima number all sessions
    # of all rows in turn.
    window, length = group.kind.detail, group.kind.length
    assert isinstance(window, int)
    backwards = (2, -1, -_END, -1)
    reversed_rows = group.values.part(group.operand(0), backwards)
    _, places = group.values.builder.emit_parts("MaxPool", [reversed_rows], 2, kernel_shape=(window,))
    sessions = group.emit("Mod", [places, group.values.builder.integers(length + window - 1)])
    age = group.emit("Sub", [sessions, group.values.constant(np.arange(length, dtype=np.int64))])
    return group.values.part(group.emit("Cast", [age], to=TensorProto.FLOAT), backwards)


_WRITERS: Mapping[str, Callable[[_Group], str]] = {
    "NotEqual": _not_equal,
    "Min": partial(_many, "Min"),
    "Sum": partial(_many, "Sum"),
    "Clamp": partial(_direct, "Clip"),
    "Ratio": _ratio,
    "LogRatio": _log_ratio,
    "centre": _centre,
    "maximum": _maximum,
    "age_of_maximum": _age_of_maximum,
}
"""Kinds that are not one ONNX operation of the same name."""
