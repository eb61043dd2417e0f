"""Volume in other units, frozen or absent. Suspicious only: volume is no price, and real surges are large."""

from __future__ import annotations

import numpy as np

from financial_assets.market.quality.bars import Bars, median
from financial_assets.market.quality.results import Marks
from financial_assets.market.quality.shapes import runs

__all__ = ["mark_volumes"]

OTHER_UNIT = np.log(30.0)
"""Between the medians of ten sessions before and after: hundreds and thousands of shares lie above."""

ALONE = np.log(40.0)
"""The same of one session against those around it."""

REPEATED, WORTH_REPEATING = 3, 1000.0
"""Equal volumes in a row, and the number of shares from which on that is no coincidence."""


def mark_volumes(bars: Bars) -> list[Marks]:
    """Volumes in another unit, of one session or of a span, and volumes that repeat."""
    step = bars.step(bars.log_volume)
    with np.errstate(invalid="ignore"):
        at = np.flatnonzero(np.abs(step) > 0.6 * OTHER_UNIT)
    marks = [_alone(bars, at), _spans(bars, at)]
    same = bars.follows & (bars.volume == np.roll(bars.volume, 1)) & (bars.volume >= WORTH_REPEATING)
    repeated = runs(same, bars.follows) >= REPEATED - 1
    return [
        *marks,
        Marks.all("suspicious", np.flatnonzero(repeated), "volume repeats that of the sessions before"),
        Marks.all("suspicious", np.flatnonzero(_absent(bars)), "no volume although the price moves"),
    ]


def _absent(bars: Bars) -> np.ndarray:
    """Bars without volume and with a range, of tickers that mostly have a volume (indices and rates have none)."""
    absent = bars.volume == 0
    total = np.concatenate([[0], np.cumsum(~absent)])
    present = total[bars.last + 1] - total[bars.first]
    return absent & (bars.high > bars.low) & (2 * present > bars.last + 1 - bars.first)


def _alone(bars: Bars, at: np.ndarray) -> Marks:
    difference = bars.log_volume[at] - median(bars.around(at, bars.log_volume, 5, 5))
    alone = np.abs(difference) > ALONE
    return Marks("suspicious", at[alone], [f"volume is {_times(value)} its neighbours'" for value in difference[alone]])


def _spans(bars: Bars, at: np.ndarray) -> Marks:
    before = median(bars.around(at, bars.log_volume, 10, 0))
    after = median(np.column_stack([bars.log_volume[at], bars.around(at, bars.log_volume, 0, 9)]))
    shift = after - before
    entered = np.abs(shift) > OTHER_UNIT
    problems = [f"volume is {_times(value)} that of the sessions before: another unit?" for value in shift[entered]]
    return Marks("suspicious", at[entered], problems)


def _times(log_factor: float) -> str:
    factor = float(np.exp(abs(log_factor)))
    return f"{factor:.0f} times" if log_factor > 0 else f"1/{factor:.0f} of"
