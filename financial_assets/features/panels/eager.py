"""A program run step by step over all sessions of a few tickers at a time, without a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from financial_assets.features.panels.buffers import assign_buffers
from financial_assets.features.panels.operations import Call, calls_of, type_of
from financial_assets.features.panels.program import Program, Step, channel_of


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
        self._places = assign_buffers(program, type_of)
        self._memory: dict[Any, np.ndarray] = {}
        self._channels: list[tuple[np.ndarray, int]] = []
        self._calls: list[Call] = []
        for step in program.steps:
            if step.operation == "channel":
                self._channels.append((self._view(step, 0).reshape(tickers, sessions), channel_of(step)))
            else:
                operands = [self._view(*each) if isinstance(each, tuple) else each for each in step.operands]
                self._calls += calls_of(step, operands, self._view(step, 0))
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
            self._memory[place] = np.zeros(self._front + self._length, dtype=type_of(step))
        return self._memory[place][self._front - lag : self._front - lag + self._length]
