"""The heads that answer quantiles: their scores, the variance that they imply, and the losses of their tails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.market.panel import PricePanel
from financial_assets.models.forecasts import QUANTILES, QUANTILES_5D
from financial_assets.models.risk.bars import RiskBars
from financial_assets.scoring.autocorrelation import FEWEST_DAYS, long_run_mean
from financial_assets.scoring.comparison import daily_means
from financial_assets.scoring.intervals import Interval, day_clustered_mean
from financial_assets.scoring.quantiles import (
    QUANTILE_LEVELS,
    approximate_crps,
    mean_pinball_losses,
    normalised_pinball_losses,
)
from financial_assets.scoring.risk import joint_tail_losses, shortfall_between_quantiles
from financial_assets.scoring.volatility import (
    absolute_volatility_errors,
    qlike_losses,
    squared_variance_errors,
)

ALL = "all"
"""The rows of all folds together."""

TAILS = ("lower", "upper")
"""Losses of a long position, and of a short one."""

TAIL_LEVELS = (0.05, 0.01)
"""Shares that a tail promises to hold."""

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


def folds_of(forecasts: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each fold with its name, in order of time, then all of them as ``ALL``; some may be of no fold."""
    for fold, rows in forecasts[forecasts["fold"] != ""].groupby("fold", sort=True):
        yield str(fold), rows
    yield ALL, forecasts


def realised_variances(panel: PricePanel) -> pd.DataFrame:
    """What the variance of the next session and of the next five was: ``date, ticker, variance, variance_5d``.

    From the sessions' ranges and the gaps before them (``RiskBars.variance``): right on average up to the number of
    trades, and several times less noisy than squared returns.
    """
    bars = RiskBars.of(panel)
    ticker, session = np.nonzero(panel.valid)
    columns = {
        "variance": bars.following_variance(1)[ticker, session],
        "variance_5d": bars.following_variance(5)[ticker, session],
    }
    tickers = np.asarray(panel.tickers, dtype=object)[ticker]
    return pd.DataFrame({"date": panel.sessions[session], "ticker": tickers, **columns})


def quantile_scores(rows: pd.DataFrame, head: QuantileHead) -> dict[str, Interval]:
    """Scores of quantiles, of the variance that they imply, of their median, of their tails, and their coverage.

    ``pinball``, ``pinball_normalised`` (in units of the causal volatility), ``crps`` (approximate);
    ``coverage_<level>`` (share of outcomes at or below the quantile); ``fz_<tail>_<level>`` (joint loss of value at
    risk and expected shortfall, Fissler and Ziegel 2016; lower tail: losses, upper: those of a short position);
    ``rmse`` and ``mae`` of the median; ``qlike``, ``variance_rmse`` and ``volatility_mae`` of the variance. The
    volatility is taken from the span between the 5 and the 95 % quantile as if returns between them were normal, for
    all models alike.
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
    found = {name: mean_of(values, days, head.horizon) for name, values in losses.items()}
    found["rmse"] = _root(mean_of((outcome - quantiles[:, 2]) ** 2, days, head.horizon))
    for place, level in enumerate(QUANTILE_LEVELS):
        below = (outcome <= quantiles[:, place]).astype(np.float64)
        found[f"coverage_{level:.0%}"] = mean_of(below, days, head.horizon)
    for tail, level in ((tail, level) for tail in TAILS for level in TAIL_LEVELS):
        found[f"fz_{tail}_{level:.0%}"] = mean_of(tail_losses(rows, head, tail, level), days, head.horizon)
    variance_losses: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "qlike": qlike_losses,
        "volatility_mae": absolute_volatility_errors,
        "variance_rmse": squared_variance_errors,
    }
    for name, loss in variance_losses.items():
        if usable.any():
            mean = mean_of(loss(proxy[usable], variance[usable]), days[usable], head.horizon)
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


def mean_of(values: np.ndarray, days: np.ndarray, horizon: int) -> Interval:
    """Mean of the rows, clustered by day; of overlapping outcomes the mean of the days, which then count alike."""
    if not np.isfinite(values).all():
        return _unknown(days)
    if horizon == 1:
        return day_clustered_mean(values, days)
    return long_run(daily_means(values, days))


def long_run(daily: np.ndarray) -> Interval:
    """``autocorrelation.long_run_mean`` of daily values; without an interval where there are too few days for one."""
    if daily.size >= FEWEST_DAYS:
        return long_run_mean(daily).interval
    return Interval(float(daily.mean()), np.nan, np.nan, daily.size, daily.size, 0.95)


def _root(squared: Interval) -> Interval:
    """The root is monotone: its interval is that of the mean square with both bounds under the root."""
    low, middle, high = np.sqrt(np.maximum([squared.low, squared.estimate, squared.high], 0.0)).tolist()
    return Interval(middle, low, high, squared.days, squared.observations, squared.level)


def _unknown(days: np.ndarray) -> Interval:
    return Interval(np.nan, np.nan, np.nan, np.unique(days).size, days.size, 0.95)
