"""Paired scores: two forecasters on the same rows, compared row by row and day by day; larger is better.

This is the only definition of a paired difference. Plan, evidence, comparisons and candidates all use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from financial_assets.experiment.prediction_log.schema import QUANTILE_COLUMNS
from financial_assets.scoring.classification import hits, log_losses, squared_errors
from financial_assets.scoring.quantiles import QUANTILE_LEVELS, pinball_losses

KEYS = ["session", "ticker"]
"""What identifies a row of a forecaster."""

PairedMetric = Literal["accuracy", "brier", "log_loss", "pinball"]
"""``accuracy`` and ``brier``: daily differences lie in [-1, 1]. ``log_loss`` (nats) and ``pinball`` (mean over the five
quantiles, in log return) have no bound: tests clip their daily differences at a size that is registered beforehand."""


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


def answer_columns(metric: PairedMetric) -> tuple[str, ...]:
    """Columns of a prediction that the score needs."""
    return QUANTILE_COLUMNS if metric == "pinball" else ("probability_up",)


def in_words(value: float, metric: PairedMetric) -> str:
    """A difference with its sign; losses are small numbers, of which three digits are kept."""
    return f"{value:+.3f}" if metric == "accuracy" else f"{value:+.3g}"


def paired_score(metric: PairedMetric, answers: pd.DataFrame, up: np.ndarray, log_return: np.ndarray) -> np.ndarray:
    """The score of each row, larger is better: a hit, or a loss with its sign turned.

    Parameters
    ----------
    metric
        Which.
    answers
        Columns of :func:`answer_columns`, without gaps.
    up, log_return
        Outcomes ``[row]``.
    """
    if metric == "pinball":
        losses = [
            pinball_losses(log_return, answers[column].to_numpy(np.float64), level)
            for column, level in zip(QUANTILE_COLUMNS, QUANTILE_LEVELS, strict=True)
        ]
        return -np.mean(losses, axis=0)
    probability = answers["probability_up"].to_numpy(np.float64)
    if metric == "accuracy":
        return hits(probability, up).astype(np.float64)
    return -(squared_errors(probability, up) if metric == "brier" else log_losses(probability, up))


def paired_differences(first: pd.DataFrame, second: pd.DataFrame, metric: PairedMetric) -> pd.DataFrame:
    """Score of the first forecaster minus that of the second on every row that both answered.

    Parameters
    ----------
    first
        Each row once: ``session``, ``ticker``, the columns of :func:`answer_columns`, ``up``, ``log_return``. Rows
        without an answer (NaN) are left out.
    second
        The same without the outcomes, which are those of ``first``.
    metric
        By which score.

    Returns
    -------
    pandas.DataFrame
        ``session``, ``ticker``, ``difference``, in the order of ``first``.
    """
    columns = [*answer_columns(metric)]
    ours, theirs = without_gaps(first, columns), without_gaps(second, columns)
    if not same_keys(ours, theirs):
        ours = ours.merge(theirs[KEYS], on=KEYS, validate="1:1")
        theirs = ours[KEYS].merge(theirs[[*KEYS, *columns]], on=KEYS, validate="1:1")  # now row by row the same bars
    if ours.empty:
        return ours[KEYS].assign(difference=np.empty(0))
    outcome = ours["up"].to_numpy(bool), ours["log_return"].to_numpy(np.float64)
    scores = (paired_score(metric, frame[columns], *outcome) for frame in (ours, theirs))
    return ours[KEYS].assign(difference=next(scores) - next(scores))


def daily_means(rows: pd.DataFrame) -> PairedDays:
    """One number per session: the mean of the rows' ``difference`` over its tickers.

    Tickers of one session move together, so that a session, not a row, is the unit of evidence.
    """
    if rows.empty:
        return PairedDays(pd.DatetimeIndex([]), np.empty(0), 0, 0)
    daily = rows["difference"].groupby(rows["session"].to_numpy(), sort=True).mean()
    unequal = int(np.count_nonzero(rows["difference"]))
    return PairedDays(pd.DatetimeIndex(daily.index), daily.to_numpy(np.float64), len(rows), unequal)


def paired_days(first: pd.DataFrame, second: pd.DataFrame, metric: PairedMetric) -> PairedDays:
    """The daily means of :func:`paired_differences`."""
    return daily_means(paired_differences(first, second, metric))


def rows_of(frame: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``frame`` for the sessions and tickers of ``keys``, each once, in the order of ``frame``."""
    return frame if same_keys(frame, keys) else frame.merge(keys[KEYS], on=KEYS, validate="1:1")


def without_gaps(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows that have numbers in all of these columns; the frame itself, where all do."""
    known = np.logical_and.reduce([rows[name].notna().to_numpy() for name in columns])
    return rows if known.all() else rows[known]


def same_keys(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether two frames have the same sessions and tickers in the same order, so that no merge is needed."""
    return len(first) == len(second) and all(
        np.array_equal(first[name].to_numpy(), second[name].to_numpy()) for name in KEYS
    )
