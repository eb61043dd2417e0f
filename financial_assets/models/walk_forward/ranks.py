"""How well scores rank the tickers of each session."""

from __future__ import annotations

import pandas as pd

from financial_assets.scoring.ranking import FEWEST_TICKERS, Kind, information_coefficients


def rank_correlations(rows: pd.DataFrame, kind: Kind = "rank") -> pd.Series:
    """Information coefficient of each session of one model that has enough tickers, by session in order of time."""
    unit = rows["excess"] / rows["volatility"]
    score = rows.pivot(index="ticker", columns="date", values="score")
    actual = rows.assign(unit=unit).pivot(index="ticker", columns="date", values="unit")
    every = information_coefficients(score.to_numpy(), actual.to_numpy(), kind, FEWEST_TICKERS)
    return pd.Series(every, index=score.columns).dropna()
