"""Series and what they are computed from, before it is known how many sessions of each are needed.

A value is a *form*: a weighted sum of the latest sessions of one series. Lags, sums, averages and their differences are
then only weights, and nothing is computed for them until an operation that is not linear takes the value. The average
of an average, or the difference of two, is one weighted sum: fewer operations, and better conditioned.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from financial_assets.errors import ExportError

Weights = NDArray[np.float64]

_APPROXIMATE = frozenset({"form", "co_moment", "mean_absolute_deviation", "profile"})
"""Steps that sum in another order than ``features.rolling``."""
GIVEN = "given"
"""A series that something else computes."""
_NOTHING = 1e-12
"""Weights whose sum is below this share of their sizes add up to zero."""


@dataclass(frozen=True)
class Form:
    """A weighted sum of a series: ``weights[i]`` belongs to the value ``i`` sessions ago.

    Attributes
    ----------
    series
        Number of the series.
    weights
        Newest session first.
    is_centred
        Whether a constant series must give exactly ``sum(weights)`` times that constant.
    """

    series: int
    weights: tuple[float, ...] = (1.0,)
    is_centred: bool = False

    @property
    def lag(self) -> int | None:
        """Sessions by which the form only shifts its series; ``None`` if it does more."""
        places = np.flatnonzero(self.weights)
        return int(places[0]) if len(places) == 1 and self.weights[places[0]] == 1.0 else None

    def lagged(self, bars: int) -> Form:
        """The value ``bars`` sessions ago."""
        return Form(self.series, (*(0.0,) * bars, *self.weights), self.is_centred)

    def summed(self) -> Form:
        """The same, but summed as it is: as accurate beside its own size, where no weight is negative."""
        return Form(self.series, self.weights) if self.is_centred and min(self.weights) >= 0.0 else self

    def scaled(self, factor: float) -> Form:
        """The value times a number."""
        return Form(self.series, tuple(factor * weight for weight in self.weights), self.is_centred)

    def averaged(self, weights: Weights, *, is_centred: bool) -> Form:
        """A weighted sum of the last values."""
        return Form(self.series, tuple(map(float, np.convolve(self.weights, weights))), is_centred or self.is_centred)

    def plus(self, other: Form, sign: float) -> Form:
        """The sum of two forms of one series, the second times ``sign``."""
        length = max(len(self.weights), len(other.weights))
        total = np.zeros(length)
        total[: len(self.weights)] = self.weights
        total[: len(other.weights)] += sign * np.asarray(other.weights)
        return Form(self.series, tuple(map(float, total)), self.is_centred or other.is_centred)

    @property
    def factor(self) -> float:
        """What a single session is multiplied by; 1 for a window."""
        places = np.flatnonzero(self.weights)
        return self.weights[places[0]] if len(places) == 1 else 1.0

    @property
    def unit(self) -> Form:
        """The form without its factor."""
        places = np.flatnonzero(self.weights)
        return Form(self.series).lagged(int(places[0])) if len(places) == 1 else self

    @property
    def total(self) -> float:
        """Sum of the weights; exactly 0 or 1 where it is nearly so."""
        total = float(np.sum(self.weights))
        if abs(total) < _NOTHING * float(np.abs(self.weights).sum()):
            return 0.0
        return 1.0 if abs(total - 1.0) < _NOTHING else total


@dataclass(frozen=True)
class Operand:
    """A series some sessions ago."""

    series: int
    lag: int = 0


@dataclass(frozen=True)
class Step:
    """One series as the result of an operation.

    Attributes
    ----------
    name
        The operation.
    operands
        Series or numbers.
    window
        Bars that it looks at, beyond the lags of the operands.
    detail
        What else the operation needs to know.
    """

    name: str
    operands: tuple[Operand | float, ...]
    window: int = 1
    detail: Hashable = None


class Program:
    """Steps under construction; the first ``channels`` series are those of the bars.

    Parameters
    ----------
    depth
        Sessions of the bars.
    channels
        Channels of a bar.

    Attributes
    ----------
    steps
        What computes each series; nothing for the channels.
    is_approximate
        Whether a series may differ from torch's in its last bits, so that its factors may be moved elsewhere.
    """

    def __init__(self, depth: int, channels: int) -> None:
        self.depth = depth
        self.channels = channels
        self.steps: list[Step | None] = [None] * channels
        self.is_approximate = [False] * channels
        self._known: dict[Step, int] = {}

    def apply(self, name: str, *operands: Form | float, window: int = 1, detail: Hashable = None) -> Form:
        """The result of an operation; the same series if it was asked for before."""
        resolved = tuple(self.operand(operand) if isinstance(operand, Form) else operand for operand in operands)
        return Form(self._add(Step(name, resolved, window, detail)))

    def give(self, series: int) -> None:
        """Note that a series need not be computed: it is there, for the sessions that are wanted."""
        self.steps[series] = Step(GIVEN, ())

    def operand(self, form: Form) -> Operand:
        """The series that holds a form's values."""
        if form.lag is not None:
            return Operand(form.series, form.lag)
        first = int(np.flatnonzero(form.weights)[0]) if any(form.weights) else 0
        form = Form(form.series, form.weights[first:], form.is_centred)
        step = Step("form", (Operand(form.series),), len(form.weights), form)
        return Operand(self._add(step), first)

    def _add(self, step: Step) -> int:
        if step not in self._known:
            self._known[step] = len(self.steps)
            self.steps.append(step)
            taken = [operand.series for operand in step.operands if isinstance(operand, Operand)]
            self.is_approximate.append(step.name in _APPROXIMATE or any(self.is_approximate[each] for each in taken))
        return self._known[step]

    def needed(self, wanted: Sequence[Operand], sessions: int, extra: Sequence[int]) -> list[int]:
        """The sessions of every series that the last ``sessions`` of ``wanted`` depend on.

        They are rounded up to ``sessions`` and one of ``extra`` where the bars reach that far back, so that more series
        have equally many.

        Raises
        ------
        ExportError
            If the bars do not reach back far enough.
        """
        history = self._history()
        needed = [0] * len(self.steps)

        def rounded(count: int) -> int:
            return next((sessions + more for more in extra if sessions + more >= count), count)

        def require(operand: Operand, count: int) -> None:
            least, most = count + operand.lag, self.depth - history[operand.series]
            step = self.steps[operand.series]
            comfortable = rounded(rounded(count) + operand.lag)
            if step is not None and step.name == "co_moment":
                comfortable = least
            needed[operand.series] = max(needed[operand.series], least, min(comfortable, most))

        for operand in wanted:
            require(operand, sessions)
        for series in reversed(range(self.channels, len(self.steps))):
            step = self.steps[series]
            if step is None or not needed[series]:
                continue
            for operand in step.operands:
                if isinstance(operand, Operand):
                    require(operand, needed[series] + step.window - 1)
        if max(needed[: self.channels]) > self.depth:
            raise ExportError(f"{max(needed[: self.channels])} bars are needed, there are {self.depth}")
        return needed

    def _history(self) -> list[int]:
        """For every series how many sessions before its own it depends on."""
        history = [0] * len(self.steps)
        for series, step in enumerate(self.steps):
            if step is not None:
                taken = [operand for operand in step.operands if isinstance(operand, Operand)]
                reach = max((history[operand.series] + operand.lag for operand in taken), default=0)
                history[series] = reach + step.window - 1
        return history
