"""Forecast tables whose scores are known by construction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from financial_assets.models.forecasts import QUANTILES, QUANTILES_5D, check_forecasts
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

NORMAL = stats.norm.ppf(QUANTILE_LEVELS)


def world(sessions: int = 120, tickers: int = 12, folds: int = 2, seed: int = 0, signal: float = 0.0) -> pd.DataFrame:
    """Outcomes of independent normal returns of deviation 1 %, with keys, and the part that could be known."""
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2004-01-05", periods=sessions)
    known = rng.normal(size=(sessions, tickers))
    moves = signal * known + np.sqrt(1 - signal**2) * rng.normal(size=(sessions, tickers))
    outcome = 0.01 * moves
    later = np.concatenate([outcome, 0.01 * rng.normal(size=(4, tickers))])
    five = np.lib.stride_tricks.sliding_window_view(later, 5, axis=0).sum(axis=-1)
    names = np.array([f"fold-{1 + number * folds // sessions}" for number in range(sessions)])
    return pd.DataFrame(
        {
            "date": np.repeat(days, tickers),
            "ticker": np.tile([f"T{number:02d}" for number in range(tickers)], sessions),
            "fold": np.repeat(names, tickers),
            "volatility": 0.01,
            "outcome": outcome.ravel(),
            "outcome_5d": five.ravel(),
            "excess": outcome.ravel(),
            "known": known.ravel(),
        }
    )


def model(
    of: pd.DataFrame,
    name: str,
    *,
    probability: float | Sequence[float] | np.ndarray | None = None,
    deviation: float | None = None,
    score: np.ndarray | None = None,
) -> pd.DataFrame:
    """A model's forecast table: a probability, normal quantiles with a deviation, a score; what is absent is NaN."""
    heads: dict[str, object] = dict.fromkeys((*QUANTILES, *QUANTILES_5D), np.nan)
    if deviation is not None:
        heads |= dict(zip(QUANTILES, deviation * NORMAL, strict=True))
        heads |= dict(zip(QUANTILES_5D, deviation * 5**0.5 * NORMAL, strict=True))
    said = {
        "probability_up": np.nan if probability is None else probability,
        "score": np.nan if score is None else score,
    }
    return check_forecasts(of.drop(columns="known").assign(model=name, **said, **heads))
