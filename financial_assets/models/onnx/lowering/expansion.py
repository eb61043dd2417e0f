"""A program whose series have lengths: windows become products with constant matrices.

A window that must answer exactly for a constant series, and any sum of squares, is centred first on a bar that lies in
every one of its positions. Differences from a bar of the window are exactly 0 where nothing moves, and since one of
them is 0, the square of their sum is at most ``n - 1`` of the ``n`` parts of what it is subtracted from: sums of
squared deviations lose a factor of ``n`` in accuracy at worst, whatever the level of the series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from financial_assets.models.onnx.lowering.program import GIVEN, Form, Operand, Program, Step
from financial_assets.models.onnx.lowering.tasks import Kind, Matrix, Task, band, blocks, scattered

_INSIDE = 3
"""Sessions before the oldest answer on whose bar windows are centred: not on that of an outlier among the answers."""
_CHUNKED = 32
"""Chunks of windows of several lengths are filled up to a multiple of this, to be of one length."""
_FLAGS = frozenset({"Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "NotEqual", "Equal"})
"""Operations that give truth values, which cannot be in one tensor with numbers."""


@dataclass(frozen=True)
class _Centred:
    """Differences of a series from bars that lie within its windows.

    ``row`` holds them; bar ``i`` of the window that ends at output session ``t`` is at ``places[t, i]``.
    """

    row: int
    places: NDArray[np.int64]


class Expansion:
    """Tasks in the order in which they were asked for; each waits only for earlier ones.

    Rows 0 to ``channels - 1`` are the bars' channels, ``depth`` sessions each.
    """

    def __init__(self, program: Program, wanted: Sequence[Form], sessions: int, extra: Sequence[int]) -> None:
        self._program = program
        self._sessions = sessions
        self._extra = [sessions + more for more in extra]
        self.lengths = [program.depth] * program.channels
        self.tasks: list[Task] = []
        self.flags: set[int] = set()
        self._known: dict[Hashable, int] = {}
        operands = [program.operand(form) for form in wanted]
        needed = program.needed(operands, sessions, extra)
        self._row_of = {series: series for series in range(program.channels)}
        for series, step in enumerate(program.steps):
            if step is not None and needed[series]:
                self._row_of[series] = _EXPANSIONS.get(step.name, Expansion.elementwise)(self, step, needed[series])
        self.wanted = [self.taken(operand, sessions) for operand in operands]

    def add(
        self,
        name: str,
        operands: Sequence[int | float],
        length: int,
        detail: Hashable = None,
        matrix: Matrix | None = None,
    ) -> int:
        """The row of an operation; the same if it was asked for before."""
        key = (name, tuple(operands), length, detail, None if matrix is None else matrix.tobytes())
        if key not in self._known:
            self._known[key] = len(self.lengths)
            self.lengths.append(length)
            flags = tuple(isinstance(operand, float) for operand in operands)
            kind = Kind(name, length, flags, detail)
            if name in _FLAGS or (name == "take" and operands[0] in self.flags):
                self.flags.add(self._known[key])
            self.tasks.append(Task(kind, tuple(operands), self._known[key], matrix))
        return self._known[key]

    def given(self, _: Step, length: int) -> int:
        """A row that is there."""
        self.lengths.append(length)
        return len(self.lengths) - 1

    def row_of(self, series: int) -> int:
        """The row of a series."""
        return self._row_of[series]

    def taken(self, operand: Operand, length: int) -> int:
        """The last ``length`` sessions of a series, some sessions ago."""
        row = self._row_of[operand.series]
        if self.lengths[row] == length and operand.lag == 0:
            return row
        if length == self._sessions and operand.lag and row not in self.flags:
            # A product with ones is exact, and those of all lags are one.
            ones = (*(0.0,) * operand.lag, 1.0)
            return self.product(row, band(np.array(ones), self.lengths[row], length))
        return self.add("take", [row], length, (operand.lag, self.lengths[row], row in self.flags))

    def elementwise(self, step: Step, length: int) -> int:
        """An operation on each session alone."""
        operands = [
            self.taken(operand, length) if isinstance(operand, Operand) else float(operand) for operand in step.operands
        ]
        return self.add(step.name, operands, length)

    def product(self, row: int, matrix: NDArray[np.float64]) -> int:
        """A row times a matrix."""
        return self.add("product", [row], matrix.shape[1], matrix.shape[0], matrix.astype(np.float32))

    def input_of(self, operand: Operand, window: int, length: int) -> int:
        """The sessions that windows of some bars look at; a few more, where that gives more rows the same length."""
        return self.taken(operand, self._size(operand, length + window - 1))

    def form(self, step: Step, length: int) -> int:
        """A weighted sum."""
        operand, form = step.operands[0], step.detail
        assert isinstance(operand, Operand)
        assert isinstance(form, Form)
        window = len(form.weights)
        if window == 1:
            return self.add("Mul", [self.taken(operand, length), form.weights[0]], length)
        if not form.is_centred:
            row = self.input_of(operand, window, length)
            return self.product(row, band(np.asarray(form.weights), self.lengths[row], length))
        total = form.total
        weights = np.asarray(form.weights) / (total or 1.0)
        if total:  # what the window adds to its newest bar
            weights[0] -= 1.0
        result = self._moved(operand, weights, length)
        if total:
            result = self.add("Add", [self.taken(operand, length), result], length)
        return result if total in (0.0, 1.0) else self.add("Mul", [result, total], length)

    def _moved(self, operand: Operand, weights: NDArray[np.float64], length: int) -> int:
        """A weighted sum whose weights add up to nothing: exactly 0 where the window is constant."""
        window = len(weights)
        if window >= length + _INSIDE:
            centred = self.centred(operand, window, length)
            return self.product(centred.row, scattered(centred.places, weights, self.lengths[centred.row]))
        # Windows without a common bar: by parts, a sum of changes from one bar to the next.
        before = Operand(operand.series, operand.lag + 1)
        size = self.lengths[self.input_of(before, window - 1, length)]
        changes = self.add("Sub", [self.taken(operand, size), self.taken(before, size)], size)
        return self.product(changes, band(np.cumsum(weights)[:-1], size, length))

    def centred(self, operand: Operand, window: int, length: int, size: int | None = None) -> _Centred:
        """Differences of a series from a bar that lies in every window, or in every window of a few sessions."""
        is_short = window < length + _INSIDE
        if is_short:
            size = length + window - 1
        row = self.input_of(operand, window, length) if size is None else self.taken(operand, size)
        size = self.lengths[row]
        ends = np.arange(size - length, size)
        bars = ends[:, None] - np.arange(window)
        if not is_short:
            return _Centred(self.add("centre", [row], size, size - length - _INSIDE), bars)
        first = (np.arange(length) // window) * window  # the first session of the chunk that a session is in
        starts = np.unique(first)
        width = 2 * window - 1
        # Chunks of other windows get the same length.
        matrix = np.zeros((size, -(-len(starts) * width // _CHUNKED) * _CHUNKED))
        for chunk, start in enumerate(starts):
            for place in range(width):
                session = ends[start] - window + 1 + place
                if session < size:
                    matrix[session, chunk * width + place] += 1.0
                    matrix[ends[start], chunk * width + place] -= 1.0
        offset = (first // window) * width - (ends[first] - window + 1)
        return _Centred(self.product(row, matrix), bars + offset[:, None])

    def co_moment(self, step: Step, length: int) -> int:
        """Sum of products of deviations."""
        window = step.window
        size = min(self.lengths[self.input_of(operand, window, length)] for operand in _series(step))
        of_x, of_y = (self.centred(operand, window, length, size) for operand in _series(step))
        rows = (of_x.row, of_y.row)
        width = self.lengths[of_x.row]
        sums = scattered(of_x.places, np.full(window, 1.0 / math.sqrt(window)), width)
        products = self.product(self.add("Mul", rows, width), scattered(of_x.places, np.ones(window), width))
        of_sums = [self.product(row, sums) for row in rows]
        return self.add("Sub", [products, self.add("Mul", of_sums, length)], length)

    def mean_absolute_deviation(self, step: Step, length: int) -> int:
        """Average distance from the average."""
        (operand,), window = _series(step), step.window
        centred = self.centred(operand, window, length, length + window - 1)
        deviations = np.zeros((self.lengths[centred.row], length, window))
        for session, places in enumerate(centred.places):
            deviations[places, session] -= 1.0 / window
            deviations[places, session, np.arange(window)] += 1.0
        row = self.product(centred.row, deviations.reshape(len(deviations), -1))
        size = self.add("Abs", [row], length * window)
        return self.product(size, blocks(length, window) / window)

    def profile(self, step: Step, length: int) -> int:
        """Weights of a window's bars, each times where its range lies below or above the level of the newest."""
        level, middle, width, weight = _series(step)
        window = step.window
        size = length + window - 1
        bars = np.arange(size - length, size)[:, None] - np.arange(window)
        each, newest = np.zeros((size, length * window)), np.zeros((size, length * window))
        each[bars.ravel(), np.arange(length * window)] = 1.0
        newest[np.repeat(bars[:, 0], window), np.arange(length * window)] = 1.0
        pairs = ((level, newest), (middle, each), (width, each), (weight, each))
        of_level, of_middle, of_width, of_weight = (
            self.product(self.taken(operand, size), matrix) for operand, matrix in pairs
        )
        distance = self.add("Div", [self.add("Sub", [of_level, of_middle], length * window), of_width], length * window)
        side = self.add("Clamp", [distance, -1.0, 1.0], length * window)
        return self.product(self.add("Mul", [side, of_weight], length * window), blocks(length, window))

    def extreme(self, step: Step, length: int) -> int:
        """Maximum of a window, or its age."""
        (operand,) = _series(step)
        least = length + step.window - 1
        row = self._signed(operand, least)
        if self.lengths[row] != least:
            row = self.add("take", [row], least, (0, self.lengths[row], False))
        return self.add(step.name, [row], length, step.window)

    def _signed(self, operand: Operand, least: int) -> int:
        """A series, or the opposite of one, as a product with 1 or -1: both are in one tensor then."""
        step = self._program.steps[operand.series]
        sign = 1.0
        if step is not None and step.name == "Mul" and step.operands[1] == -1.0:
            sign, (operand,) = -1.0, _series(step)
        return self.add("Mul", [self.taken(operand, self._size(operand, least)), sign], self._size(operand, least))

    def _size(self, operand: Operand, least: int) -> int:
        """At least as many sessions of a series; a few more, where that gives more rows the same length."""
        available = self.lengths[self._row_of[operand.series]] - operand.lag
        return min(next((size for size in self._extra if size >= least), available), available)


def _series(step: Step) -> list[Operand]:
    return [operand for operand in step.operands if isinstance(operand, Operand)]


_EXPANSIONS: Mapping[str, Callable[[Expansion, Step, int], int]] = {
    GIVEN: Expansion.given,
    "form": Expansion.form,
    "co_moment": Expansion.co_moment,
    "mean_absolute_deviation": Expansion.mean_absolute_deviation,
    "profile": Expansion.profile,
    "maximum": Expansion.extreme,
    "age_of_maximum": Expansion.extreme,
}
