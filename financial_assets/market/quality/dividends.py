"""Adjusted closes that do not go with the closes: false dividends and splits, slips of one of the two."""

from __future__ import annotations

import numpy as np

from financial_assets.market.quality.bars import Bars, median
from financial_assets.market.quality.results import Marks
from financial_assets.market.quality.values import TICK

SMALLEST_DIVIDEND, CLEAR_DIVIDEND = 0.04, 4.0
"""Smallest adjustment (log) that is judged, absolutely and in times the noise: a smaller one hides in a day's move."""

SLIP = 0.02
"""Relative difference between close and adj_close that one bar alone cannot have."""

UNEVEN, UNEVEN_WINDOW, UNEVEN_COUNT = 2e-3, 10, 6
"""Steps between close and adj_close, and how many of ten bars may have them: dividends are months apart."""

LARGE_SPLIT, UNDONE_WITHIN = np.log(1.9), 250
"""Splits (log) in close / adj_close, and the number of bars in which nobody splits and then takes the split back."""

VISIBLE_SPLIT = np.log(2.9)
"""Splits that stand out from what volume does anyway."""

SMALLEST_NEGATIVE, SMALLEST_SPLIT = 5e-3, np.log(1.15)


def mark_adjustments(bars: Bars) -> list[Marks]:
    """Close and adj_close that disagree (impossible) and adjustments that the price does not show (suspicious)."""
    # Sources round to cents: of an adjusted close of 0.09, a cent is a tenth.
    rounding = 1.2 * TICK * np.exp(-np.minimum(bars.close, bars.close + bars.factor))
    step = bars.step(bars.factor)
    back = bars.after(step)
    with np.errstate(invalid="ignore"):
        slip = (np.abs(step) > SLIP + rounding) & (np.abs(step + back) < 0.1 * np.abs(step) + rounding)
        uneven = np.abs(step) > UNEVEN + rounding
    total = np.concatenate([[0], np.cumsum(uneven)])
    here = np.arange(len(step))
    start = np.maximum(here - UNEVEN_WINDOW // 2, bars.first)
    end = np.minimum(here + UNEVEN_WINDOW // 2, bars.last) + 1
    shifted = uneven & (total[end] - total[start] >= UNEVEN_COUNT)
    return [
        Marks.all("impossible", np.flatnonzero(slip & ~shifted), "close and adj_close disagree on this bar only"),
        Marks.all("impossible", np.flatnonzero(shifted), "adj_close does not follow close: shifted by a session?"),
        *_split_marks(bars, step),
        _false_adjustments(bars, -step, slip | shifted | np.roll(slip, 1)),
        _negative_dividends(bars, step, rounding),
    ]


def _split_marks(bars: Bars, step: np.ndarray) -> list[Marks]:
    """Splits in close / adj_close that are undone, or that the volume does not show: the close is in another unit.

    Adjusted prices are right there, so that nothing else notices it, but volumes are adjusted by the same factor.
    """
    at = np.flatnonzero(np.abs(step) > LARGE_SPLIT)
    marks: list[Marks] = []
    undone = np.zeros(len(at), dtype=bool)
    for jump in range(len(at) - 1):
        first, end = int(at[jump]), int(at[jump + 1])
        is_near = bars.first[first] == bars.first[end] and end - first <= UNDONE_WITHIN
        if is_near and not undone[jump] and abs(step[first] + step[end]) < 0.1 * abs(step[first]):
            undone[jump : jump + 2] = True
            problem = "close and adj_close disagree from here until they agree again: one is in another unit"
            marks.append(Marks.all("impossible", np.arange(first, end), problem))
    at = at[~undone & (np.abs(step[at]) > VISIBLE_SPLIT)]
    after = median(np.column_stack([bars.log_volume[at], bars.around(at, bars.log_volume, 0, 9)]))
    change = after - median(bars.around(at, bars.log_volume, 20, 0))
    # Shares traded grow by as much as the price falls.
    unseen = at[np.abs(change) < np.abs(change + step[at])]
    factors = np.exp(np.abs(step[unseen]))
    problems = [
        f"adj_close implies a split by {factor:.3g} that the volume does not show: close in another unit?"
        for factor in factors
    ]
    return [*marks, Marks("suspicious", unseen, problems)]


def _negative_dividends(bars: Bars, step: np.ndarray, rounding: np.ndarray) -> Marks:
    """Days on which adj_close falls behind the close: nobody pays a negative dividend, and no split is that small."""
    at = np.flatnonzero((step > SMALLEST_NEGATIVE + rounding) & (step < SMALLEST_SPLIT))
    problems = [f"adj_close is lowered by {100 * -np.expm1(-step[row]):.1f} % against the close" for row in at]
    return Marks("suspicious", at, problems)


def _false_adjustments(bars: Bars, adjustment: np.ndarray, known: np.ndarray) -> Marks:
    """Days on which adj_close says dividend or split, and the close moves as on any other day."""
    at = np.flatnonzero((np.abs(adjustment) > SMALLEST_DIVIDEND) & ~known)
    size, raw = adjustment[at], bars.step(bars.close + bars.factor)[at]
    # On a true ex-date the close falls by what the adjustment adds.
    false = (np.abs(size) > CLEAR_DIVIDEND * bars.noise(at)) & (np.abs(raw) < 0.5 * np.abs(raw + size))
    at, size = at[false], size[false]
    problems = [
        f"adj_close implies a distribution of {100 * -np.expm1(-value):.0f} % that the close does not show"
        if value > 0
        else f"adj_close is lowered by {100 * -np.expm1(value):.0f} % against the close"
        for value in size
    ]
    return Marks("suspicious", at, problems)
