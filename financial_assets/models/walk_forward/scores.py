"""How good the forecasts of a walk-forward are: tidy tables of all models, heads and folds.

``score_table`` has the columns ``model, head, score, fold, estimate, low, high, days``. ``fold`` is a fold's name or
``all``, which pools the rows of all folds. The interval is of 95 %, clustered by day; NaN where it cannot be known (too
few days), and so is an estimate that is undefined. Outcomes over five sessions overlap: there, the mean of the days and
its interval are those of ``autocorrelation.long_run_mean``, in which every day counts once.

``backtests.coverage_table`` tests whether values at risk hold, ``rivals`` compares models on the same rows.

Heads: ``direction``, ``excess_return`` (ranking), ``return_quantiles``, ``return_quantiles_5d``. A model that lacks a
head has no rows of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from financial_assets.models.forecasts import check_forecasts
from financial_assets.models.walk_forward.backtests import coverage_table
from financial_assets.models.walk_forward.quantile_heads import (
    QUANTILE_HEADS,
    folds_of,
    long_run,
    quantile_scores,
)
from financial_assets.models.walk_forward.ranks import rank_correlations
from financial_assets.models.walk_forward.rivals import comparison_table, confidence_sets
from financial_assets.scoring.autocorrelation import FEWEST_DAYS, long_run_mean
from financial_assets.scoring.classification import scores_by_day
from financial_assets.scoring.direction import timing_by_day
from financial_assets.scoring.intervals import Interval
from financial_assets.scoring.ranking import Kind

__all__ = [
    "SCORE_COLUMNS",
    "comparison_table",
    "confidence_sets",
    "coverage_table",
    "direction_scores",
    "rank_correlations",
    "ranking_scores",
    "score_table",
]

SCORE_COLUMNS = ("model", "head", "score", "fold", "estimate", "low", "high", "days")


def score_table(forecasts: pd.DataFrame, variances: pd.DataFrame | None = None) -> pd.DataFrame:
    """All scores of all models, for each fold and for all folds together.

    Parameters
    ----------
    forecasts
        Forecast table of any models and folds; rows without an outcome do not count.
    variances
        ``realised_variances`` of the same sessions; default: the squared outcome, which is right on average too, but
        far noisier.

    Returns
    -------
    pandas.DataFrame
        ``SCORE_COLUMNS``, in order of model, head, score and fold.

    Raises
    ------
    ForecastError
        It is not a forecast table.
    """
    frame = check_forecasts(forecasts)
    if variances is not None:
        frame = frame.merge(variances, on=["date", "ticker"], how="left", validate="many_to_one")
    rows: list[dict[str, object]] = []
    for model, of_model in frame.groupby("model", sort=False):
        for fold, part in folds_of(of_model):
            for head, score, interval in _scores(part):
                figures = {name: getattr(interval, name) for name in ("estimate", "low", "high", "days")}
                rows.append({"model": model, "head": head, "score": score, "fold": fold, **figures})
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def _scores(rows: pd.DataFrame) -> Iterator[tuple[str, str, Interval]]:
    """Head, score and interval of the rows of one model."""
    said = rows.dropna(subset=["probability_up", "outcome"])
    if said["date"].nunique() > 1:
        yield from (("direction", name, interval) for name, interval in direction_scores(said).items())
    ranked = rows.dropna(subset=["score", "excess", "volatility"])
    if not ranked.empty:
        yield from (("excess_return", name, interval) for name, interval in ranking_scores(ranked).items())
    for head in QUANTILE_HEADS:
        known = rows.dropna(subset=[*head.columns, head.outcome, "volatility"])
        if known["date"].nunique() > 1:
            yield from ((head.name, name, interval) for name, interval in quantile_scores(known, head).items())


def direction_scores(rows: pd.DataFrame) -> dict[str, Interval]:
    """``classification.scores_by_day``, and ``timing``: hits beyond those of independent forecasts.

    ``timing`` is the statistic of Pesaran and Timmermann (1992) for a universe (``direction.timing_by_day``): 0 for
    whoever always says the same, whatever the accuracy.
    """
    probability, up, days = rows["probability_up"].to_numpy(), rows["outcome"].to_numpy() > 0, rows["date"].to_numpy()
    return {**scores_by_day(probability, up, days), "timing": timing_by_day(probability > 0.5, up, days)}


def ranking_scores(rows: pd.DataFrame) -> dict[str, Interval]:
    """``ic``, ``rank_ic``, and their ratios to their own deviations ``icir``, ``rank_icir``.

    Correlations of the score with the excess return in units of volatility, of sessions with at least
    ``ranking.FEWEST_TICKERS`` tickers; a smaller universe has none of them. A ratio is per session; its interval is
    Lo's (2002), The statistics of Sharpe ratios, by the delta method.
    """
    found: dict[str, Interval] = {}
    kinds: tuple[tuple[str, Kind], ...] = (("ic", "linear"), ("rank_ic", "rank"))
    for name, kind in kinds:
        daily = rank_correlations(rows, kind).to_numpy()
        if daily.size:
            found[name] = long_run(daily)
            found[f"{name}ir"] = _ratio(daily)
    return found


def _ratio(daily: np.ndarray) -> Interval:
    """Mean over deviation of the sessions; variance ``(1 + ratio ** 2 / 2) / n`` times that of their dependence."""
    deviation = float(daily.std(ddof=1)) if daily.size > 1 else 0.0
    if not deviation > 0:
        return Interval(np.nan, np.nan, np.nan, daily.size, daily.size, 0.95)
    ratio = float(daily.mean()) / deviation
    if daily.size < FEWEST_DAYS:
        return Interval(ratio, np.nan, np.nan, daily.size, daily.size, 0.95)
    half = (long_run_mean(daily).interval.high - float(daily.mean())) / deviation * (1 + ratio**2 / 2) ** 0.5
    return Interval(ratio, ratio - half, ratio + half, daily.size, daily.size, 0.95)
