"""A series as the window formulas see it: values that can be looked at some bars ago.

The formulas of ``windows`` are written once, on ``Series``. ``Tail`` computes them on tensors at once; the program of a
panel (``features.panels``) records them first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor


class Series(ABC):
    """Values of consecutive bars, the newest last."""

    @abstractmethod
    def lagged(self, bars: int) -> Self:
        """The value ``bars`` sessions ago."""

    @abstractmethod
    def apply(self, function: Callable[..., Tensor], *others: Any) -> Self:
        """``function(self, *others)``, bar by bar."""

    @abstractmethod
    def plus(self, other: Any, power: float) -> Self:
        """``self + power * other`` for a power of two, positive or negative, by which nothing is rounded."""

    def __add__(self, other: Self | float) -> Self:
        return self.apply(torch.add, other)

    def __sub__(self, other: Self | float) -> Self:
        return self.apply(torch.sub, other)

    def __mul__(self, other: Self | Tensor | float) -> Self:
        return self.apply(torch.mul, other)


class Tail(Series):
    """A tensor ``[..., bar]``. Where two differ in length, the newest bars count that both have."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def lagged(self, bars: int) -> Self:
        """See ``Series``."""
        return type(self)(self._values[..., : self._values.shape[-1] - bars]) if bars else self

    def apply(self, function: Callable[..., Tensor], *others: Any) -> Self:
        """See ``Series``."""
        series = (self, *(other for other in others if isinstance(other, Tail)))
        length = min(each._values.shape[-1] for each in series)
        arguments: list[Any] = [other.newest(length) if isinstance(other, Tail) else other for other in others]
        return type(self)(function(self.newest(length), *arguments))

    def plus(self, other: Any, power: float) -> Self:
        """See ``Series``."""
        if abs(power) == 1.0:
            return self + other if power > 0 else self - other
        return self + other * power

    def newest(self, sessions: int) -> Tensor:
        """The values of the last sessions."""
        length = self._values.shape[-1]
        return self._values if length == sessions else self._values[..., length - sessions :]
