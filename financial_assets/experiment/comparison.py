"""Paired comparison of two forecasters on the same rows.

The unit of evidence is the day: the mean over tickers of the difference of two hits, one number a day. Predictions do
not move the market, so that both outcomes are known on every row and pairing is legitimate.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.experiment.power import days_needed, minimum_detectable_effect
from financial_assets.experiment.results import Comparison
from financial_assets.experiment.skill import estimate
from financial_assets.scoring.classification import hits
from financial_assets.scoring.intervals import day_clustered_mean

__all__ = ["compare"]


def compare(
    first: tuple[str, pd.DataFrame],
    second: tuple[str, pd.DataFrame],
    *,
    worthwhile: float,
    level: float,
    power: float,
) -> Comparison | None:
    """Accuracy of the first forecaster less that of the second, on the rows that both have.

    Parameters
    ----------
    first, second
        Name and rows (``session``, ``ticker``, ``probability_up``, ``up``), each row once.
    worthwhile
        Difference in accuracy that would matter, for the days needed.
    level, power
        Confidence of the interval; power of the smallest detectable difference.

    Returns
    -------
    Comparison or None
        ``None`` with fewer than two common days.
    """
    keys = ["session", "ticker"]
    right = [
        frame[keys].assign(right=hits(frame["probability_up"].to_numpy(), frame["up"].to_numpy()).astype(np.float64))
        for frame in (first[1].dropna(subset=["probability_up"]), second[1].dropna(subset=["probability_up"]))
        if len(frame)
    ]
    if len(right) < 2:
        return None
    both = right[0].merge(right[1], on=keys, validate="1:1", suffixes=("_first", "_second"))
    difference = (both["right_first"] - both["right_second"]).to_numpy()
    daily = pd.Series(difference).groupby(both["session"].to_numpy()).mean()
    if len(daily) < 2:
        return None
    interval = day_clustered_mean(daily.to_numpy(), daily.index.to_numpy(), level)
    return Comparison(
        first=first[0],
        second=second[0],
        difference=estimate(interval),
        disagreements=int(np.count_nonzero(difference)),
        rows=len(both),
        mde=minimum_detectable_effect(daily.to_numpy(), level=level, power=power),
        power=power,
        worthwhile=worthwhile,
        days_needed=days_needed(daily.to_numpy(), worthwhile, level=level, power=power),
    )
