"""Scores of the order that a model puts the universe in, one session at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from financial_assets.experiment.metrics.books import book_returns
from financial_assets.experiment.metrics.metric import Metric, Rows, Unit
from financial_assets.portfolio.books import long_short
from financial_assets.scoring.ranking import information_coefficients

BASELINES = ("reversal", "momentum")
"""What a ranking must be compared with: the order of the last session's moves turned round, and of the last month's."""

FEWEST_TICKERS = 20
"""Tickers of a session below which it is not ranked: its coefficient would have a standard error above 0.23."""

_Figure = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def _rank_ic(rows: Rows) -> NDArray[np.float64]:
    """Spearman's correlation of score and outcome over the session, on each of its rows."""

    def figure(score: NDArray[np.float64], outcome: NDArray[np.float64]) -> NDArray[np.float64]:
        coefficient = information_coefficients(score[:, None], outcome[:, None], fewest=FEWEST_TICKERS)[0]
        # Equal scores order nothing, which is worth nothing.
        return np.full(len(score), 0.0 if np.isnan(coefficient) else coefficient)

    return _by_session(rows, "excess", figure)


def _excess_accuracy(rows: Rows) -> NDArray[np.float64]:
    """Whether a ticker is on the side of the session's median that its score names; one half where it names none."""

    def figure(score: NDArray[np.float64], outcome: NDArray[np.float64]) -> NDArray[np.float64]:
        said, was = np.sign(score - np.median(score)), np.sign(outcome - np.median(outcome))
        return (1 + said * was) / 2

    return _by_session(rows, "excess", figure)


def _long_short(rows: Rows) -> NDArray[np.float64]:
    """Net return of being long the best fifth and short the worst, the capital being the sum of both sides."""

    def figure(score: NDArray[np.float64], _outcome: NDArray[np.float64]) -> NDArray[np.float64]:
        # Times the tickers, so that the mean over them is the return of the book.
        return len(score) * long_short(score[:, None])[:, 0]

    return book_returns(rows, _by_session(rows, "traded_return", figure))


def _by_session(rows: Rows, outcome: str, figure: _Figure) -> NDArray[np.float64]:
    """A figure of the scores and outcomes of each session, by ticker within it, in the order of ``rows``."""
    # Sorted and one session at a time: sums of floats depend on their order and on what stands beside them.
    session = np.asarray(rows["session"])
    order = np.lexsort((pd.factorize(np.asarray(rows["ticker"], object), sort=True)[0], session))
    score, happened = (np.asarray(rows[name], np.float64)[order] for name in ("excess_return", outcome))
    starts = np.flatnonzero(np.diff(session[order].astype(np.int64), prepend=-1))
    found = np.empty(len(session))
    for first, last in zip(starts, [*starts[1:], len(session)], strict=True):
        found[order[first:last]] = figure(score[first:last], happened[first:last])
    return found


# Plausible is an information coefficient of .02, of which few published signals have more. It is one half and .02 / pi
# of the tickers on the right side of the median, and 4 basis points a session of a book that is long the best fifth and
# short the worst, of moves of 1.5 % against each other: .02 * 1.4 * 1.5 %.
RANKING = (
    Metric(
        name="rank_ic",
        title="rank information coefficient",
        question="ranking",
        horizon=1,
        unit=Unit(1, 4, ""),
        answers=("excess_return",),
        outcomes=("excess",),
        scores=_rank_ic,
        baselines=BASELINES,
        plausible_effect=0.02,
        basis="session",
        fewest_tickers=FEWEST_TICKERS,
        limit=2.0,
    ),
    Metric(
        name="excess_accuracy",
        title="accuracy against the median",
        question="ranking",
        horizon=1,
        unit=Unit(100, 2, "points"),
        answers=("excess_return",),
        outcomes=("excess",),
        scores=_excess_accuracy,
        baselines=BASELINES,
        plausible_effect=0.0064,
        basis="session",
        fewest_tickers=FEWEST_TICKERS,
        limit=1.0,
    ),
    Metric(
        name="long_short",
        title="net return of the long-short book",
        question="ranking",
        horizon=1,
        unit=Unit(10_000, 2, "basis points"),
        answers=("excess_return",),
        outcomes=("traded_return", "previous"),
        scores=_long_short,
        baselines=BASELINES,
        plausible_effect=0.0004,
        basis="book",
        fewest_tickers=FEWEST_TICKERS,
    ),
)
