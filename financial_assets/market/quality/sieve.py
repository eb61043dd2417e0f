"""One rule after the other passes over delivered bars: rows taken out, doubted or repaired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from financial_assets.market.frames import (
    PRICE_COLUMNS,
    code_of,
    has_repeats,
    in_order,
    numbered,
    sort_prices,
    ticker_codes,
)
from financial_assets.market.quality.bars import Bars
from financial_assets.market.quality.dividends import mark_adjustments
from financial_assets.market.quality.levels import mark_levels
from financial_assets.market.quality.overrides import Override, covered, repair
from financial_assets.market.quality.repairs import order_faults, repeated_rows, widen
from financial_assets.market.quality.results import Marks, Severity
from financial_assets.market.quality.shapes import mark_copies, mark_wicks, not_traded
from financial_assets.market.quality.values import EXTREME_MOVE, IMPOSSIBLE_MOVE
from financial_assets.market.quality.volumes import mark_volumes

SAME = 1e-5
"""Relative difference below which a stored and a delivered value are the same."""


_TOGETHER = 2**16
"""Bars that are judged together: more, and each of their many series is new memory that nobody has touched yet."""


@dataclass
class Sieve:
    """Rows still in, and what was taken out of them, while one rule after the other passes over them.

    Attributes
    ----------
    rows
        Still in; their index is that of ``delivered``.
    accept
        Overrides that keep what the rules doubt.
    delivered
        Rows as the source gave them, which is how they are shown.
    taken, doubted, repaired
        Tables with ``rule`` and ``problem``.
    leaps
        Tickers whose price is left with a move by more than a factor of 1000.
    """

    rows: pd.DataFrame
    accept: Sequence[Override]
    delivered: pd.DataFrame
    taken: list[pd.DataFrame] = field(default_factory=list)
    doubted: list[pd.DataFrame] = field(default_factory=list)
    repaired: list[pd.DataFrame] = field(default_factory=list)
    leaps: set[str] = field(default_factory=set)

    def take(self, masks: Sequence[tuple[np.ndarray | pd.Series, str]], rule: str, *, final: bool = False) -> None:
        """Take out the rows of ``masks``, each with its first problem; an override keeps all but ``final`` ones."""
        faulty = np.logical_or.reduce([np.asarray(mask, dtype=bool) for mask, _ in masks])
        if not faulty.any():
            return
        at = np.flatnonzero(faulty)
        names = np.array([problem for _, problem in masks], dtype=object)
        first = np.stack([np.asarray(mask, dtype=bool)[at] for mask, _ in masks]).argmax(axis=0)
        self.take_rows(at, names[first], rule, final=final)

    def take_rows(self, at: np.ndarray, problems: np.ndarray, rule: str, *, final: bool = False) -> None:
        """Take out the rows at positions ``at``, which are in order and occur once."""
        if not len(at):
            return
        rows = self.rows.iloc[at]
        keep = np.zeros(len(at), dtype=bool) if final else covered(rows, self.accept)
        self.taken.append(self._shown(rows[~keep], problems[~keep], rule))
        self.rows = self.rows.drop(index=rows.index[~keep])

    def doubt(self, at: np.ndarray, problems: np.ndarray, rule: str) -> None:
        """Keep the rows at positions ``at``, but say what is suspicious about them."""
        if not len(at):
            return
        rows = self.rows.iloc[at]
        keep = covered(rows, self.accept)
        self.doubted.append(self._shown(rows[~keep], problems[~keep], rule))

    def note_repair(self, rows: pd.DataFrame, problem: str, rule: str) -> None:
        """Count rows that were changed, or of which a copy was left out."""
        self.repaired.append(self._shown(rows, np.full(len(rows), problem, dtype=object), rule))

    def _shown(self, rows: pd.DataFrame, problems: np.ndarray, rule: str) -> pd.DataFrame:
        return self.delivered.loc[rows.index, list(PRICE_COLUMNS)].assign(rule=rule, problem=problems)


def apply_overrides(sieve: Sieve, overrides: Sequence[Override]) -> tuple[tuple[Override, int], ...]:
    """Drop and repair what a person has decided; each override with the number of rows in its span."""
    counts: list[tuple[Override, int]] = []
    for override in overrides:
        rows = covered(sieve.rows, [override])
        counts.append((override, int(rows.sum())))
        if override.action == "drop":
            sieve.rows = sieve.rows[~rows]
        elif override.action == "repair":
            sieve.rows, rows = repair(sieve.rows, override)
            sieve.note_repair(sieve.rows[rows], f"repaired by QUALITY_OVERRIDES: {override.reason}", "override")
    return tuple(counts)


def take_repeats(sieve: Sieve, *, repairs: bool) -> None:
    """Leave out copies of a row (only if ``repairs``), and all rows of a key that has different values."""
    if not has_repeats(sieve.rows):
        return
    if repairs and (copies := repeated_rows(sieve.rows)).any():
        sieve.note_repair(sieve.rows[copies], "the row occurs more than once: copies left out", "duplicates")
        sieve.rows = sieve.rows[~copies]
    twice = sieve.rows.duplicated(["ticker", "date"], keep=False).to_numpy()
    sieve.take([(twice, "this ticker and date occur more than once, with different values")], "duplicates", final=True)


def sort_rows(sieve: Sieve) -> None:
    """Bring the rows into order, by ticker and date, and count those that were not."""
    if in_order(ticker_codes(sieve.rows["ticker"], sort=True)[0], sieve.rows["date"].to_numpy()):
        return
    rows = sieve.rows.sort_values(["ticker", "date"], kind="stable")
    moved = rows.index.to_numpy()
    if len(moved) and (np.diff(moved) < 0).any():
        behind = np.maximum.accumulate(sieve.rows.index.to_numpy()) > moved
        sieve.note_repair(rows[behind], "the row was out of order: sorted", "schema")
    sieve.rows = rows


def fit_ranges(sieve: Sieve, *, repairs: bool) -> None:
    """Widen high and low that miss the body by a tick (only if ``repairs``); take out those that miss it by more."""
    slight, rules = order_faults(sieve.rows)
    if repairs and slight.any():
        sieve.note_repair(
            sieve.rows[slight], "high or low widened to the body, which it missed by a tick", "ohlc_order"
        )
        sieve.rows = widen(sieve.rows, slight)
    elif slight.any():
        rules = [*rules, (slight, "high or low misses the body")]
    sieve.take(rules, "ohlc_order", final=False)


def judge_neighbours(sieve: Sieve, stored: pd.DataFrame, *, rejudge: bool) -> None:
    """Rules between bars, over stored and delivered ones together; the rows are in order.

    With ``rejudge`` stored bars are taken out or doubted like delivered ones: that a level was wrong shows only when it
    is left again. Otherwise they are neighbours only.
    """
    numbers, others, _ = numbered(sieve.rows, stored)
    if (others < 0).any():
        stored, others = stored[others >= 0], others[others >= 0]
    if (np.diff(others) < 0).any():
        judge_neighbours(sieve, sort_prices(stored), rejudge=rejudge)
        return
    tickers, bars = int(code_of(numbers[-1])) + 1, len(numbers) + len(others)
    edges = np.linspace(0, tickers, 1 + min(tickers, -(-bars // _TOGETHER))).astype(np.int64)
    starts, beside = np.searchsorted(code_of(numbers), edges), np.searchsorted(code_of(others), edges)
    gone: list[pd.Index] = []
    for place in range(len(edges) - 1):
        mine, theirs = slice(*starts[place : place + 2]), slice(*beside[place : place + 2])
        delivered = sieve.rows.iloc[mine]
        rows = _in_context(delivered, numbers[mine], stored.iloc[theirs], others[theirs])
        # Rows are looked up by their index: where none has been changed yet, they are as they were delivered.
        shown = rows
        if sieve.rows is not sieve.delivered:
            shown = pd.concat([rows[rows.index < 0], sieve.delivered.loc[delivered.index]])
        judged = _judged(Sieve(rows, sieve.accept, shown))
        sieve.leaps |= judged.leaps
        sieve.taken += [table if rejudge else table[table.index >= 0] for table in judged.taken]
        sieve.doubted += [table if rejudge else table[table.index >= 0] for table in judged.doubted]
        gone += [table.index[table.index >= 0] for table in judged.taken]
    if any(map(len, gone)):
        sieve.rows = sieve.rows.drop(index=pd.Index(np.concatenate(gone)))


def _judged(sieve: Sieve) -> Sieve:
    """The sieve after the rules between bars."""
    bars = Bars.of(sieve.rows)
    take_marks(sieve, bars, [mark_adjustments, mark_levels, mark_copies])
    # Wicks, volumes and moves are judged by their neighbours, which must not be in another unit.
    bars = _bars_left(sieve, bars)
    take_marks(sieve, bars, [mark_wicks, mark_volumes])
    idle = np.flatnonzero(not_traded(sieve.rows))
    sieve.doubt(idle, np.full(len(idle), "no volume at an unchanged close: not traded", dtype=object), "consistency")
    _doubt_moves(sieve, _bars_left(sieve, bars))
    return sieve


def _bars_left(sieve: Sieve, bars: Bars) -> Bars:
    """The bars of the rows that are still in: ``bars``, where nothing was taken out since."""
    return bars if len(sieve.rows) == len(bars.frame) else Bars.of(sieve.rows)


def _in_context(rows: pd.DataFrame, numbers: np.ndarray, stored: pd.DataFrame, others: np.ndarray) -> pd.DataFrame:
    """The rows among stored bars, which have a negative index; without bars of a restated history.

    ``numbers`` and ``others`` are those of both, in order: see ``numbered``.
    """
    place = np.searchsorted(numbers, others)
    again = numbers[np.minimum(place, len(numbers) - 1)] == others
    differs = np.zeros(len(stored), dtype=bool)
    for name in ("close", "adj_close"):
        before, after = stored[name].to_numpy()[again], rows[name].to_numpy()[place[again]]
        differs[again] |= np.abs(after - before) > SAME * before
    # Two scales side by side would look like a split.
    codes = code_of(others)
    kept = np.flatnonzero(~again & ~np.isin(codes, np.unique(codes[differs])))
    if not len(kept):
        return rows
    # Both are in order: a stored bar comes behind the rows before it. To sort them all would take three times as long.
    behind = np.arange(len(kept)) + place[kept]
    is_row = np.ones(len(rows) + len(kept), dtype=bool)
    is_row[behind] = False
    order = np.empty(len(is_row), dtype=np.intp)
    order[is_row], order[behind] = np.arange(len(rows)), len(rows) + kept
    columns = {
        name: np.concatenate([rows[name].to_numpy(), stored[name].to_numpy()]).take(order) for name in PRICE_COLUMNS
    }
    index = np.empty(len(is_row), dtype=np.intp)
    index[is_row], index[behind] = rows.index.to_numpy(), -1 - np.arange(len(kept))
    return pd.DataFrame(columns, index=pd.Index(index), copy=False)


def take_marks(sieve: Sieve, bars: Bars, rules: Sequence[Callable[[Bars], list[Marks]]]) -> None:
    """Take out or doubt the rows that ``rules`` mark."""
    marks = [mark for rule in rules for mark in rule(bars)]
    # Doubts first: their positions are those before anything is taken out.
    sieve.doubt(*_first_problems(marks, "suspicious"), "consistency")
    sieve.take_rows(*_first_problems(marks, "impossible"), "consistency")


def _first_problems(marks: Sequence[Marks], severity: Severity) -> tuple[np.ndarray, np.ndarray]:
    chosen = [mark for mark in marks if mark.severity == severity and len(mark.rows)]
    if not chosen:
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=object)
    problems = np.array([problem for mark in chosen for problem in mark.problems], dtype=object)
    at, first = np.unique(np.concatenate([mark.rows for mark in chosen]), return_index=True)
    return at, problems[first]


def _doubt_moves(sieve: Sieve, bars: Bars) -> None:
    moves = bars.step(bars.close)
    at = np.flatnonzero(np.abs(moves) > EXTREME_MOVE)
    with np.errstate(over="ignore"):
        texts = [f"adj_close moved {value:+.1f} % since the bar before" for value in 100.0 * np.expm1(moves[at])]
    sieve.doubt(at, np.array(texts, dtype=object), "extreme_moves")
    sieve.leaps = {str(name) for name in bars.frame["ticker"].iloc[np.abs(moves) > IMPOSSIBLE_MOVE]}
