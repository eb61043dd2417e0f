"""Does a forecast order the tickers of a session? Information coefficients, one per session.

Matrices are ``[ticker, session]``; NaN where there is no forecast or no outcome. The market's move of a session is
common to all tickers and does not count, which makes a coefficient far less noisy than the accuracy of directions.

Source: Grinold and Kahn (2000), Active portfolio management; the rank version is Spearman's correlation (1904).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.autocorrelation import FEWEST_DAYS, long_run_mean
from financial_assets.scoring.intervals import Interval

Kind = Literal["rank", "linear"]
FEWEST_TICKERS = 10
"""Tickers of a session below which it gets no coefficient: of fewer its standard deviation is above one third."""


@dataclass(frozen=True, slots=True)
class RankingSkill:
    """Information coefficients of many sessions.

    Attributes
    ----------
    mean
        Mean coefficient, with an interval that allows for sessions that move together.
    p_value
        Two-sided, of a true mean of 0.
    ratio
        Mean over standard deviation of a session (ICIR), per session and not annualised; 0 without variation.
    sessions, left_out
        Sessions with a coefficient, and those without: too few tickers, or all forecasts or outcomes equal.
    """

    mean: Interval
    p_value: float
    ratio: float
    sessions: int
    left_out: int


def information_coefficients(
    forecasts: ArrayLike, outcomes: ArrayLike, kind: Kind = "rank", fewest: int = FEWEST_TICKERS
) -> NDArray[np.float64]:
    """Correlation of forecast and outcome over the tickers of each session ``[session]``.

    Parameters
    ----------
    forecasts, outcomes
        ``[ticker, session]``, in any unit; a ticker counts where both are known.
    kind
        ``rank``: Spearman's correlation, ties share their mean rank. ``linear``: Pearson's.
    fewest
        Tickers that a session needs, at least 2.

    Returns
    -------
    ndarray
        In [-1, 1]; NaN with fewer tickers, or where all forecasts or all outcomes are equal.

    Raises
    ------
    ValueError
        Shapes that differ or infinite values.
    """
    predicted, actual = np.array(forecasts, np.float64), np.array(outcomes, np.float64)
    if predicted.ndim != 2 or predicted.shape != actual.shape:
        raise ValueError(f"forecasts {predicted.shape} and outcomes {actual.shape} must both be [ticker, session]")
    if np.isinf(predicted).any() or np.isinf(actual).any():
        raise ValueError("forecasts and outcomes must be finite, or NaN where unknown")
    if fewest < 2:
        raise ValueError(f"fewest must be at least 2, not {fewest}")
    known = ~(np.isnan(predicted) | np.isnan(actual))
    counted = known.sum(axis=0)
    if kind == "rank":
        predicted, actual = _ranks(predicted, known), _ranks(actual, known)
    one, two = _centred(predicted, known, counted), _centred(actual, known, counted)
    spread = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    usable = (counted >= fewest) & (spread > 0)
    covariance = (one * two).sum(axis=0)
    return np.clip(np.divide(covariance, spread, out=np.full(len(spread), np.nan), where=usable), -1, 1)


def ranking_skill(
    forecasts: ArrayLike,
    outcomes: ArrayLike,
    kind: Kind = "rank",
    fewest: int = FEWEST_TICKERS,
    level: float = 0.95,
) -> RankingSkill:
    """Mean information coefficient of all sessions in order of time; parameters as for ``information_coefficients``.

    Outcomes may overlap: the interval is ``autocorrelation.long_run_mean``'s.

    Raises
    ------
    ValueError
        Bad arguments, or fewer than ``autocorrelation.FEWEST_DAYS`` sessions with a coefficient.
    """
    return skill_of(information_coefficients(forecasts, outcomes, kind, fewest), fewest, level)


def skill_of(every: NDArray[np.float64], fewest: int = FEWEST_TICKERS, level: float = 0.95) -> RankingSkill:
    """:func:`ranking_skill` of coefficients that are known ``[session]``, NaN where a session is not ranked."""
    found = every[~np.isnan(every)]
    if found.size < FEWEST_DAYS:
        raise ValueError(
            f"{found.size} of {every.size} sessions can be ranked, {FEWEST_DAYS} are needed: the others have fewer "
            f"than {fewest} tickers, or equal forecasts or outcomes"
        )
    tested = long_run_mean(found, level)
    deviation = float(found.std(ddof=1))
    ratio = tested.interval.estimate / deviation if deviation > 0 else 0.0
    return RankingSkill(tested.interval, tested.p_value, ratio, found.size, every.size - found.size)


def _ranks(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    from scipy import stats

    # What is unknown goes behind everything, where it changes nobody's rank.
    return np.asarray(stats.rankdata(np.where(known, values, np.inf), axis=0), np.float64)


def _centred(values: NDArray[np.float64], known: NDArray[np.bool_], counted: NDArray[np.int_]) -> NDArray[np.float64]:
    inside = np.where(known, values, 0.0)
    centred = np.where(known, inside - inside.sum(axis=0) / np.maximum(counted, 1), 0.0)
    # Equal values leave rounding behind, which is not a spread.
    largest = np.abs(inside).max(axis=0, initial=0.0)
    return np.where(np.abs(centred).max(axis=0, initial=0.0) > 1e-12 * largest, centred, 0.0)
