"""What a forecaster of risk is, what it returns, and why it may have nothing to say about a ticker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from financial_assets.errors import TrainingError
from financial_assets.features.bars import CAUSAL_VOLATILITY_LOOKBACK, VOLATILITY_FLOOR
from financial_assets.models.risk.bars import HORIZONS, RiskBars
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

FEWEST_OUTCOMES = 250
"""Outcomes below which no quantile is taken from them: a year of sessions."""

FEWEST_RETURNS = FEWEST_OUTCOMES + CAUSAL_VOLATILITY_LOOKBACK + max(HORIZONS)
"""Known returns of a ticker below which nothing is fitted to it: enough outcomes once its volatility is warm."""

Reason = Literal["too few returns", "flat prices", "no convergence"]


@dataclass(frozen=True, slots=True)
class FitFailure:
    """Why a ticker gets no forecast.

    Attributes
    ----------
    reason
        Its kind.
    detail
        Figures, as a sentence.
    """

    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, eq=False)
class RiskForecast:
    """Forecasts made at the close of each session for the log return over the next ``horizon`` sessions.

    Attributes
    ----------
    horizon
        Sessions.
    volatility
        Standard deviation of that return, not annualised, float64 ``[ticker, session]``. NaN before the cut-off, where
        the ticker does not trade or is not listed for long enough, and where it could not be fitted.
    quantiles
        At ``QUANTILE_LEVELS``, float64 ``[ticker, session, level]``; NaN where ``volatility`` is.
    """

    horizon: int
    volatility: np.ndarray
    quantiles: np.ndarray


class RiskModel(Protocol):
    """Fitted parameters that forecast from any bars."""

    def predict(self, bars: RiskBars, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """Volatility ``[ticker, session]`` and quantiles ``[ticker, session, level]``, each from its past alone."""
        ...


class RiskForecaster(Protocol):
    """A way to fit a ``RiskModel`` to the past."""

    def fit(self, past: RiskBars, usable: np.ndarray) -> tuple[RiskModel, Mapping[int, FitFailure]]:
        """Fit on all that is given.

        Parameters
        ----------
        past
            Bars up to the cut-off.
        usable
            bool ``[ticker]``: which have enough returns, and prices that move.

        Returns
        -------
        tuple
            The model, and the usable tickers, by place, that could not be fitted.
        """
        ...


@dataclass(frozen=True, eq=False)
class FittedRisk:
    """A forecaster after its fit: parameters are frozen, states go on from session to session.

    Attributes
    ----------
    name
        In the registry.
    cutoff
        Last session that any parameter depends on.
    tickers
        Of the fit.
    failures
        Ticker -> why it has no forecast.
    model
        The parameters.
    """

    name: str
    cutoff: pd.Timestamp
    tickers: tuple[str, ...]
    failures: Mapping[str, FitFailure]
    model: RiskModel

    def forecast(self, bars: RiskBars, horizon: int) -> RiskForecast:
        """Forecasts from the cut-off on, each from the bars up to its session.

        Earlier ones would not be forecasts, as the parameters know these sessions: they are NaN.

        Parameters
        ----------
        bars
            Of the same tickers, from the same first session or earlier, to at least the cut-off.
        horizon
            One of ``bars.HORIZONS``.

        Raises
        ------
        TrainingError
            For other tickers, or bars that end before the cut-off.
        """
        if bars.tickers != self.tickers:
            raise TrainingError(f"{self.name} was fitted on {len(self.tickers)} other tickers: fit it on these")
        start = bars.position(self.cutoff)
        volatility, quantiles = self.model.predict(bars, horizon)
        silent = np.isnan(bars.returns) | np.isnan(volatility)
        silent[:, :start] = True
        silent[[ticker in self.failures for ticker in bars.tickers]] = True
        volatility = np.where(silent, np.nan, np.maximum(volatility, VOLATILITY_FLOOR))
        return RiskForecast(horizon, volatility, np.where(silent[..., None], np.nan, quantiles))


def fit(name: str, forecaster: RiskForecaster, bars: RiskBars, cutoff: pd.Timestamp) -> FittedRisk:
    """Fit one forecaster on the bars up to ``cutoff``; it is shown no others.

    Raises
    ------
    TrainingError
        If the cut-off is not a session, or no ticker can be fitted.
    """
    past = bars.until(cutoff)
    failures = unusable(past)
    usable = np.array([place not in failures for place in range(len(past.tickers))])
    if not usable.any():
        raise TrainingError(_nothing_fitted(name, past, failures))
    model, failed = forecaster.fit(past, usable)
    failures = {**failures, **failed}
    if len(failures) == len(past.tickers):
        raise TrainingError(_nothing_fitted(name, past, failures))
    by_ticker = {past.tickers[place]: failures[place] for place in sorted(failures)}
    return FittedRisk(name, cutoff, past.tickers, by_ticker, model)


def unusable(past: RiskBars) -> dict[int, FitFailure]:
    """Tickers, by place, to which nothing can be fitted, and why."""
    failures: dict[int, FitFailure] = {}
    for place, row in enumerate(past.returns):
        known = row[~np.isnan(row)]
        if known.size < FEWEST_RETURNS:
            failures[place] = FitFailure("too few returns", f"{known.size} known, {FEWEST_RETURNS} are needed")
        elif (deviation := float(known[-FEWEST_OUTCOMES:].std())) <= VOLATILITY_FLOOR:
            detail = f"the last {FEWEST_OUTCOMES} returns have a standard deviation of {deviation:.2g}"
            failures[place] = FitFailure("flat prices", detail)
    return failures


def scaled_quantiles(outcomes: np.ndarray, volatility: np.ndarray) -> np.ndarray:
    """Quantiles ``[level]`` of the outcomes of all tickers, each in units of the volatility forecast for it."""
    scaled = (outcomes / volatility).ravel()
    known = scaled[np.isfinite(scaled)]
    if known.size < FEWEST_OUTCOMES:
        raise TrainingError(
            f"{known.size} known outcomes of all tickers are too few for quantiles, {FEWEST_OUTCOMES} are needed: set "
            "an earlier INGESTION_START_DATE"
        )
    return np.quantile(known, QUANTILE_LEVELS)


def _nothing_fitted(name: str, past: RiskBars, failures: Mapping[int, FitFailure]) -> str:
    first = min(failures)
    return (
        f"{name} cannot be fitted to any of {len(past.tickers)} tickers up to {past.sessions[-1]:%Y-%m-%d} "
        f"({past.tickers[first]}: {failures[first]}): set an earlier INGESTION_START_DATE or other TICKERS"
    )
