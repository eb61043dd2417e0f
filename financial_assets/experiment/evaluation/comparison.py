"""Paired comparison of two forecasters on the same rows.

The unit of evidence is the day: the mean over tickers of the difference of two scores, one number a day. Predictions do
not move the market, so that both outcomes are known on every row and pairing is legitimate.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.experiment.evaluation.measures import Comparison, Score
from financial_assets.experiment.evaluation.skill import estimate
from financial_assets.experiment.statistics.power import days_needed, minimum_detectable_effect
from financial_assets.scoring.classification import hits
from financial_assets.scoring.intervals import day_clustered_mean

__all__ = ["compare"]


def compare(
    first: tuple[str, pd.DataFrame],
    second: tuple[str, pd.DataFrame],
    *,
    level: float,
    power: float,
    score: Score = "accuracy",
    worthwhile: float | None = None,
) -> Comparison | None:
    """How much better the first forecaster is, on the rows that both have.

    Parameters
    ----------
    first, second
        Name and rows (``session``, ``ticker``, ``probability_up``, ``up``), each row once.
    level, power
        Confidence of the interval; power of the smallest detectable difference.
    score
        By what.
    worthwhile
        Difference that would matter, for the days needed.

    Returns
    -------
    Comparison or None
        ``None`` with fewer than two common days.
    """
    keys = ["session", "ticker"]
    known = [frame.dropna(subset=["probability_up"]) for _, frame in (first, second)]
    both = known[0].merge(known[1][[*keys, "probability_up"]], on=keys, validate="1:1", suffixes=("", "_second"))
    if both["session"].nunique() < 2:
        return None
    up = both["up"].to_numpy()
    difference = _points(both["probability_up"].to_numpy(), up, score)
    difference = difference - _points(both["probability_up_second"].to_numpy(), up, score)
    daily = pd.Series(difference).groupby(both["session"].to_numpy()).mean()
    values = daily.to_numpy()
    return Comparison(
        score=score,
        first=first[0],
        second=second[0],
        difference=estimate(day_clustered_mean(values, daily.index.to_numpy(), level)),
        disagreements=int(np.count_nonzero(difference)),
        rows=len(both),
        mde=minimum_detectable_effect(values, level=level, power=power),
        power=power,
        worthwhile=worthwhile,
        days_needed=None if worthwhile is None else days_needed(values, worthwhile, level=level, power=power),
    )


def _points(probability: np.ndarray, up: np.ndarray, score: Score) -> np.ndarray:
    """Score of each row, larger is better."""
    if score == "accuracy":
        return hits(probability, up).astype(np.float64)
    return -((probability - up) ** 2)
