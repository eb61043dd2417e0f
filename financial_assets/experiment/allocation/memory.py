"""What an allocator remembers: sufficient statistics as plain frozen data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from financial_assets.errors import ExperimentError

__all__ = ["Memory"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything that an allocator knows about the past.

    Attributes
    ----------
    days
        Days seen; fewer where old days are discounted.
    totals
        One number per arm; the allocator says what.
    more
        Further numbers; the allocator says what.
    """

    days: float
    totals: tuple[float, ...]
    more: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; Python writes and reads doubles without loss."""
        return {"days": self.days, "totals": list(self.totals), "more": list(self.more)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Memory:
        """The memory written by :meth:`to_json`.

        Raises
        ------
        ExperimentError
            If a number is missing or not finite.
        """
        try:
            lists = [cast("Sequence[float]", values[name]) for name in ("totals", "more")]
            memory = cls(float(values["days"]), *(tuple(map(float, numbers)) for numbers in lists))
        except (KeyError, TypeError, ValueError) as error:
            raise ExperimentError(f"no memory of an allocator ({error!r}): replay the log to make it anew") from None
        if not all(map(math.isfinite, (memory.days, *memory.totals, *memory.more))):
            raise ExperimentError("an allocator's memory holds numbers that are not finite: replay the log")
        return memory
