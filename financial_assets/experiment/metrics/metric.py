"""What a metric is: a score of each answer, larger is better, with all that a test must know of it beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Question = Literal["direction", "ranking", "risk"]
"""What a plan asks of two models: who names the direction better, who orders the universe better, who knows the risk
better."""

Rows = Mapping[str, NDArray[Any]] | pd.DataFrame
"""Column -> its values ``[row]``. A day has few rows, and a frame of them costs more than their scores."""

Scores = Callable[[Rows], NDArray[np.float64]]
"""From rows with ``session``, ``ticker``, answers and outcomes, without gaps, to the score of each ``[row]``."""

CLIP_DEVIATIONS = 8.0
"""Size at which daily differences without bound are clipped, in expected deviations."""

Basis = Literal["row", "session", "book"]
"""What a row's score depends on: on the row; on the rows of its session; on those of the session before as well."""


@dataclass(frozen=True, slots=True)
class Unit:
    """How a difference is shown: times ``scale``, with so many digits and a word behind it."""

    scale: float
    digits: int
    words: str


@dataclass(frozen=True, slots=True)
class Metric:
    """A score by which two models are compared; larger is better.

    A day's value is the mean of the rows' scores over its tickers; that of a cross-section gives each row of a session
    the figure of the session.

    Attributes
    ----------
    name, title
        Key in plans, and in a sentence.
    question
        What it answers.
    horizon
        Sessions ahead that the outcome reaches. Outcomes of several sessions overlap.
    unit
        Of a difference.
    answers, outcomes
        Columns of a prediction and of :func:`~financial_assets.experiment.outcomes.outcome_frame` that the score needs.
    scores
        The score of each row.
    basis
        What a score depends on.
    fewest_tickers
        Tickers that both models must have answered of a session for it to have a value.
    limit
        Largest size that a daily difference can have; ``None``: it has no bound.
    baselines
        Forecasters without a model that a better one must at least not be worse than.
    plausible_effect
        The largest daily difference that one may reasonably hope for, in the score's unit; where it is from stands at
        the metric.
    """

    name: str
    title: str
    question: Question
    horizon: int
    unit: Unit
    answers: tuple[str, ...]
    outcomes: tuple[str, ...]
    scores: Scores
    baselines: tuple[str, ...]
    plausible_effect: float
    basis: Basis = "row"
    fewest_tickers: int = 1
    limit: float | None = None

    @property
    def least_lags(self) -> int:
        """Days after which outcomes overlap no more: a long-run variance needs at least as many lags."""
        return self.horizon - 1

    def clip(self, spread: float) -> float:
        """Size at which daily differences are clipped before anything bets on them.

        The bound of the metric, if it is as small as eight expected deviations; they otherwise: differences in Brier
        score are so small that bets on a range of 1 would see nothing, and those of losses have no range.

        Parameters
        ----------
        spread
            Expected standard deviation of a day's difference.
        """
        if self.limit is not None and self.name in _AT_THEIR_LIMIT:
            return self.limit
        wide = CLIP_DEVIATIONS * spread
        return wide if self.limit is None else min(self.limit, wide)


_AT_THEIR_LIMIT = ("accuracy", "excess_accuracy")
"""Shares of right answers differ by tenths: their range is no hindrance, and nothing is clipped."""
