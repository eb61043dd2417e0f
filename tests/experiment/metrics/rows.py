"""Rows of forecasters with outcomes, made by chance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.experiment.prediction_log.schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS

NORMAL = np.array([-2.3263, -1.6449, 0.0, 1.6449, 2.3263])


def outcomes(seed: int = 0, sessions: int = 6, tickers: int = 24) -> pd.DataFrame:
    """Outcomes as :func:`outcome_frame` gives them, all of them known."""
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2020-01-01", periods=sessions)
    index = pd.MultiIndex.from_product([days, [f"T{place:02d}" for place in range(tickers)]])
    count, volatility = len(index), rng.uniform(0.005, 0.03, len(index))
    move = volatility * rng.standard_normal(count)
    return pd.DataFrame(
        {
            "session": index.get_level_values(0),
            "ticker": index.get_level_values(1).astype(object),
            "log_return": move,
            "up": move > 0,
            "traded_return": volatility * rng.standard_normal(count),
            "outcome_5d": 5**0.5 * volatility * rng.standard_normal(count),
            "volatility": volatility,
            "excess": move / volatility,
            "range_variance": volatility**2 * rng.chisquare(8, count) / 8,
            "previous": pd.Series(days).shift().repeat(tickers).to_numpy(),
        }
    )


def answers(known: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Answers of all heads for the rows of ``known``."""
    rng = np.random.default_rng([99, seed])
    deviation = (known["volatility"] * rng.uniform(0.5, 2.0, len(known))).to_numpy()[:, None]
    middle = 0.1 * deviation * rng.standard_normal((len(known), 1))
    rows = known[["session", "ticker"]].assign(
        probability_up=rng.uniform(0.05, 0.95, len(known)), excess_return=rng.standard_normal(len(known))
    )
    rows[list(QUANTILE_COLUMNS)] = middle + deviation * NORMAL
    rows[list(QUANTILE_5D_COLUMNS)] = middle + 5**0.5 * deviation * NORMAL
    return rows


def joined(rows: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    return rows.merge(known, on=["session", "ticker"])
