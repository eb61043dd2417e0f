"""Prices at another level: single slips, blocks in another unit, splits that were not applied.

A jump of level separates the ranges of two neighbouring bars and is far larger than what prices move around it in an
ordinary session. A jump that is taken back later is an error, whatever its factor and however long it lasts. One that
is not taken back is an error only where it matches a customary split or a change of unit and nobody traded more than
usual: news that halves a price brings turnover with it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from financial_assets.market.corporate_actions import customary_split
from financial_assets.market.quality.bars import Bars, median
from financial_assets.market.quality.results import Marks
from financial_assets.market.quality.values import IMPOSSIBLE_MOVE

SMALLEST_JUMP = np.log(1.15)
"""A 6:5 split is log 1.2."""

SMALLEST_REVERTED = np.log(1.35)
"""Smallest factor of a block or a slip: smaller ones are moves that a takeover rumour makes and takes back."""

SHORT_BLOCK = 20
"""Bars between two such moves that are named: quarterly results lie further apart."""

CLEAR, FAINT = 8.0, 2.0
"""Jumps are this many times the noise around them; the squeezes of 2021 reach 4. A fainter one, down to the second
number, can only be suspicious: a 6:5 split of a volatile share is as large as its largest moves."""

SEPARATED, BARELY_SEPARATED = 0.5, 0.25
"""Share of a jump by which the two bars' ranges lie apart: a real surge trades through the levels between. The second
number is for faint jumps."""

RETURN_NOISE = 4.0
"""By how many times the noise the way back may differ from the way there."""

QUIET_VOLUME = np.log(2.0)
"""With less than this a faint jump was no news."""

UNUSUAL_VOLUME = np.log(3.0)
"""Real news of that size multiplies turnover; a wrong unit does not."""

UNUSUAL_DAY = np.log(4.0)
"""The same where a split changes the volume, too."""

UNIT = np.log(10.0)
LARGE_SPLIT = np.log(1.9)
"""From 2:1 on, an unapplied split is impossible; a smaller one looks too much like a move."""


@dataclass(frozen=True)
class _Jumps:
    """Jumps of level, in order: first bar at the new level, size (log), noise around it, and whether it is clear."""

    at: np.ndarray
    size: np.ndarray
    noise: np.ndarray
    clear: np.ndarray


def mark_levels(bars: Bars) -> list[Marks]:
    """Blocks and slips at another level (impossible) and unapplied splits (impossible; small ones suspicious)."""
    jumps = _jumps(bars)
    blocks, open_ended = _pair(bars, jumps)
    marks = [_block_marks(bars, first, end) for first, end in blocks]
    return marks + _small_blocks(bars, jumps, open_ended) + _shift_marks(bars, jumps, open_ended)


def _jumps(bars: Bars) -> _Jumps:
    middle = 0.5 * (bars.open + bars.close)
    size = bars.step(middle)
    before_high, before_low = np.roll(bars.high, 1), np.roll(bars.low, 1)
    apart = np.where(size > 0, bars.low - before_high, before_low - bars.high)
    at = np.flatnonzero(bars.follows & (np.abs(size) > SMALLEST_JUMP) & (apart > BARELY_SEPARATED * np.abs(size)))
    noise = bars.noise(at)
    clear = (np.abs(size[at]) > CLEAR * noise) & (apart[at] > SEPARATED * np.abs(size[at]))
    kept = clear | (np.abs(size[at]) > FAINT * noise)
    return _Jumps(at[kept], size[at][kept], noise[kept], clear[kept])


def _pair(bars: Bars, jumps: _Jumps) -> tuple[list[tuple[int, int]], list[int]]:
    """Jumps that are taken back, as (first bar, bar after the last), and those that are not."""
    blocks: list[tuple[int, int]] = []
    unpaired: list[int] = []
    waiting: list[int] = []
    ticker = -1
    for jump, at in enumerate(jumps.at):
        if not jumps.clear[jump]:
            unpaired.append(jump)
            continue
        if bars.first[at] != ticker:
            unpaired += waiting
            waiting, ticker = [], int(bars.first[at])
        waiting.append(jump)
        # The longest run of jumps that adds up to nothing: two errors in a row come back in three jumps.
        for start in range(len(waiting) - 1):
            members = waiting[start:]
            if _comes_back(bars, jumps, members):
                blocks.append((int(jumps.at[members[0]]), int(at)))
                del waiting[start:]
                break
    return blocks, sorted(unpaired + waiting)


def _comes_back(bars: Bars, jumps: _Jumps, members: list[int]) -> bool:
    sizes, noise = jumps.size[members], float(jumps.noise[members].max())
    largest = float(sizes[np.abs(sizes).argmax()])
    # Of a factor of ten, nobody minds a tenth: the rule must not depend on the returns of the two days.
    slack = max(RETURN_NOISE * noise, 0.1 * abs(largest))
    if abs(sizes.sum()) > slack or abs(largest) < SMALLEST_REVERTED:
        return False
    if abs(largest - UNIT * np.round(largest / UNIT)) < slack:
        return True
    ends = jumps.at[[members[0], members[-1]]]
    # Without volumes the price has to do.
    return bool((np.nan_to_num(_volume_change(bars, ends, 1)) < UNUSUAL_VOLUME).any())


def _small_blocks(bars: Bars, jumps: _Jumps, open_ended: list[int]) -> list[Marks]:
    """Short spans between two clear jumps that undo each other, but are too small to be certain."""
    marks: list[Marks] = []
    for jump, back in itertools.pairwise(jump for jump in open_ended if jumps.clear[jump]):
        first, end = int(jumps.at[jump]), int(jumps.at[back])
        is_short = bars.first[first] == bars.first[end] and end - first <= SHORT_BLOCK
        if is_short and abs(jumps.size[jump] + jumps.size[back]) < RETURN_NOISE * jumps.noise[[jump, back]].max():
            problem = f"prices are {_times(jumps.size[jump])} those of the bars around"
            marks.append(Marks.all("suspicious", np.arange(first, end), problem))
    return marks


def _volume_change(bars: Bars, at: np.ndarray, days: int) -> np.ndarray:
    """Log of the median volume of ``days`` sessions from each of ``at`` over that of the twenty before (NaN: none)."""
    after = bars.around(at, bars.log_volume, 0, days - 1) if days > 1 else np.empty((len(at), 0))
    return median(np.column_stack([bars.log_volume[at], after])) - median(bars.around(at, bars.log_volume, 20, 0))


def _block_marks(bars: Bars, first: int, end: int) -> Marks:
    rows = np.arange(first, end)
    before = bars.around(np.array([first]), 0.5 * (bars.open + bars.close), 1, 0)[0, 0]
    inside = float(median((0.5 * (bars.open + bars.close))[rows][None, :])[0])
    return Marks.all("impossible", rows, f"prices are {_times(inside - before)} those of the bars around")


def _shift_marks(bars: Bars, jumps: _Jumps, open_ended: list[int]) -> list[Marks]:
    """Jumps that nothing takes back, where they match a customary split or a unit and nobody traded more than usual."""
    if not open_ended:
        return []
    chosen = np.array(open_ended)
    at, size, noise, clear = jumps.at[chosen], jumps.size[chosen], jumps.noise[chosen], jumps.clear[chosen]
    day, fortnight = _volume_change(bars, at, 1), _volume_change(bars, at, 10)
    # Raw volumes go against the price at a split; a squeeze or a crash brings more of them, or leaves them as they are.
    is_usual = np.fmin(np.abs(day), np.abs(day + size)) < UNUSUAL_DAY
    is_split = (np.abs(fortnight + size) < 0.5 * np.abs(size)) & (np.abs(day + size) < UNUSUAL_DAY)
    is_unit = np.abs(np.abs(size) - UNIT * np.round(np.abs(size) / UNIT)) < RETURN_NOISE * noise
    is_unit &= (np.abs(size) > 0.9 * UNIT) & is_usual
    # Whatever the factor and the volume: no share does that, and one such bar must not cost the whole history.
    is_unit |= np.abs(size) > IMPOSSIBLE_MOVE
    marks: list[Marks] = []
    shifts: dict[int, list[tuple[int, str]]] = {}
    for shift, place in enumerate(at):
        text = f"{bars.frame['date'].iloc[place]:%Y-%m-%d}"
        name = customary_split(-float(size[shift]), float(np.clip(2.0 * noise[shift], 0.01, 0.06)))
        if not clear[shift]:
            if name is None or not day[shift] < QUIET_VOLUME:
                continue
            problem = f"could be an unapplied {name} split on {text}: a gap without more volume than usual"
        elif name is not None and is_split[shift]:
            problem = f"looks like an unapplied {name} split on {text}"
        elif is_unit[shift]:
            problem = f"prices from {text} on are {_times(size[shift])} the earlier ones: another unit?"
        elif name is not None and not day[shift] > UNUSUAL_VOLUME:
            problem = f"could be an unapplied {name} split on {text}, but the volume does not change with it"
        else:
            continue
        is_large = abs(size[shift]) > LARGE_SPLIT
        if clear[shift] and (is_unit[shift] or (name is not None and is_split[shift] and is_large)):
            shifts.setdefault(int(bars.first[place]), []).append((int(place), problem))
        else:
            marks.append(Marks.all("suspicious", np.array([place]), problem))
    return marks + [mark for shift in shifts.values() for mark in _minority(bars, shift)]


def _minority(bars: Bars, shifts: list[tuple[int, str]]) -> list[Marks]:
    """All rows but those of the longest span without a shift: the others are in another unit than most."""
    first, end = int(bars.first[shifts[0][0]]), int(bars.last[shifts[0][0]]) + 1
    edges = [first, *(place for place, _ in shifts), end]
    longest = int(np.argmax(np.diff(edges)))
    problems = [problem for _, problem in shifts]
    return [
        # Each span is named after the shift that lies between it and the longest.
        Marks.all("impossible", np.arange(edges[span], edges[span + 1]), problems[span if span < longest else span - 1])
        for span in range(len(edges) - 1)
        if span != longest
    ]


def _times(log_factor: float) -> str:
    factor = float(np.exp(abs(log_factor)))
    number = f"{factor:.0f}" if factor >= 9.5 else f"{factor:.1f}" if factor >= 1.95 else f"{factor:.2f}"
    return f"about {number} times" if log_factor > 0 else f"about 1/{number} of"
