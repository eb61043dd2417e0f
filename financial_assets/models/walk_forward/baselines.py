"""What every fold's networks must beat: constants, rules, a linear model, boosted trees and the forecasters of risk.

Each is fitted on the blocks that the networks of the fold are fitted on, and fills the columns that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.baselines.fitted import fit_baselines
from financial_assets.models.baselines.ranks import excess_move, moved
from financial_assets.models.forecasts import QUANTILES, QUANTILES_5D, with_outcomes
from financial_assets.models.risk.bars import RiskBars
from financial_assets.models.risk.forecast import FittedRisk
from financial_assets.models.risk.registry import RISK_FORECASTERS, fit_forecasters
from financial_assets.models.training_data import TrainingData, panel_volatility
from financial_assets.models.walk_forward.folds import Fold
from financial_assets.models.walk_forward.spans import answered, features_of_span, risk_of_span
from financial_assets.models.walk_forward.trees import fit_trees

DIRECTION_BASELINES = ("majority", "persistence", "reversal", "momentum_5", "momentum_20", "logistic", "trees")
"""Baselines that say a probability."""

RISK_BASELINES = tuple(RISK_FORECASTERS)
"""Baselines that say quantiles, of the next session and of the next five."""

_LEAST_CONFIDENCE = 1e-3
"""A rule that was right less often than not still names its direction, but hardly: it is a baseline, not a choice."""


@dataclass(frozen=True, eq=False)
class FoldBaselines:
    """Forecasts of all baselines of a fold.

    Attributes
    ----------
    forecasts
        Forecast table.
    silent
        Baseline, or baseline and ticker, -> why it has no forecast.
    """

    forecasts: pd.DataFrame
    silent: Mapping[str, str]


def forecast_baselines(
    fold: Fold, features: FeaturePanel, panel: PricePanel, *, sequence_length: int, seed: int
) -> FoldBaselines:
    """Fit all baselines on the training span of a fold and forecast its test sessions.

    Parameters
    ----------
    fold
        Of sessions of ``panel``.
    features, panel
        On the same axes, at least up to ``fold.settled``.
    sequence_length
        Feature vectors in a window of the networks: it decides which rows the blocks hold.
    seed
        Of the trees.

    Raises
    ------
    TrainingError
        There are too few windows for the baselines of the direction. A forecaster of risk that can be fitted to no
        ticker is in ``silent``.
    """
    cutoff = panel.sessions[fold.cutoff]
    span = features_of_span(features, fold)
    data = TrainingData.until(cutoff, span, panel, sequence_length=sequence_length)
    ticker, at = np.nonzero(answered(panel, fold.test))
    rows = _Rows(panel, ticker, at + fold.test.start, fold.name)
    fitted = fit_baselines(span, panel, cutoff=cutoff, sequence_length=sequence_length)
    said = fitted.predict(features, panel, panel.sessions[fold.test.start : fold.test.stop])
    parts = [rows.joined(name, said[said["model"] == name]) for name in ("majority", "persistence", "logistic")]
    parts += [rows.table(name, columns) for name, columns in _rules(panel, data, rows).items()]
    trees = fit_trees(data, seed=seed)
    parts.append(rows.table("trees", trees.predict(features.values[rows.ticker, :, rows.session])))
    bars, silent = RiskBars.of(panel), dict[str, str]()
    for name in RISK_FORECASTERS:
        try:
            forecaster = fit_forecasters(risk_of_span(bars, fold), cutoff, [name])[name]
        except TrainingError as error:
            silent[name] = str(error)
            continue
        silent |= {f"{name} of {failed}": str(failure) for failed, failure in forecaster.failures.items()}
        parts.append(rows.table(name, _risk(forecaster, bars, rows)))
    return FoldBaselines(with_outcomes(pd.concat(parts, ignore_index=True), panel), silent)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows that are answered: indices ``[n]`` of tickers and sessions."""

    panel: PricePanel
    ticker: np.ndarray
    session: np.ndarray
    fold: str

    def table(self, model: str, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """Rows with some columns of heads, each ``[n]``."""
        tickers = np.asarray(self.panel.tickers, dtype=object)[self.ticker]
        keys = {"date": self.panel.sessions[self.session], "ticker": tickers, "model": model, "fold": self.fold}
        return pd.DataFrame({**keys, **columns})

    def joined(self, model: str, said: pd.DataFrame) -> pd.DataFrame:
        """Rows of a tidy table of probabilities, of those that are answered."""
        found = self.table(model, {}).merge(said[["date", "ticker", "probability_up"]], on=["date", "ticker"])
        return found.sort_values(["date", "ticker"], ignore_index=True)


def _rules(panel: PricePanel, data: TrainingData, rows: _Rows) -> dict[str, dict[str, np.ndarray]]:
    """Rules on past moves: they name a direction, and say it with the share of the fit block that they had right.

    Momentum over k sessions goes on, reversal of the last session does not. Across tickers they rank by the same move,
    less the market's, in units of volatility (Jegadeesh 1990, Evidence of predictable behavior of security returns;
    Jegadeesh and Titman 1993, Returns to buying winners and selling losers).
    """
    close = np.log(panel.values[:, CHANNELS.index("close")].astype(np.float64))
    volatility = panel_volatility(panel).double().numpy()
    fit = data.fit.tickers, data.fit.sessions
    up = data.fit.outcome[:, 0].numpy() > 0
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, sessions, sign in (("reversal", 1, -1.0), ("momentum_5", 5, 1.0), ("momentum_20", 20, 1.0)):
        own = sign * moved(close, sessions)
        right = float(((own[fit] > 0) == up).mean())
        confidence = max(right - 0.5, _LEAST_CONFIDENCE)
        at = rows.ticker, rows.session
        found[name] = {
            "probability_up": 0.5 + np.where(own[at] > 0, confidence, -confidence),
            "score": sign * excess_move(panel, sessions)[at] / (volatility[at] * sessions**0.5),
        }
    return found


def _risk(forecaster: FittedRisk, bars: RiskBars, rows: _Rows) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for horizon, names in ((1, QUANTILES), (5, QUANTILES_5D)):
        quantiles = forecaster.forecast(bars, horizon).quantiles[rows.ticker, rows.session]
        columns |= dict(zip(names, quantiles.T, strict=True))
    return columns
