from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from financial_assets.features.graph import FeatureGraph

MakeBars = Callable[..., Tensor]


def _make_bars(
    seed: int, tickers: int = 3, sessions: int = 200, volatility: float = 0.02, trouble: bool = False
) -> Tensor:
    """Random bars with low <= open, close <= high; with ``trouble`` also flat stretches, halts and jumps."""
    rng = np.random.default_rng(seed)
    shape = (tickers, sessions)
    returns = rng.standard_t(4, shape) * volatility
    volume = 1e6 * np.exp(rng.normal(0, 0.5, shape))
    spread = np.abs(rng.normal(0, volatility / 2, (2, *shape)))
    overnight = rng.normal(0, volatility / 2, shape)
    if trouble:
        start, stop = np.sort(rng.integers(0, sessions, 2))
        returns[0, start:stop] = overnight[0, start:stop] = spread[:, 0, start:stop] = volume[0, start:stop] = 0.0
        returns[1, rng.integers(0, sessions)] = rng.choice([-1.5, 1.5])
        volume[1, rng.random(sessions) < 0.3] = 0.0
        returns[2] = spread[:, 2] = overnight[2] = 0.0
        returns[2, rng.integers(0, sessions)] = 0.7
    close = 50.0 * np.exp(np.cumsum(returns, axis=1))
    open_ = np.roll(close, 1, axis=1) * np.exp(overnight)
    open_[:, 0] = close[:, 0]
    high = np.maximum(open_, close) * np.exp(spread[0])
    low = np.minimum(open_, close) * np.exp(-spread[1])
    market = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, sessions) + 0.5 * returns.mean(axis=0)))
    day = 11000 + np.cumsum(rng.choice([1, 1, 1, 1, 3], sessions))
    channels = [open_, high, low, close, volume, np.broadcast_to(market, shape), np.broadcast_to(day, shape)]
    return torch.tensor(np.stack(channels, axis=1), dtype=torch.float32)


@pytest.fixture(scope="session")
def make_bars() -> MakeBars:
    return _make_bars


@pytest.fixture(scope="session")
def catalogue_graph() -> FeatureGraph:
    return FeatureGraph()
