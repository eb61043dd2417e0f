"""How good the forecasts of a walk-forward are: one tidy table for all models, heads and folds.

Columns: ``model, head, score, fold, estimate, low, high, days``. ``fold`` is a fold's name or ``all``, which pools the
rows of all folds. The interval is of 95 %, clustered by day; NaN where it cannot be known (too few days), and so is an
estimate that is undefined. Outcomes over five sessions overlap: there, the mean of the days and its interval are those
of ``autocorrelation.long_run_mean``, in which every day counts once.

Heads: ``direction``, ``excess_return`` (ranking), ``return_quantiles``, ``return_quantiles_5d``. A model that lacks a
head has no rows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.models.forecasts import QUANTILES, QUANTILES_5D, check_forecasts
from financial_assets.scoring.autocorrelation import FEWEST_DAYS, long_run_mean
from financial_assets.scoring.classification import scores_by_day
from financial_assets.scoring.comparison import daily_means
from financial_assets.scoring.coverage import exceedances
from financial_assets.scoring.direction import timing_by_day
from financial_assets.scoring.intervals import Interval, day_clustered_mean
from financial_assets.scoring.quantiles import (
    QUANTILE_LEVELS,
    approximate_crps,
    mean_pinball_losses,
    normalised_pinball_losses,
)
from financial_assets.scoring.ranking import FEWEST_TICKERS, information_coefficients
from financial_assets.scoring.risk import joint_tail_losses, shortfall_between_quantiles
from financial_assets.scoring.volatility import (
    absolute_volatility_errors,
    qlike_losses,
    squared_variance_errors,
)

ALL = "all"
"""The rows of all folds together."""

SCORE_COLUMNS = ("model", "head", "score", "fold", "estimate", "low", "high", "days")

_NORMAL_SPAN = 2 * 1.6448536269514722
"""From the 5 to the 95 % quantile of a standard normal distribution."""


@dataclass(frozen=True)
class QuantileHead:
    """A served head of quantiles.

    Attributes
    ----------
    name, columns, outcome
        Of the head, of its quantiles and of what happened.
    horizon
        Sessions of the outcome.
    """

    name: str
    columns: tuple[str, ...]
    outcome: str
    horizon: int


QUANTILE_HEADS = (
    QuantileHead("return_quantiles", QUANTILES, "outcome", 1),
    QuantileHead("return_quantiles_5d", QUANTILES_5D, "outcome_5d", 5),
)


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


def folds_of(forecasts: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each fold with its name, in order of time, then all of them as ``ALL``."""
    for fold, rows in forecasts.groupby("fold", sort=True):
        yield str(fold), rows
    yield ALL, forecasts


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
    """``ic``, ``rank_ic`` and their ``icir``, of the score against the excess return in units of volatility.

    Of sessions with at least ``ranking.FEWEST_TICKERS`` tickers; a smaller universe has none of them. ``icir`` is per
    session; its interval is Lo's (2002), The statistics of Sharpe ratios, by the delta method.
    """
    unit = rows["excess"] / rows["volatility"]
    score = rows.pivot(index="ticker", columns="date", values="score").to_numpy()
    actual = rows.assign(unit=unit).pivot(index="ticker", columns="date", values="unit").to_numpy()
    found: dict[str, Interval] = {}
    for name, kind in (("ic", "linear"), ("rank_ic", "rank")):
        every = information_coefficients(score, actual, "linear" if kind == "linear" else "rank", FEWEST_TICKERS)
        daily = every[~np.isnan(every)]
        if daily.size == 0:
            continue
        found[name] = _long_run(daily)
        found["icir" if kind == "linear" else "rank_icir"] = _ratio(daily)
    return found


