"""Paired scores: two forecasters on the same rows, compared row by row and day by day; larger is better.

This is the only definition of a paired difference. Plan, evidence, comparisons and candidates all use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.experiment.metrics.metric import Metric

KEYS = ["session", "ticker"]
"""What identifies a row of a forecaster."""


@dataclass(frozen=True, slots=True, eq=False)
class PairedDays:
    """Daily mean differences of a score between two forecasters, in order.

    Attributes
    ----------
    sessions
        Days with a known outcome ``[days]``.
    differences
        First minus second, mean over the tickers of the day ``[days]``.
    rows, disagreements
        Predictions behind them, and those on which the two scores differed.
    """

    sessions: pd.DatetimeIndex
    differences: np.ndarray
    rows: int
    disagreements: int

    def __len__(self) -> int:
        return len(self.differences)


def paired_differences(first: pd.DataFrame, second: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Score of the first forecaster minus that of the second on every row that both answered.

    Parameters
    ----------
    first
        Each row once: ``session``, ``ticker``, and the metric's ``answers`` and ``outcomes``. Rows without an answer or
        whose outcome is not known yet (NaN) are left out, and sessions of fewer than ``fewest_tickers`` of the others.
    second
        The same without the outcomes, which are those of ``first``.
    metric
        By which score.

    Returns
    -------
    pandas.DataFrame
        ``session``, ``ticker``, ``difference``, in the order of ``first``.
    """
    answers, outcomes = [*metric.answers], [name for name in metric.outcomes if name != "previous"]
    if same_keys(first, second):  # row by row the same bars: nothing to join
        known = _without_gaps(first, [*answers, *outcomes]) & _without_gaps(second, answers)
        ours, theirs = (frame if known.all() else frame[known] for frame in (first, second))
    else:
        ours, theirs = without_gaps(first, [*answers, *outcomes]), without_gaps(second, answers)
        ours = ours.merge(theirs[KEYS], on=KEYS, validate="1:1")
        theirs = ours[KEYS].merge(theirs[[*KEYS, *answers]], on=KEYS, validate="1:1")
    if metric.fewest_tickers > 1:
        _, place, sizes = np.unique(ours["session"].to_numpy(), return_inverse=True, return_counts=True)
        enough = sizes[place] >= metric.fewest_tickers
        ours, theirs = (frame if enough.all() else frame[enough] for frame in (ours, theirs))
    keys = {name: ours[name].to_numpy() for name in KEYS}
    if ours.empty:
        return pd.DataFrame({**keys, "difference": np.empty(0)})
    settled = keys | {name: ours[name].to_numpy() for name in metric.outcomes}
    # Frames of columns as they are: a day has few rows, and slicing and joining frames would cost more than the scores.
    one, other = (
        np.asarray(metric.scores(pd.DataFrame(settled | _numbers(frame, answers), copy=False)))
        for frame in (ours, theirs)
    )
    return pd.DataFrame({**keys, "difference": one - other}, copy=False)


def _numbers(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: frame[name].to_numpy(np.float64) for name in names}


def daily_means(rows: pd.DataFrame) -> PairedDays:
    """One number per session: the mean of the rows' ``difference`` over its tickers.

    Tickers of one session move together, so that a session, not a row, is the unit of evidence.
    """
    if rows.empty:
        return PairedDays(pd.DatetimeIndex([]), np.empty(0), 0, 0)
    daily = rows["difference"].groupby(rows["session"].to_numpy(), sort=True).mean()
    unequal = int(np.count_nonzero(rows["difference"]))
    return PairedDays(pd.DatetimeIndex(daily.index), daily.to_numpy(np.float64), len(rows), unequal)


def paired_days(first: pd.DataFrame, second: pd.DataFrame, metric: Metric) -> PairedDays:
    """The daily means of :func:`paired_differences`."""
    return daily_means(paired_differences(first, second, metric))


def rows_of(frame: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``frame`` for the sessions and tickers of ``keys``, each once, in the order of ``frame``."""
    return frame if same_keys(frame, keys) else frame.merge(keys[KEYS], on=KEYS, validate="1:1")


def without_gaps(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows that have numbers in all of these columns; the frame itself, where all do."""
    known = _without_gaps(rows, columns)
    return rows if known.all() else rows[known]


def _without_gaps(rows: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    return np.logical_and.reduce([_is_known(rows[name].to_numpy()) for name in columns])


def _is_known(values: np.ndarray) -> np.ndarray:
    return ~np.isnan(values) if values.dtype.kind == "f" else np.asarray(pd.notna(values))


def same_keys(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether two frames have the same sessions and tickers in the same order, so that no merge is needed."""
    return len(first) == len(second) and all(
        np.array_equal(first[name].to_numpy(), second[name].to_numpy()) for name in KEYS
    )
