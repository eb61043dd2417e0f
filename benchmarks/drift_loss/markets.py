"""Markets without drift, and one that turns, with a logistic model that is fitted, calibrated and served on each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.signal import lfilter
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market import calendar
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.sources.sample import SamplePrices
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.models.answers import Answers
from financial_assets.models.calibration import fit_platt
from financial_assets.models.dataset import chronological_blocks
from financial_assets.monitoring.drift.streams import feature_means
from financial_assets.monitoring.drift.thresholds import SESSIONS_A_YEAR

REFERENCE, YEAR = 1500, SESSIONS_A_YEAR
TICKERS = ("AAA", "BBB")
CALENDAR = [feature.name for feature in CATALOGUE if feature.family == "calendar"]
DAYS = calendar.sessions(dt.date(2005, 1, 3), dt.date(2012, 12, 31))[: REFERENCE + YEAR + 1]
BLOCK = 63
"""Sessions that stay together when real bars are drawn anew."""


@dataclass(frozen=True)
class World:
    """Features by session, and a model's answers: on its calibrate block, and as served."""

    means: pd.DataFrame
    held_out: Answers
    served: Answers
    majority_up: float

    def platt(self, answers: Answers) -> np.ndarray:
        """Probabilities, calibrated on the calibrate block."""
        scaling = fit_platt(self.held_out.logit, self.held_out.up, self.held_out.session)
        return expit(scaling.scale * answers.logit + scaling.bias)


def simulated(rng: np.random.Generator, shift: int | None = None, signal: float = 0.2) -> PricePanel:
    """The package's own market."""
    market = SimulatedMarket(
        sessions=len(DAYS),
        seed=int(rng.integers(1 << 31)),
        signal_strength=signal,
        regime_shift_session=shift,
        start=DAYS[0].date(),
    )
    return build_panel(SimulatedPrices(market).fetch(TICKERS).prices)


def garch(rng: np.random.Generator) -> PricePanel:
    """A market factor and two stocks, each GARCH(1, 1) with Student-t innovations of 5 degrees of freedom."""
    warm = 500
    shocks = rng.standard_t(5, (3, len(DAYS) + warm)) / np.sqrt(5 / 3)
    sizes, variance = np.empty_like(shocks), np.ones(3)
    for at in range(shocks.shape[1]):
        sizes[:, at] = np.sqrt(variance)
        variance = 0.02 + (0.08 * shocks[:, at] ** 2 + 0.90) * variance
    return factor_market(rng, shocks[:, warm:], sizes[:, warm:])


def long_memory(rng: np.random.Generator) -> PricePanel:
    """Log volatility of three speeds, half-lives 5, 50 and 250 sessions: as good as long memory for years."""
    level, warm = np.zeros((3, len(DAYS))), 1000
    for half_life, spread in ((5, 0.2), (50, 0.25), (250, 0.3)):
        coefficient = 0.5 ** (1 / half_life)
        shocks = spread * np.sqrt(1 - coefficient**2) * rng.standard_normal((3, len(DAYS) + warm))
        level += np.asarray(lfilter([1.0], [1.0, -coefficient], shocks, axis=1))[:, warm:]
    return factor_market(rng, rng.standard_normal((3, len(DAYS))), np.exp(0.8 * level[0] + 0.6 * level))


def factor_market(rng: np.random.Generator, shocks: np.ndarray, sizes: np.ndarray) -> PricePanel:
    """Bars of two stocks: row 0 moves both, rows 1 and 2 one each."""
    shape = (2, len(DAYS))
    moves = 0.011 * (shocks[0] * sizes[0] + shocks[1:] * sizes[1:])
    sigma = 0.011 * np.sqrt(sizes[0] ** 2 + sizes[1:] ** 2)
    close = np.log(50.0) + np.cumsum(moves, axis=1)
    opening = np.roll(close, 1, axis=1) + 0.4 * sigma * rng.standard_normal(shape)
    opening[:, 0] = close[:, 0]
    high = np.maximum(opening, close) + 0.4 * sigma * np.abs(rng.standard_normal(shape))
    low = np.minimum(opening, close) - 0.4 * sigma * np.abs(rng.standard_normal(shape))
    slow = np.asarray(lfilter([1.0], [1.0, -0.9], 0.15 * rng.standard_normal(shape), axis=1))
    volume = slow + 0.5 * np.log(sigma / 0.015) + 0.25 * rng.standard_normal(shape)
    return panel_of(TICKERS, opening, high, low, close, volume)


