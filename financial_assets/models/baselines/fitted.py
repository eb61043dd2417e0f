"""What a network must beat: constants, rules and a linear model on the same features and blocks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import TypeAdapter
from scipy.special import expit

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeaturePanel
from financial_assets.market.panel import PricePanel
from financial_assets.models.baselines.ranks import RANK_RULES, excess_move
from financial_assets.models.baselines.risk import FittedHar, ewma_quantiles, fit_har
from financial_assets.models.baselines.trailing import HISTORY, session_returns, trailing_quantiles
from financial_assets.models.fitting.regression import fit_logistic
from financial_assets.models.risk.bars import RiskBars
from financial_assets.models.scaling import RobustScaler
from financial_assets.models.training_data import TrainingData, panel_volatility
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

_QUANTILES = ("q01", "q05", "q50", "q95", "q99")
_QUANTILES_5D = tuple(f"{name}_5d" for name in _QUANTILES)
PREDICTION_COLUMNS = ("date", "ticker", "model", "probability_up", *_QUANTILES, *_QUANTILES_5D, "excess_return")
"""Tidy prediction table; NaN where a baseline makes no such forecast. They are the columns of served answers."""

_FEW_SESSIONS = 8
"""Sessions up to which a quantile of each window by itself is quicker than a window that slides up to them."""


@dataclass(frozen=True)
class Baselines:
    """Fitted baselines; plain numbers, saved as JSON.

    Attributes
    ----------
    majority_up
        Share of "up" in the fit block: the answer of ``majority`` on every day.
    up_after_up, up_after_down
        Share of "up" in the fit block after a rise and after a fall: the answer of ``persistence``.
    feature_names, center, scale, coefficients, intercept, regularisation
        ``logistic``: regression on the scaled features of the decision session; ``regularisation`` is scikit-learn's
        ``C``, chosen on the stop block.
    scaled_quantiles
        Quantiles of volatility-scaled returns in the fit block: the answer of ``filtered`` (filtered historical
        simulation, Barone-Adesi, Giannopoulos & Vosper 1999), times today's volatility. ``historical`` takes them from
        the last 500 known returns of the ticker.
    cutoff
        Last session used.
    scaled_quantiles_5d
        Those over five sessions; empty in files of before there were any.
    har, har_silent
        The regression behind ``har``, and why it has none or misses tickers; ``None`` in files of before it.
    """

    majority_up: float
    up_after_up: float
    up_after_down: float
    feature_names: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    regularisation: float
    scaled_quantiles: tuple[float, ...]
    cutoff: str
    scaled_quantiles_5d: tuple[float, ...] = ()
    har: FittedHar | None = None
    har_silent: str = ""

    @property
    def silent(self) -> dict[str, str]:
        """Baseline that forecasts nothing for any ticker -> why, as a clause for the middle of a sentence."""
        if self.har is not None:
            return {}
        return {"har": self.har_silent or "the baselines were fitted by an earlier version, without it"}

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        atomic_write_text(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Baselines:
        """Read what ``save`` wrote.

        Raises
        ------
        TrainingError
            If the file is missing, not JSON, or lacks a field.
        """
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise TrainingError(f"{path} holds no baselines ({error}): materialise `reference_models` again") from error

    def predict(
        self, features: FeaturePanel, panel: PricePanel, sessions: pd.DatetimeIndex | None = None
    ) -> pd.DataFrame:
        """Daily answers of every baseline, each from what was known at its session.

        Parameters
        ----------
        features, panel
            On the same axes; the features may be of the panel's last sessions alone.
        sessions
            Which decisions; default: all.

        Returns
        -------
        pandas.DataFrame
            ``PREDICTION_COLUMNS``, sorted by date, ticker, model; one row per valid (session, ticker) and model.
        """
        if tuple(features.names) != self.feature_names:
            raise TrainingError(
                f"the baselines were fitted on other features ({len(self.feature_names)}, now {len(features.names)}), "
                "made by an earlier version: `financial-assets run` fits them again, but a decision recorded before "
                "that cannot be repeated"
            )
        before = len(panel.sessions) - len(features.sessions)
        if tuple(features.tickers) != tuple(panel.tickers) or not features.sessions.equals(panel.sessions[before:]):
            raise TrainingError("the features are not of the panel's last sessions: materialise `features` again")
        chosen = features.valid.copy()
        if sessions is not None:
            chosen &= features.sessions.isin(sessions)
        ticker, session = np.nonzero(chosen)
        scaler = RobustScaler.from_values(self.center, self.scale)
        rows = scaler(torch.from_numpy(features.values[ticker, :, session])).double().numpy()
        # Row by row: a product of matrix and vector may round a row otherwise, depending on the rows around it.
        score = (rows * np.asarray(self.coefficients)).sum(axis=1) + self.intercept
        dates = features.sessions.to_numpy()[session]
        session = session + before
        returns = session_returns(panel)
        rose = returns[ticker, session] > 0
        volatility = panel_volatility(panel).numpy().astype(np.float64)[ticker, session]
        answers = {
            "majority": {"probability_up": np.full(len(ticker), self.majority_up)},
            "persistence": {"probability_up": np.where(rose, self.up_after_up, self.up_after_down)},
            "logistic": {"probability_up": expit(score)},
            "historical": _columns(_historical(returns, ticker, session)),
            "filtered": _columns(volatility[:, None] * np.asarray(self.scaled_quantiles)),
            "ewma": _columns(ewma_quantiles(volatility, 1), ewma_quantiles(volatility, 5)),
        }
        if self.scaled_quantiles_5d:
            multiples = np.asarray(self.scaled_quantiles_5d) * 5**0.5
            answers["filtered"] |= _columns(None, volatility[:, None] * multiples)
        if self.har is not None:
            answers["har"] = _columns(*(values[ticker, session] for values in self.har.quantiles(RiskBars.of(panel))))
        for name, (moves, sign) in RANK_RULES.items():
            move = excess_move(panel, moves)[ticker, session]
            answers[name] = {"excess_return": sign * move / (volatility * moves**0.5)}
        return _tidy(answers, dates, np.asarray(features.tickers, dtype=object)[ticker])


def fit_baselines(
    features: FeaturePanel, panel: PricePanel, *, cutoff: pd.Timestamp, sequence_length: int
) -> Baselines:
    """Fit all baselines on the blocks that the networks are trained on.

    Raises
    ------
    TrainingError
        If there are too few windows.
    """
    data = TrainingData.until(cutoff, features, panel, sequence_length=sequence_length)
    scaler = RobustScaler.fit(data.fit.last_step)
    blocks = {name: getattr(data, name) for name in ("fit", "stop")}
    rows = {name: scaler(block.last_step).numpy() for name, block in blocks.items()}
    ups = {name: (block.outcome[:, 0] > 0).numpy() for name, block in blocks.items()}
    logistic = fit_logistic(*((rows[name], ups[name]) for name in ("fit", "stop")))
    rose = session_returns(panel)[data.fit.tickers, data.fit.sessions] > 0
    volatility = data.causal_volatility.double().numpy()[data.fit.tickers, data.fit.sessions]
    scaled = data.fit.outcome[:, 0].double().numpy() / volatility
    scaled_5d = data.fit.labels.outcome_5d[:, 0].double().numpy() / (volatility * 5**0.5)
    har, har_silent = fit_har(panel, cutoff)
    base = float(ups["fit"].mean())
    return Baselines(
        majority_up=base,
        up_after_up=float(ups["fit"][rose].mean()) if rose.any() else base,
        up_after_down=float(ups["fit"][~rose].mean()) if (~rose).any() else base,
        feature_names=data.feature_names,
        center=tuple(scaler.center.double().tolist()),
        scale=tuple(scaler.scale.double().tolist()),
        coefficients=tuple(logistic.coefficients[:, 0].tolist()),
        intercept=float(logistic.intercepts[0]),
        regularisation=logistic.strength,
        scaled_quantiles=tuple(np.quantile(scaled, QUANTILE_LEVELS).tolist()),
        cutoff=f"{data.cutoff:%Y-%m-%d}",
        scaled_quantiles_5d=tuple(np.quantile(scaled_5d, QUANTILE_LEVELS).tolist()),
        har=har,
        har_silent=har_silent,
    )


def _historical(returns: np.ndarray, ticker: np.ndarray, session: np.ndarray) -> np.ndarray:
    """``trailing_quantiles`` of some rows ``[n, level]``, without those of sessions that none of them asks for."""
    start = max(int(session.min(initial=returns.shape[1])) - HISTORY + 1, 0)
    days = np.unique(session)
    if days.size <= _FEW_SESSIONS:
        found = np.empty((len(ticker), len(QUANTILE_LEVELS)))
        for day in days:
            rows = np.flatnonzero(session == day)
            found[rows] = _quantiles_of_rows(returns[ticker[rows], max(day - HISTORY + 1, 0) : day + 1])
        return found
    known = trailing_quantiles(returns[:, start : int(session.max(initial=-1)) + 1])
    return known[ticker, session - start]


def _quantiles_of_rows(windows: np.ndarray) -> np.ndarray:
    """Quantiles of each row ``[row, level]``; NaN counts for nothing."""
    # A session that nobody traded, such as the first one of a panel, must not make every row one with a gap.
    windows = windows[:, ~np.isnan(windows).all(axis=0)]
    has_gap, has_return = np.isnan(windows).any(axis=1), ~np.isnan(windows).all(axis=1)
    found = np.full((len(windows), len(QUANTILE_LEVELS)), np.nan)
    if not has_return.any():
        return found
    found[~has_gap & has_return] = np.quantile(windows[~has_gap & has_return], QUANTILE_LEVELS, axis=1).T
    for row in np.flatnonzero(has_gap & has_return):
        found[row] = np.nanquantile(windows[row], QUANTILE_LEVELS)
    return found


def _columns(quantiles: np.ndarray | None, further: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Quantiles ``[n, level]`` of one session and of five by column."""
    pairs = ((_QUANTILES, quantiles), (_QUANTILES_5D, further))
    return {name: values[:, place] for names, values in pairs if values is not None for place, name in enumerate(names)}


def _tidy(answers: dict[str, dict[str, np.ndarray]], dates: np.ndarray, tickers: np.ndarray) -> pd.DataFrame:
    frames = [
        pd.DataFrame({"date": dates, "ticker": tickers, "model": name, **columns}).reindex(columns=PREDICTION_COLUMNS)
        for name, columns in answers.items()
    ]
    answered = [frame.astype(dict.fromkeys(PREDICTION_COLUMNS[3:], np.float64)) for frame in frames]
    return pd.concat(answered, ignore_index=True).sort_values(["date", "ticker", "model"], ignore_index=True)