def quantile_scores(rows: pd.DataFrame, head: QuantileHead) -> dict[str, Interval]:
    """Scores of quantiles, of the variance that they imply, of their median, of their tails, and their coverage.

    ``pinball``, ``pinball_normalised`` (in units of the causal volatility), ``crps`` (approximate); ``coverage_<level>``
    (share of outcomes at or below the quantile); ``fz_<tail>_<level>`` (joint loss of value at risk and expected
    shortfall, Fissler and Ziegel 2016; lower tail: losses, upper: those of a short position); ``rmse`` and ``mae`` of
    the median; ``qlike``, ``variance_rmse`` and ``volatility_mae`` of the variance. The volatility is taken from the
    span between the 5 and the 95 % quantile as if between them returns were normal, for all models alike.
    """
    days, outcome = rows["date"].to_numpy(), rows[head.outcome].to_numpy()
    quantiles = rows[list(head.columns)].to_numpy()
    proxy = variance_proxy(rows, head)
    variance = implied_variance(rows, head)
    usable = np.isfinite(proxy) & (variance > 0)
    unit = rows["volatility"].to_numpy() * head.horizon**0.5
    losses = {
        "pinball": mean_pinball_losses(outcome, quantiles),
        "pinball_normalised": normalised_pinball_losses(outcome, quantiles, unit),
        "crps": approximate_crps(outcome, quantiles),
        "mae": np.abs(outcome - quantiles[:, 2]),
    }
    found = {name: _mean(values, days, head.horizon) for name, values in losses.items()}
    found["rmse"] = _root(_mean((outcome - quantiles[:, 2]) ** 2, days, head.horizon))
    for place, level in enumerate(QUANTILE_LEVELS):
        below = (outcome <= quantiles[:, place]).astype(np.float64)
        found[f"coverage_{level:.0%}"] = _mean(below, days, head.horizon)
    for tail, level in ((tail, level) for tail in ("lower", "upper") for level in (0.05, 0.01)):
        found[f"fz_{tail}_{level:.0%}"] = _mean(tail_losses(rows, head, tail, level), days, head.horizon)
    variance_losses: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "qlike": qlike_losses,
        "volatility_mae": absolute_volatility_errors,
        "variance_rmse": squared_variance_errors,
    }
    for name, loss in variance_losses.items():
        if usable.any():
            mean = _mean(loss(proxy[usable], variance[usable]), days[usable], head.horizon)
            found[name] = _root(mean) if name == "variance_rmse" else mean
    return found


def tail_losses(rows: pd.DataFrame, head: QuantileHead, tail: str, level: float) -> np.ndarray:
    """Joint loss of value at risk and expected shortfall of each row ``[n]``; NaN all where a row is no tail of losses.

    The shortfall is the exponential tail through the two outer quantiles (``risk.shortfall_between_quantiles``).
    """
    sign = 1.0 if tail == "lower" else -1.0
    outer, inner = (head.columns[0], head.columns[1]) if tail == "lower" else (head.columns[4], head.columns[3])
    far, near, outcome = (sign * rows[name].to_numpy() for name in (outer, inner, head.outcome))
    shortfall = shortfall_between_quantiles(far, near, at=level)
    border = far if level == 0.01 else near
    if np.any(shortfall >= 0) or np.any(shortfall > border):
        # No loss is defined: a mean over the other rows would compare models on different ones.
        return np.full(len(rows), np.nan)
    return joint_tail_losses(outcome, border, shortfall, level)


def variance_proxy(rows: pd.DataFrame, head: QuantileHead) -> np.ndarray:
    """What the variance over the head's horizon was ``[n]``: from the sessions' ranges, else the squared outcome."""
    name = "variance" if head.horizon == 1 else "variance_5d"
    known = rows[name] if name in rows else rows[head.outcome] ** 2
    return known.to_numpy(np.float64)


def implied_variance(rows: pd.DataFrame, head: QuantileHead) -> np.ndarray:
    """Variance that the 5 and 95 % quantiles of each row imply ``[n]``."""
    span = rows[head.columns[3]].to_numpy() - rows[head.columns[1]].to_numpy()
    return (span / _NORMAL_SPAN) ** 2


def exceedance_matrix(rows: pd.DataFrame, head: QuantileHead, column: str, *, upper: bool) -> np.ndarray:
    """Whether each outcome is beyond the quantile in ``column``: ``[ticker, session]``, NaN where unknown."""
    actual = rows.pivot(index="ticker", columns="date", values=head.outcome).to_numpy()
    bound = rows.pivot(index="ticker", columns="date", values=column).to_numpy()
    return exceedances(actual, bound, upper=upper)


def _mean(values: np.ndarray, days: np.ndarray, horizon: int) -> Interval:
    """Mean of the rows, clustered by day; of overlapping outcomes the mean of the days, which then count alike."""
    if not np.isfinite(values).all():
        return _unknown(days)
    if horizon == 1:
        return day_clustered_mean(values, days)
    return _long_run(daily_means(values, days))


def _long_run(daily: np.ndarray) -> Interval:
    if daily.size >= FEWEST_DAYS:
        return long_run_mean(daily).interval
    return Interval(float(daily.mean()), np.nan, np.nan, daily.size, daily.size, 0.95)


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


def _root(squared: Interval) -> Interval:
    """The root is monotone: its interval is that of the mean square with both bounds under the root."""
    low, middle, high = np.sqrt(np.maximum([squared.low, squared.estimate, squared.high], 0.0)).tolist()
    return Interval(middle, low, high, squared.days, squared.observations, squared.level)


def _unknown(days: np.ndarray) -> Interval:
    return Interval(np.nan, np.nan, np.nan, np.unique(days).size, days.size, 0.95)
