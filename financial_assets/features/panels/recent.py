"""A program run for the last sessions alone: of every step only the bars that they depend on.

A feature looks back over up to ``lookback`` bars, but most of what it is made of does not: for the newest session, a
mean of twenty returns needs twenty of them, and one sum of sixteen. Followed from the features back to the bars, that
leaves a small part of the work. No operation on any bar is another one, so the values are those of the whole graph, bit
for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from financial_assets.features.panels.buffers import assign_buffers
from financial_assets.features.panels.operations import Call, calls_of, type_of
from financial_assets.features.panels.program import Program, Step, channel_of


class RecentProgram:
    """A program for so many tickers and their last sessions, with memory of its own.

    All tickers of a bar lie side by side, and the bars of a step one below the other, oldest first: a lag is a look at
    other rows, and every call passes over long runs of memory.

    Parameters
    ----------
    program
        The features.
    bounds
        Smallest and largest value of each.
    shape
        Number of tickers and of sessions, each at least one.

    Attributes
    ----------
    depth
        Bars of each ticker that the sessions depend on.
    """

    def __init__(self, program: Program, bounds: Sequence[tuple[float, float]], shape: tuple[int, int]) -> None:
        self.tickers, self.sessions = shape
        self._spans = _spans(program, self.sessions)
        self.depth = 1 + max(oldest for _, oldest in self._spans.values())
        # Only steps of the same bars share memory: what one writes over another must lie in the same rows.
        self._places = assign_buffers(program, lambda step: (type_of(step), self._spans[step]))
        self._memory: dict[Any, np.ndarray] = {}
        self._channels: list[tuple[np.ndarray, int, slice]] = []
        self._calls: list[Call] = []
        for step in program.steps:
            newest, oldest = self._spans[step]
            table = self._rows(step, newest, oldest)
            if step.operation == "channel":
                bars = slice(self.depth - 1 - oldest, self.depth - newest)
                self._channels.append((table, channel_of(step), bars))
                continue
            operands = [
                self._rows(each[0], newest + each[1], oldest + each[1]) if isinstance(each, tuple) else each
                for each in step.operands
            ]
            self._calls += calls_of(step, operands, table)
        self._table = np.empty((len(bounds), self.sessions, self.tickers), dtype=np.float32)
        for row, (step, lag), (low, high) in zip(self._table, program.outputs, bounds, strict=True):
            values = self._rows(step, lag, lag + self.sessions - 1)
            clamped = {"out": torch.from_numpy(row)}
            self._calls.append((torch.clamp, (torch.from_numpy(values), low, high), clamped))

    def run(self, bars: np.ndarray, out: np.ndarray) -> None:
        """Write the outputs ``[ticker, output, session]``, within their bounds, of bars ``[ticker, channel, depth]``.

        They mean nothing where a ticker has fewer bars than the longest lookback.
        """
        # What precedes a listing is not a number.
        with torch.inference_mode(), np.errstate(all="ignore"):
            for table, channel, rows in self._channels:
                np.copyto(table, bars[:, channel, rows].T)
            for function, arguments, named in self._calls:
                function(*arguments, **named)
        np.copyto(out, self._table.transpose(2, 0, 1))

    def _rows(self, step: Step, newest: int, oldest: int) -> np.ndarray:
        """A step's values from ``oldest`` to ``newest`` bars ago: ``[bar, ticker]``."""
        first, last = self._spans[step]
        place = self._places[step]
        if place not in self._memory:
            self._memory[place] = np.empty((last - first + 1, self.tickers), dtype=type_of(step))
        return self._memory[place][last - oldest : last - newest + 1]


def _spans(program: Program, sessions: int) -> Mapping[Step, tuple[int, int]]:
    """For every step how many bars ago the first and the last of its values lie that are asked."""
    spans: dict[Step, tuple[int, int]] = {}

    def ask(step: Step, newest: int, oldest: int) -> None:
        first, last = spans.get(step, (newest, oldest))
        spans[step] = newest if newest < first else first, oldest if oldest > last else last

    for step, lag in program.outputs:
        ask(step, lag, lag + sessions - 1)
    for step in reversed(program.steps):
        newest, oldest = spans[step]
        for source, lag in step.sources:
            ask(source, newest + lag, oldest + lag)
    return spans
