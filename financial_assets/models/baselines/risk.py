"""Baselines of the risk question: RiskMetrics, and a HAR regression as plain numbers that are kept with the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.errors import TrainingError
from financial_assets.market.panel import PricePanel
from financial_assets.models.risk.bars import RiskBars
from financial_assets.models.risk.forecast import fit
from financial_assets.models.risk.har import Har, HarHorizon, HarModel
from financial_assets.models.risk.simple import normal_multiples

HORIZONS = (1, 5)


@dataclass(frozen=True)
class FittedHorizon:
    """The regression of one horizon, see :class:`~financial_assets.models.risk.har.HarHorizon`; levels by ticker."""

    slopes: tuple[float, ...]
    levels: Mapping[str, float]
    scale: float
    multiples: tuple[float, ...]


@dataclass(frozen=True)
class FittedHar:
    """The regressions of both horizons; a ticker that could not be fitted has no level and gets no forecast."""

    next_session: FittedHorizon
    five_sessions: FittedHorizon

    def quantiles(self, bars: RiskBars) -> tuple[np.ndarray, np.ndarray]:
        """Forecasts for one and five sessions, float64 ``[ticker, session, level]``; NaN where there is none."""
        horizons: dict[int, HarHorizon] = {}
        for horizon, own in zip(HORIZONS, (self.next_session, self.five_sessions), strict=True):
            levels = np.array([own.levels.get(ticker, np.nan) for ticker in bars.tickers])
            horizons[horizon] = HarHorizon(np.array(own.slopes), levels, own.scale, np.array(own.multiples))
        model = HarModel(horizons)
        return model.predict(bars, 1)[1], model.predict(bars, 5)[1]


def fit_har(panel: PricePanel, cutoff: pd.Timestamp) -> tuple[FittedHar | None, str]:
    """The regressions on all sessions up to the cut-off; none where no ticker can be fitted, and why."""
    bars = RiskBars.of(panel)
    try:
        fitted = fit("har", Har(), bars, cutoff)
    except TrainingError as error:
        return None, str(error)
    assert isinstance(fitted.model, HarModel)
    parts = [
        FittedHorizon(
            slopes=tuple(own.slopes.tolist()),
            levels={
                ticker: float(level)
                for ticker, level in zip(fitted.tickers, own.levels, strict=True)
                if ticker not in fitted.failures and np.isfinite(level)
            },
            scale=own.scale,
            multiples=tuple(own.multiples.tolist()),
        )
        for own in (fitted.model.horizons[horizon] for horizon in HORIZONS)
    ]
    return FittedHar(*parts), "; ".join(f"{ticker}: {failure}" for ticker, failure in fitted.failures.items())


def ewma_quantiles(volatility: np.ndarray, horizon: int) -> np.ndarray:
    """Normal quantiles ``[n, level]`` of the return over a horizon, for volatilities of one session ``[n]``."""
    return volatility[:, None] * horizon**0.5 * normal_multiples()
