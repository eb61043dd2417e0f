"""Paired scores: two forecasters on the same rows, compared row by row and day by day; larger is better.

This is the only definition of a paired difference. Plan, evidence, comparisons and candidates all use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from financial_assets.experiment.keyed_rows import places
from financial_assets.experiment.metrics.compensated import group_means
from financial_assets.experiment.metrics.metric import Metric, Rows

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
    return pd.DataFrame(paired_columns(first, second, metric), copy=False)


def paired_columns(first: Rows, second: Rows, metric: Metric) -> dict[str, NDArray[Any]]:
    """:func:`paired_differences` as columns: of the few rows of a day, frames would cost more than the scores."""
    answers, outcomes = [*metric.answers], [name for name in metric.outcomes if name != "previous"]
    ours = {name: np.asarray(first[name]) for name in (*KEYS, *metric.outcomes)} | _numbers(first, answers)
    theirs = {name: np.asarray(second[name]) for name in KEYS} | _numbers(second, answers)
    known = _without_gaps(ours, [*answers, *outcomes])
    if same_keys(ours, theirs):  # row by row the same bars: nothing to join
        known &= _without_gaps(theirs, answers)
    else:
        place = places(ours, theirs)
        places(theirs, ours)  # refuses repeats among ours as well
        known &= place >= 0
        ours = {name: values[known] for name, values in ours.items()}
        theirs = {name: values[place[known]] for name, values in theirs.items()}
        known = _without_gaps(theirs, answers)
    if metric.fewest_tickers > 1 and known.any():
        _, session = np.unique(ours["session"], return_inverse=True)
        known &= np.bincount(session, weights=known)[session] >= metric.fewest_tickers
    if not known.all():
        ours, theirs = ({name: values[known] for name, values in one.items()} for one in (ours, theirs))
    keys = {name: ours[name] for name in KEYS}
    if not len(ours["session"]):
        return {**keys, "difference": np.empty(0)}
    one, other = metric.scores(ours), metric.scores(ours | {name: theirs[name] for name in answers})
    return {**keys, "difference": np.asarray(one) - np.asarray(other)}


def _numbers(rows: Rows, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    return {name: np.asarray(rows[name], np.float64) for name in names}


def daily_means(rows: pd.DataFrame) -> PairedDays:
    """One number per session: the mean of the rows' ``difference`` over its tickers.

    Tickers of one session move together, so that a session, not a row, is the unit of evidence.
    """
    if rows.empty:
        return PairedDays(pd.DatetimeIndex([]), np.empty(0), 0, 0)
    difference = rows["difference"].to_numpy(np.float64)
    sessions, place = np.unique(rows["session"].to_numpy(), return_inverse=True)
    means = group_means(difference, place, len(sessions))
    return PairedDays(pd.DatetimeIndex(sessions), means, len(rows), int(np.count_nonzero(difference)))


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


def _without_gaps(rows: Rows, columns: Sequence[str]) -> NDArray[np.bool_]:
    return np.logical_and.reduce([_is_known(np.asarray(rows[name])) for name in columns])


def _is_known(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind == "b":
        return np.ones(len(values), bool)
    return ~np.isnan(values) if values.dtype.kind == "f" else np.asarray(pd.notna(values))


def same_keys(first: Rows, second: Rows) -> bool:
    """Whether two tables have the same sessions and tickers in the same order, so that there is nothing to join."""
    return all(np.array_equal(np.asarray(first[name]), np.asarray(second[name])) for name in KEYS)
