"""Steps on slots: what the features of the last sessions are computed from, and in which order.

Traced operation by operation, the feature graph is some fifteen hundred nodes on a hundred numbers each, and most of
the time of an answer goes into starting them. Here every number that is needed (a series at one session) is a *slot*.
Rows, lags, windows and trimming are then only a choice of slots, and slots of one kind can be computed together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int64]
"""Numbers of slots: per session ``[depth]``, or per session and bar of its window ``[depth, window]``."""
Operand = NDArray[Any]
"""Slots, or constants as float32 of the same shape."""

_WINDOWS = (8, 20, 64, 128)
"""Windows are computed in one of these lengths, with weight 0 beyond their own, so that more of them share a step."""


@dataclass(frozen=True)
class Kind:
    """What must be equal for steps to be computed together: operation, length of windows, which operands are fixed."""

    name: str
    window: int
    is_constant: tuple[bool, ...]


@dataclass(eq=False)
class Step:
    """One operation on many slots.

    Attributes
    ----------
    kind
        What is computed.
    operands
        Slots or constants: ``[n]`` or ``[n, window]`` each.
    results
        Slots of each output ``[n]``.
    is_needed
        For each output whether anything needs it.
    """

    kind: Kind
    operands: list[Operand]
    results: list[Slots]
    is_needed: list[bool] = field(default_factory=list)


class Program:
    """Steps under construction, from bars of ``channels`` channels and ``depth`` sessions, oldest first."""

    def __init__(self, depth: int, channels: int) -> None:
        self.depth = depth
        self.channels = channels
        self.count = depth * channels
        self.steps: list[Step] = []
        self._known: dict[tuple[object, ...], list[Slots]] = {}

    def channel(self, number: int) -> Slots:
        """The bars' series of one channel."""
        return np.arange(self.depth) * self.channels + number

    def lag(self, x: Slots, bars: int) -> Slots:
        """The series ``bars`` sessions ago; before the first bar the first one, as in ``features.windows``."""
        return x[np.maximum(np.arange(self.depth) - bars, 0)]

    def windows(self, x: Slots, window: int, *, filler: int = 0) -> Slots:
        """The bars of every window, newest first: ``[depth, padded(window)]``, filled up with its bar ``filler``."""
        back = np.arange(padded(window))
        return x[np.maximum(np.arange(self.depth)[:, None] - np.where(back < window, back, filler), 0)]

    def weights(self, values: Sequence[float] | NDArray[Any]) -> Operand:
        """One weight per bar of a window, newest first, for every session; 0 for the filling."""
        row = np.zeros(padded(len(values)), dtype=np.float32)
        row[: len(values)] = values
        return np.tile(row, (self.depth, 1))

    def apply(self, name: str, *operands: Operand | float, window: int = 0) -> Slots:
        """One operation with one output, on series or windows of them and on numbers."""
        return self.apply_parts(name, *operands, window=window, outputs=1)[0]

    def apply_parts(self, name: str, *operands: Operand | float, window: int = 0, outputs: int) -> list[Slots]:
        """One operation with several outputs; the same slots if it was asked for before."""
        arrays = [
            operand if isinstance(operand, np.ndarray) else np.full(self.depth, operand, dtype=np.float32)
            for operand in operands
        ]
        kind = Kind(name, window, tuple(map(_is_constant, arrays)))
        key = (kind, *(array.tobytes() for array in arrays))
        if key not in self._known:
            results = [np.arange(self.depth) + self.count + place * self.depth for place in range(outputs)]
            self.count += outputs * self.depth
            self.steps.append(Step(kind, arrays, results))
            self._known[key] = results
        return self._known[key]

    def prune(self, wanted: Slots) -> None:
        """Forget all steps, and all sessions of the others, that ``wanted`` does not depend on."""
        is_needed = np.zeros(self.count, dtype=bool)
        is_needed[wanted] = True
        kept: list[Step] = []
        for step in reversed(self.steps):
            of_outputs = [is_needed[slots] for slots in step.results]
            sessions = np.logical_or.reduce(of_outputs)
            if not sessions.any():
                continue
            operands = [operand[sessions] for operand in step.operands]
            for operand in operands:
                if not _is_constant(operand):
                    is_needed[operand.ravel()] = True
            results = [slots[sessions] for slots in step.results]
            kept.append(Step(step.kind, operands, results, [bool(needed.any()) for needed in of_outputs]))
        self.steps = kept[::-1]

    def groups(self) -> list[list[Step]]:
        """The steps in an order in which they can be computed, those of one kind together where none waits for another.

        Greedy: a kind of which nothing is still to come is taken first, then the one that most depends on.
        """
        needs = self._dependencies()
        users: list[list[int]] = [[] for _ in self.steps]
        for number, sources in enumerate(needs):
            for source in sources:
                users[source].append(number)
        height = [0] * len(self.steps)
        for number in reversed(range(len(self.steps))):
            height[number] = 1 + max((height[user] for user in users[number]), default=0)
        missing = [len(sources) for sources in needs]
        to_come = Counter(step.kind for step in self.steps)
        ready: dict[Kind, list[int]] = defaultdict(list)
        for number, step in enumerate(self.steps):
            if not missing[number]:
                ready[step.kind].append(number)
        groups: list[list[Step]] = []
        while ready:

            def urgency(kind: Kind) -> tuple[bool, int, float]:
                members = ready[kind]
                highest = max(height[number] for number in members)
                return len(members) == to_come[kind], highest, len(members) / to_come[kind]

            kind = max(ready, key=urgency)
            members = ready.pop(kind)
            to_come[kind] -= len(members)
            groups.append([self.steps[number] for number in members])
            for user in (user for number in members for user in users[number]):
                missing[user] -= 1
                if not missing[user]:
                    ready[self.steps[user].kind].append(user)
        return groups

    def _dependencies(self) -> list[list[int]]:
        """For every step the steps whose results it takes."""
        owner = np.full(self.count, -1)
        for number, step in enumerate(self.steps):
            for slots in step.results:
                owner[slots] = number
        needs: list[list[int]] = []
        for step in self.steps:
            taken = [owner[operand.ravel()] for operand in step.operands if not _is_constant(operand)]
            sources = np.unique(np.concatenate(taken)) if taken else np.empty(0, dtype=np.int64)
            needs.append([int(source) for source in sources if source >= 0])
        return needs


def padded(window: int) -> int:
    """The length in which a window is computed."""
    return next((length for length in _WINDOWS if length >= window), window)


def _is_constant(operand: Operand) -> bool:
    return operand.dtype.kind == "f"
