"""A universe in which some of the next returns is known, and the real feature graph cut to a few quick features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph
from financial_assets.market.panel import PricePanel
from tests.models.conftest import panel_from_returns


@dataclass(frozen=True)
class World:
    """Prices, and as wide frames what could be known at each close, and what could not."""

    panel: PricePanel
    skill: pd.DataFrame
    luck: pd.DataFrame


def make_world(tickers: int, seed: int = 5, sessions: int = 420) -> World:
    """Expected returns that last for weeks and differ between tickers, under noise five times as large."""
    rng = np.random.default_rng(seed)
    expected = rng.normal(size=(tickers, sessions))
    for day in range(1, sessions):
        expected[:, day] = 0.97 * expected[:, day - 1] + (1 - 0.97**2) ** 0.5 * expected[:, day]
    returns = 0.01 * rng.normal(size=(tickers, sessions))
    returns[:, 1:] += 0.003 * expected[:, :-1]
    panel = panel_from_returns(returns, seed)
    # From here on a ticker has enough bars for its volatility and a liquidity.
    shown = slice(150, None)
    frame = pd.DataFrame(expected.T, index=panel.sessions, columns=list(panel.tickers))
    noise = pd.DataFrame(rng.normal(size=frame.shape), index=frame.index, columns=frame.columns)
    return World(panel, frame[shown], noise[shown])


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(12)


@pytest.fixture(scope="session")
def small_world() -> World:
    return make_world(3)


@pytest.fixture(scope="session")
def graph() -> FeatureGraph:
    quick = [feature for feature in CATALOGUE if feature.lookback <= 25][:8]
    # The volatility that scales the quantiles must be warm wherever the features are.
    return FeatureGraph([*quick, next(feature for feature in CATALOGUE if feature.name == "ewma_volatility")])
