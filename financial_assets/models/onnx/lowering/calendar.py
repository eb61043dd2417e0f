"""Features of the date alone, looked up in tables.

Computed, they are a chain of two dozen roundings. The Gregorian calendar repeats itself every 146,097 days; within
these the place in a cycle of four years and the weekday decide what such a feature is. Tables hold what torch computes,
and a feature is looked up only if the tables give its very value on every day of the cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from financial_assets.features.bars import BAR_CHANNELS, Bars
from financial_assets.models.onnx.builder import GraphBuilder
from financial_assets.models.onnx.lowering.program import Form, Operand, Program

_DAY = BAR_CHANNELS.index("day")
_DAYS_OF_ERA = 146097
_DAYS_OF_CENTURY = 36524
_DAYS_OF_LEAP_CYCLE = 1461
_FIRST_MARCH = 719468
"""Days from 1 March of the year 0 to 1970-01-01: the leap day is then the last of a year."""
_DAYS_OF_WEEK = 7


def of_the_day(program: Program, form: Form) -> bool:
    """Whether a value is computed from its own session's day and nothing else."""

    def is_of_the_day(operand: Operand | float) -> bool:
        if not isinstance(operand, Operand):
            return True
        step = program.steps[operand.series]
        if step is None:
            return operand == Operand(_DAY)
        return operand.lag == 0 and step.window == 1 and all(map(is_of_the_day, step.operands))

    return form.lag == 0 and form.series != _DAY and is_of_the_day(Operand(form.series))


def write_calendar(
    builder: GraphBuilder, functions: Sequence[Callable[[Bars], Tensor]], source: str, sessions: tuple[int, int]
) -> dict[int, tuple[str, int, int]]:
    """Write the functions of the date that can be looked up.

    Parameters
    ----------
    builder
        Where to write.
    functions
        Functions of the day alone.
    source
        Name of the bars: float32 ``[channel, batch, session]``.
    sessions
        The first, and the one behind the last.

    Returns
    -------
    dict
        For the places of functions: name of a tensor ``[row, batch, session]``, the row, and how many rows there are.
    """
    days = torch.arange(_DAYS_OF_ERA)
    nothing = torch.ones(_DAYS_OF_ERA)
    bars = Bars(nothing, nothing, nothing, nothing, nothing, nothing, days.float())
    values = {place: function(bars).numpy() for place, function in enumerate(functions)}
    number = builder.integers
    day = builder.emit("Gather", [source, builder.constant(np.asarray(_DAY, dtype=np.int64))], axis=0)
    first, end = sessions
    day = builder.emit("Slice", [day, number(first), number(end), number(1)])
    day = builder.emit("Add", [builder.emit("Cast", [day], to=7), number(_FIRST_MARCH)])
    of_era = builder.emit("Mod", [day, number(_DAYS_OF_ERA)])
    # The last year of a century has no leap day, but every fourth century: as if it had.
    skipped = builder.emit("Div", [of_era, number(_DAYS_OF_CENTURY)])
    last = builder.emit("Div", [of_era, number(_DAYS_OF_ERA - 1)])
    of_cycle = builder.emit("Sub", [builder.emit("Add", [of_era, skipped]), last])
    keys = {
        builder.emit("Mod", [of_cycle, number(_DAYS_OF_LEAP_CYCLE)]): _place_in_cycle(days.numpy()),
        builder.emit("Mod", [day, number(_DAYS_OF_WEEK)]): (days.numpy() + _FIRST_MARCH) % _DAYS_OF_WEEK,
    }
    found: dict[int, tuple[str, int, int]] = {}
    for name, key in keys.items():
        first_with_key = np.unique(key, return_index=True)[1]
        tables = {
            place: value[first_with_key]
            for place, value in values.items()
            if place not in found and np.array_equal(value[first_with_key][key], value)
        }
        if tables:
            looked_up = builder.emit("Gather", [builder.constant(np.stack(list(tables.values()))), name], axis=1)
            found |= {place: (looked_up, row, len(tables)) for row, place in enumerate(tables)}
    return found


def _place_in_cycle(days: NDArray[np.int64]) -> NDArray[np.int64]:
    of_era = (days + _FIRST_MARCH) % _DAYS_OF_ERA
    return (of_era + of_era // _DAYS_OF_CENTURY - of_era // (_DAYS_OF_ERA - 1)) % _DAYS_OF_LEAP_CYCLE
