"""Volume in other units, frozen or absent. Suspicious only: volume is no price, and real surges are large."""

from __future__ import annotations

import numpy as np

from financial_assets.market.quality.bars import Bars, median
from financial_assets.market.quality.results import Marks
from financial_assets.market.quality.shapes import runs

OTHER_UNIT = np.log(30.0)
"""Between the medians of ten sessions before and after: hundreds and thousands of shares lie above."""

TENFOLD, APART = np.log(6.0), np.log(3.0)
"""The same, where nearly all sessions on one side also lie so far above nearly all on the other: a market that wakes up
does the first, hardly ever both."""

ALONE = np.log(40.0)
"""The same of one session against those around it."""

REPEATED, WORTH_REPEATING = 3, 1000.0
"""Equal volumes in a row, and the number of shares from which on that is no coincidence."""


def mark_volumes(bars: Bars) -> list[Marks]:
    """Volumes in another unit, of one session or of a span, and volumes that repeat."""
    step = bars.step(bars.log_volume)
    with np.errstate(invalid="ignore"):
        at = np.flatnonzero(np.abs(step) > APART)
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
    shift, is_entered = _enters(bars, at, bars.log_volume)
    # At a split that was applied, the number of shares traded changes for good if the source does not adjust volumes.
    _, is_entered_adjusted = _enters(bars, at, bars.log_volume + bars.factor)
    entered = is_entered & is_entered_adjusted
    edge, shift = at[entered], shift[entered]
    # One edge of a span does not show which side is wrong, so the sessions on both sides of it are marked.
    problems = [f"volume is {_times(value)} that of the sessions before: another unit?" for value in shift]
    problems += [f"volume is {_times(-value)} that of the sessions after: another unit?" for value in shift]
    return Marks("suspicious", np.concatenate([edge, edge - 1]), problems)


def _enters(bars: Bars, at: np.ndarray, log_volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step of the median of ten sessions at each bar of ``at``, and whether it is as large as that of a unit."""
    before = np.sort(bars.around(at, log_volume, 10, 0), axis=1)
    after = np.sort(np.column_stack([log_volume[at], bars.around(at, log_volume, 0, 9)]), axis=1)
    shift = median(after) - median(before)
    # The second lowest and the second highest of ten; with fewer sessions on one side nothing is said about tenfolds.
    rise, fall = after[:, 1] - before[:, 8], before[:, 1] - after[:, 8]
    is_apart = np.where(shift > 0, rise, fall) > APART
    return shift, (np.abs(shift) > OTHER_UNIT) | ((np.abs(shift) > TENFOLD) & is_apart)


def _times(log_factor: float) -> str:
    factor = float(np.exp(abs(log_factor)))
    return f"{factor:.0f} times" if log_factor > 0 else f"1/{factor:.0f} of"
