"""What a rule reports: offending rows of a frame with what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from financial_assets.market.frames import PRICE_COLUMNS

Severity = Literal["impossible", "suspicious"]
"""``impossible``: cannot be true, and is kept out. ``suspicious``: may be true, and is kept with a warning."""


@dataclass(frozen=True)
class QualityResult:
    """What one rule found.

    Attributes
    ----------
    name
        The rule.
    passed
        Whether no row breaks it.
    blocking
        Whether a failure must stop the data.
    description
        What the rule asks for.
    failures
        The offending rows: the price columns and ``problem``. A missing bar is a row without values.
    checked
        Number of rows looked at.
    """

    name: str
    passed: bool
    blocking: bool
    description: str
    failures: pd.DataFrame
    checked: int


@dataclass(frozen=True)
class Marks:
    """Rows of one frame that a rule marks.

    Attributes
    ----------
    severity
        Of all of them.
    rows
        Positions in the frame: int ``[n]``.
    problems
        What is wrong with each: ``[n]``.
    """

    severity: Severity
    rows: np.ndarray
    problems: Sequence[str]

    @classmethod
    def all(cls, severity: Severity, rows: np.ndarray, problem: str) -> Marks:
        """The same problem for every one of ``rows``."""
        return cls(severity, rows, [problem] * len(rows))


_NO_PROBLEMS = pd.Series(dtype="object")


def failure_table(
    frame: pd.DataFrame, rules: Iterable[tuple[np.ndarray | pd.Series, str]], *, shown: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The rows that each mask marks, with its problem, sorted by date and ticker.

    Parameters
    ----------
    frame
        The parsed frame.
    rules
        Masks over its rows and what is wrong with the marked ones.
    shown
        What to show instead of ``frame``, row by row.
    """
    marked = [(np.flatnonzero(np.asarray(mask, dtype=bool)), problem) for mask, problem in rules]
    if not any(len(at) for at, _ in marked):
        return (frame if shown is None else shown).iloc[:0][list(PRICE_COLUMNS)].assign(problem=_NO_PROBLEMS)
    rows = np.concatenate([np.empty(0, dtype=np.intp), *(at for at, _ in marked)])
    table = (frame if shown is None else shown).iloc[rows][list(PRICE_COLUMNS)].reset_index(drop=True)
    table["problem"] = pd.Series([problem for at, problem in marked for _ in at], dtype="object")
    keys = frame.iloc[rows][["date", "ticker"]].reset_index(drop=True)
    order = keys.sort_values(["date", "ticker"], kind="stable").index
    return table.loc[order].reset_index(drop=True)
