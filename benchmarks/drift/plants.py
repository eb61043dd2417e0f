"""Faults and shifts planted into the first of a panel's features, after a number of sessions of the judged year."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from worlds import REFERENCE

AT = 20
"""Sessions of the year before the change."""

Plant = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _later(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Plant:
    """``change`` of the values after the cut, given those of the reference."""

    def planted(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        found, cut = values.copy(), REFERENCE + AT
        found[0, cut:] = change(values[0, cut:], values[0, :REFERENCE])
        return found

    return planted


def _decoupled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The feature goes on as it was some months before: its own law, none of today's relations."""
    found, cut = values.copy(), REFERENCE + AT
    found[0, cut:] = values[0, cut - 300 : cut - 300 + values.shape[1] - cut]
    return found


PLANTS: dict[str, Plant] = {
    **{
        f"mean + {size:g} sd": _later(lambda later, before, size=size: later + size * before.std())
        for size in (0.5, 1.0, 2.0)
    },
    **{
        f"variance x {times}": _later(
            lambda later, before, times=times: before.mean() + times**0.5 * (later - before.mean())
        )
        for times in (2, 3)
    },
    "frozen": _later(lambda later, before: np.full_like(later, later[0])),
    "x 100": _later(lambda later, before: 100.0 * later),
    "decoupled": _decoupled,
}
