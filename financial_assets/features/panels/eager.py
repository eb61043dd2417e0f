"""A program run step by step on a few tickers at a time, without a compiler.

Arithmetic is done by numpy, whose calls cost a third of torch's and round alike, since IEEE 754 leaves no choice;
logarithms, sines and cosines are torch's own, as in the graph that is exported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from financial_assets.features.panels.buffers import assign_buffers
from financial_assets.features.panels.program import Program, Step

_Call = tuple[Callable[..., object], tuple[Any, ...], Mapping[str, Any]]

_PREDICATES: Mapping[str, Callable[..., object]] = {
    "gt": np.greater, "lt": np.less, "ge": np.greater_equal, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal,
    "and": np.logical_and, "or": np.logical_or,
}  # fmt: skip
_BY_NUMPY: Mapping[str, Callable[..., object]] = {
    **_PREDICATES, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "abs": np.absolute, "floor": np.floor, "minimum": np.minimum, "maximum": np.maximum,
}  # fmt: skip
_BY_TORCH: Mapping[str, Callable[..., object]] = {
    "sqrt": torch.sqrt, "sin": torch.sin, "cos": torch.cos, "clamp": torch.clamp, "where": torch.where,
}  # fmt: skip


class EagerProgram:
    """A program for so many tickers and sessions, of which the last are known, with memory of its own.

    The tickers stand one behind the other in every buffer, so that a lag is a shifted look at it: what a ticker's
    first bars see of the ticker before is never known.
    """

    def __init__(self, program: Program, bounds: Sequence[tuple[float, float]], shape: tuple[int, int, int]) -> None:
        self.tickers, sessions, known = shape
        tickers = self.tickers
        self._length = tickers * sessions
        deepest = max((lag for step in program.steps for _, lag in step.sources), default=0)
        self._front = max(deepest, *(lag for _, lag in program.outputs))
        self._places = assign_buffers(program, lambda step: step.operation in _PREDICATES)
        self._memory: dict[Any, np.ndarray] = {}
        self._channels: list[tuple[np.ndarray, int]] = []
        self._calls: list[_Call] = []
        for step in program.steps:
            if step.operation == "channel":
                self._channels.append((self._view(step, 0).reshape(tickers, sessions), int(_number(step.operands[0]))))
            else:
                self._calls += self._of(step)
        tables = [self._view(step, lag).reshape(tickers, sessions) for step, lag in program.outputs]
        self._outputs = [
            (torch.from_numpy(table[:, sessions - known :]), low, high)
            for table, (low, high) in zip(tables, bounds, strict=True)
        ]

    def run(self, bars: np.ndarray, out: np.ndarray) -> None:
        """Write the outputs ``[ticker, output, known session]`` of bars ``[ticker, channel, session]``, in bounds."""
        # What precedes a listing is not a number.
        with torch.inference_mode(), np.errstate(all="ignore"):
            for table, channel in self._channels:
                np.copyto(table, bars[:, channel])
            for function, arguments, named in self._calls:
                function(*arguments, **named)
            for row, (table, low, high) in zip(torch.from_numpy(out).unbind(1), self._outputs, strict=True):
                torch.clamp(table, low, high, out=row)

    def _view(self, step: Step, lag: int) -> np.ndarray:
        """A step's values, ticker behind ticker, ``lag`` bars ago."""
        place = self._places[step]
        if place not in self._memory:
            dtype = np.bool_ if step.operation in _PREDICATES else np.float32
            self._memory[place] = np.zeros(self._front + self._length, dtype=dtype)
        return self._memory[place][self._front - lag : self._front - lag + self._length]

    def _of(self, step: Step) -> list[_Call]:
        views = [self._view(*each) if isinstance(each, tuple) else np.float32(each) for each in step.operands]
        out = self._view(step, 0)
        if step.operation in _BY_NUMPY:
            return [(_BY_NUMPY[step.operation], tuple(views), {"out": out})]
        tensors: list[Any] = [torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in views]
        named: dict[str, Any] = {"out": torch.from_numpy(out)}
        if step.operation == "plus_scaled":
            a, b, power = tensors
            return [(torch.add, (a, b), {"alpha": float(power), **named})]
        if step.operation == "positive":
            # A number over infinity is exactly 0. Not a number is not positive, either.
            replaced = {"nan": math.inf, "posinf": math.inf, "neginf": math.inf}
            return [
                (torch.threshold, (*tensors, 0.0, math.inf), named),
                (torch.nan_to_num, (named["out"],), {**replaced, **named}),
            ]
        if step.operation == "log":
            finite = (torch.nan_to_num, (named["out"],), {"nan": 0.0, "posinf": 0.0, "neginf": 0.0, **named})
            return [(torch.log, tuple(tensors), named), finite]
        if step.operation == "where":
            tensors = [torch.as_tensor(each) for each in tensors]
        elif step.operation == "clamp":
            tensors[1:] = map(float, tensors[1:])
        return [(_BY_TORCH[step.operation], tuple(tensors), named)]


def _number(operand: object) -> float:
    assert isinstance(operand, float | int)
    return operand
