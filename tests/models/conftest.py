"""Small panels whose law is known, and the real feature graph cut to a few quick features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.panel import PricePanel
from financial_assets.models.training import Training, train
from financial_assets.models.variants import Variant

SEQUENCE_LENGTH = 5
TINY = Variant("tiny", layers=1, hidden=8, dropout=0.1, epochs=3, learning_rate=1e-2, batch_size=128)


def panel_from_returns(returns: np.ndarray, seed: int = 0) -> PricePanel:
    """Bars around the closes that ``returns`` ``[ticker, session]`` (log) make."""
    rng = np.random.default_rng(seed)
    tickers, count = returns.shape
    close = 50.0 * np.exp(np.cumsum(returns, axis=1))
    opening = close * np.exp(rng.normal(0.0, 0.003, close.shape))
    high = np.maximum(opening, close) * np.exp(np.abs(rng.normal(0.0, 0.003, close.shape)))
    low = np.minimum(opening, close) * np.exp(-np.abs(rng.normal(0.0, 0.003, close.shape)))
    volume = np.exp(rng.normal(14.0, 0.4, close.shape))
    market = np.broadcast_to(100.0 * np.exp(np.cumsum(returns.mean(axis=0))), close.shape)
    sessions = pd.bdate_range("2001-01-01", periods=count)
    day = np.broadcast_to((sessions - pd.Timestamp("1970-01-01")).days, close.shape)
    values = np.stack([opening, high, low, close, volume, market, day], axis=1).astype(np.float32)
    names = tuple(f"T{number}" for number in range(tickers))
    return PricePanel(names, sessions, np.ascontiguousarray(values), np.ones((tickers, count), dtype=bool))


def walk(seed: int = 0, tickers: int = 2, count: int = 900) -> PricePanel:
    """A random walk: nothing can be predicted."""
    return panel_from_returns(np.random.default_rng(seed).normal(0.0, 0.015, (tickers, count)), seed)


def persistent(seed: int = 0, tickers: int = 2, count: int = 900, hit: float = 0.75) -> PricePanel:
    """Each session repeats the sign of the one before with probability ``hit``: the Bayes accuracy."""
    rng = np.random.default_rng(seed)
    keep = np.where(rng.random((tickers, count)) < hit, 1.0, -1.0)
    return panel_from_returns(np.cumprod(keep, axis=1) * rng.uniform(0.005, 0.02, (tickers, count)), seed)


@pytest.fixture(scope="session")
def graph() -> FeatureGraph:
    quick = [feature for feature in CATALOGUE if feature.lookback <= 25][:15]
    # The volatility that scales the quantiles must be warm wherever the features are.
    return FeatureGraph([*quick, next(feature for feature in CATALOGUE if feature.name == "ewma_volatility")])


@pytest.fixture(scope="session")
def make_walk() -> Callable[..., PricePanel]:
    return walk


@pytest.fixture(scope="session")
def make_persistent() -> Callable[..., PricePanel]:
    return persistent


@pytest.fixture(scope="session")
def panel() -> PricePanel:
    return walk()


@pytest.fixture(scope="session")
def features(panel: PricePanel, graph: FeatureGraph) -> FeaturePanel:
    return compute_panel(panel, graph)


@pytest.fixture(scope="session")
def cutoff(panel: PricePanel) -> pd.Timestamp:
    return panel.sessions[799]


@pytest.fixture(scope="session")
def tiny() -> Variant:
    return TINY


@pytest.fixture(scope="session")
def sequence_length() -> int:
    return SEQUENCE_LENGTH


@pytest.fixture(scope="session")
def training(features: FeaturePanel, panel: PricePanel, cutoff: pd.Timestamp) -> Training:
    return train(TINY, features, panel, cutoff=cutoff, sequence_length=SEQUENCE_LENGTH, seed=7, device="cpu")