def panel_of(names: tuple[str, ...], *logs: np.ndarray) -> PricePanel:
    """A panel of log open, high, low, close and log relative volume, each ``[ticker, session]``."""
    opening, high, low, close, volume = (np.exp(values).ravel() for values in logs)
    prices = {"open": opening, "high": high, "low": low, "close": close, "adj_close": close}
    keys = {"date": np.tile(DAYS, len(names)), "ticker": np.repeat(names, len(DAYS))}
    return build_panel(pd.DataFrame({**keys, **prices, "volume": np.round(5e6 * volume)}))


def redrawn() -> Callable[[np.random.Generator], PricePanel]:
    """The bundled bars of AAPL and MSFT in blocks of a quarter, drawn with replacement, both stocks together."""
    panel = build_panel(SamplePrices().fetch(["AAPL", "MSFT"]).prices)
    opening, high, low, close, volume = np.log(np.maximum(panel.values[:, :5].astype(np.float64), 1e-9)).swapaxes(0, 1)
    usual = pd.DataFrame(volume.T).rolling(252, center=True, min_periods=60).median().to_numpy().T
    parts = (opening[:, 1:] - close[:, :-1], *(x[:, 1:] - opening[:, 1:] for x in (high, low, close)))
    parts = (*parts, (volume - usual)[:, 1:])

    def draw(rng: np.random.Generator) -> PricePanel:
        starts = rng.integers(0, parts[0].shape[1] - BLOCK + 1, len(DAYS) // BLOCK + 1)
        days = (starts[:, None] + np.arange(BLOCK)).ravel()[: len(DAYS)]
        gap, up, down, body, traded = (part[:, days] for part in parts)
        last = np.log(50.0) + np.cumsum(gap + body, axis=1)
        first = last - body
        return panel_of(panel.tickers, first, first + up, first + down, last, traded)

    return draw


def served(panel: PricePanel, graph: FeatureGraph, rng: np.random.Generator) -> World:
    """A logistic model of thirty features, fitted on the fit block; its answers on the calibrate block and after."""
    features = compute_panel(panel, graph)
    outcome = next_session_return(panel)
    known = features.valid & np.isfinite(outcome)
    blocks = chronological_blocks(REFERENCE, int(np.argmax(features.valid.any(axis=0))))
    usable = [place for place, name in enumerate(features.names) if name not in CALENDAR]
    chosen = rng.choice(usable, 30, replace=False)
    values = features.values[:, chosen, :].transpose(0, 2, 1)
    sessions = np.broadcast_to(panel.sessions.to_numpy(), known.shape)

    def rows(span: range) -> np.ndarray:
        inside = np.zeros_like(known)
        inside[:, span.start : span.stop] = known[:, span.start : span.stop]
        return inside

    fit = rows(blocks.fit)
    centre, spread = values[fit].mean(axis=0), values[fit].std(axis=0) + 1e-9
    up = outcome > 0
    model = LogisticRegression(C=0.02).fit(np.clip((values[fit] - centre) / spread, -5, 5), up[fit])

    def answers(span: range) -> Answers:
        at = rows(span)
        order = np.argsort(sessions[at], kind="stable")
        logit = model.decision_function(np.clip((values[at] - centre) / spread, -5, 5))[order]
        ones = np.ones(len(order))
        names = np.broadcast_to(np.array(panel.tickers)[:, None], known.shape)[at][order]
        # Only the direction is watched; what the other heads would answer is not looked at.
        return Answers(
            session=sessions[at][order],
            ticker=names,
            logit=logit,
            multiples=np.ones((len(order), 5)),
            multiples_5d=np.ones((len(order), 5)),
            score=ones,
            outcome=outcome[at][order],
            outcome_5d=ones,
            excess=ones,
            volatility=np.ones((len(order), 2)),
        )

    means = feature_means(features).drop(columns=CALENDAR)
    means = means[means.index >= panel.sessions[blocks.fit.start]]
    return World(means, answers(blocks.calibrate), answers(range(REFERENCE, len(DAYS))), float(up[fit].mean()))
