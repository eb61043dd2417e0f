"""Forecasters without a likelihood: historical simulation, RiskMetrics, and filtered historical simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.models.baselines.trailing import HISTORY, trailing_quantiles
from financial_assets.models.risk.bars import HORIZONS, RiskBars
from financial_assets.models.risk.forecast import FEWEST_OUTCOMES, FitFailure, scaled_quantiles
from financial_assets.scoring.distributions import normal_quantile
from financial_assets.scoring.quantiles import QUANTILE_LEVELS


@dataclass(frozen=True)
class Historical:
    """Historical simulation: deviation and quantiles of the ticker's own last 500 returns over the horizon.

    They overlap over five sessions. Nothing is fitted; at least ``FEWEST_OUTCOMES`` are needed behind a forecast.
    """

    def fit(self, past: RiskBars, usable: np.ndarray) -> tuple[Historical, Mapping[int, FitFailure]]:
        """Nothing to fit."""
        return self, {}

    def predict(self, bars: RiskBars, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``RiskModel``."""
        past = pd.DataFrame(bars.returns.T).rolling(horizon, min_periods=horizon).sum()
        window = past.rolling(HISTORY, min_periods=FEWEST_OUTCOMES)
        return window.std(ddof=0).to_numpy().T, trailing_quantiles(past.to_numpy().T)


def normal_multiples() -> np.ndarray:
    """Standard normal quantiles at ``QUANTILE_LEVELS`` ``[level]``."""
    return np.array([normal_quantile(level) for level in QUANTILE_LEVELS])


@dataclass(frozen=True)
class Ewma:
    """RiskMetrics: normal returns with an exponentially weighted variance (decay 0.94), scaled by the root of time.

    Source: J.P. Morgan/Reuters, RiskMetrics Technical Document (1996).
    """

    def fit(self, past: RiskBars, usable: np.ndarray) -> tuple[Ewma, Mapping[int, FitFailure]]:
        """Nothing to fit: the decay is RiskMetrics'."""
        return self, {}

    def predict(self, bars: RiskBars, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``RiskModel``."""
        volatility = bars.ewma * horizon**0.5
        return volatility, volatility[..., None] * normal_multiples()


@dataclass(frozen=True)
class Filtered:
    """Filtered historical simulation: RiskMetrics volatility times the past's scaled quantiles, all tickers pooled.

    What ``Baselines`` answers as ``filtered``, from all sessions up to the cut-off and for both horizons. The
    volatility is scaled likewise, to the root mean square of the scaled outcomes.

    Source: Barone-Adesi, Giannopoulos and Vosper (1999), VaR without correlations for portfolios of derivative
    securities.
    """

    def fit(self, past: RiskBars, usable: np.ndarray) -> tuple[FilteredModel, Mapping[int, FitFailure]]:
        """The scaled quantiles of both horizons."""
        multiples: dict[int, np.ndarray] = {}
        scale: dict[int, float] = {}
        for horizon in HORIZONS:
            outcome, unit = past.outcomes(horizon)[usable], past.ewma[usable] * horizon**0.5
            multiples[horizon] = scaled_quantiles(outcome, unit)
            scale[horizon] = float(np.sqrt(np.nanmean((outcome / unit) ** 2)))
        return FilteredModel(multiples, scale), {}


@dataclass(frozen=True, eq=False)
class FilteredModel:
    """Per horizon, multiples of the RiskMetrics volatility: of the quantiles ``[level]`` and of the deviation."""

    multiples: Mapping[int, np.ndarray]
    scale: Mapping[int, float]

    def predict(self, bars: RiskBars, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``RiskModel``."""
        unit = bars.ewma * horizon**0.5
        return unit * self.scale[horizon], unit[..., None] * self.multiples[horizon]
