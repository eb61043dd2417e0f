"""HAR: the variance of the next sessions from those of the last day, week and month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from financial_assets.features.bars import VOLATILITY_FLOOR
from financial_assets.models.risk.bars import HORIZONS, RiskBars, trailing_mean
from financial_assets.models.risk.forecast import FitFailure, scaled_quantiles

TERMS = (1, 5, 22)
"""Sessions behind the regressors: a day, a week, a month."""


@dataclass(frozen=True)
class Har:
    """Heterogeneous autoregression of the log of the range-based variance, one for all tickers.

    The log of the mean variance of the next sessions is regressed on the logs of the mean variances of the last 1, 5
    and 22. Slopes are pooled, the level is each ticker's own (Bollerslev, Hood, Huss and Pedersen 2018, Risk
    everywhere). Logs keep forecasts positive and wild days in bounds, without an "insanity filter". What the log and
    the range estimator leave out is put back by one factor: in the fit, squared returns are on average what is
    forecast. Quantiles are the pooled ones of outcomes in units of the forecast.

    Source: Corsi (2009), A simple approximate long-memory model of realized volatility; each horizon has its own
    regression.
    """

    def fit(self, past: RiskBars, usable: np.ndarray) -> tuple[HarModel, Mapping[int, FitFailure]]:
        """Least squares within tickers, by horizon."""
        regressors = _regressors(past)
        fitted: dict[int, HarHorizon] = {}
        for horizon in HORIZONS:
            target = _log_mean(past.following_variance(horizon) / horizon)
            rows = np.isfinite(target) & np.isfinite(regressors).all(axis=-1) & np.isfinite(past.variance)
            rows &= usable[:, None]
            slopes, levels = _within(regressors, target, rows)
            unscaled = np.exp(0.5 * (levels[:, None] + regressors @ slopes)) * horizon**0.5
            outcome = np.where(usable[:, None], past.outcomes(horizon), np.nan)
            scale = float(np.sqrt(np.nanmean((outcome / unscaled) ** 2)))
            multiples = scaled_quantiles(outcome, unscaled * scale)
            fitted[horizon] = HarHorizon(slopes, levels, scale, multiples)
        return HarModel(fitted), {}


@dataclass(frozen=True, eq=False)
class HarHorizon:
    """Slopes ``[term]``, levels ``[ticker]``, factor of the volatility, and multiples ``[level]`` of the quantiles."""

    slopes: np.ndarray
    levels: np.ndarray
    scale: float
    multiples: np.ndarray


@dataclass(frozen=True, eq=False)
class HarModel:
    """The regressions, by horizon."""

    horizons: Mapping[int, HarHorizon]

    def predict(self, bars: RiskBars, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``RiskModel``."""
        own = self.horizons[horizon]
        # Term by term: a product of matrices may round a row otherwise, depending on the rows around it.
        logs = own.levels[:, None] + (_regressors(bars) * own.slopes).sum(axis=-1)
        volatility = np.exp(0.5 * logs) * horizon**0.5 * own.scale
        return volatility, volatility[..., None] * own.multiples


def _regressors(bars: RiskBars) -> np.ndarray:
    """Log mean variance of the last sessions ``[ticker, session, term]``; NaN where not known."""
    return np.stack([_log_mean(trailing_mean(bars.variance, term)) for term in TERMS], axis=-1)


def _log_mean(variance: np.ndarray) -> np.ndarray:
    # A session without a move has no logarithm, and says little about tomorrow.
    return np.log(np.maximum(variance, VOLATILITY_FLOOR**2))


def _within(regressors: np.ndarray, target: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pooled slopes ``[term]`` and each ticker's level ``[ticker]``, NaN for a ticker without rows."""
    count = rows.sum(axis=1)
    some = np.where(count > 0, count, np.nan)
    mean_x = np.where(rows[..., None], regressors, 0.0).sum(axis=1) / some[:, None]
    mean_y = np.where(rows, target, 0.0).sum(axis=1) / some
    off_x, off_y = regressors - mean_x[:, None], target - mean_y[:, None]
    slopes = np.linalg.lstsq(off_x[rows], off_y[rows], rcond=None)[0]
    return slopes, mean_y - mean_x @ slopes
