"""Price frames for the market's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from financial_assets.market import calendar
from financial_assets.market.frames import PRICE_COLUMNS
from financial_assets.market.sources.sample import SAMPLE_TICKERS, SamplePrices

MakePrices = Callable[..., pd.DataFrame]


def _make_prices(
    tickers: tuple[str, ...] = ("AAA", "BBB"), count: int = 40, start: str = "2020-01-02", seed: int = 0
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sessions = calendar.sessions(start, pd.Timestamp(start) + pd.Timedelta(days=2 * count + 10))[:count]
    parts = []
    for ticker in tickers:
        close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(count)))
        opening = close * np.exp(0.004 * rng.standard_normal(count))
        bars = {
            "date": sessions,
            "ticker": ticker,
            "open": opening,
            "high": np.maximum(opening, close) * 1.002,
            "low": np.minimum(opening, close) * 0.998,
            "close": close,
            "volume": np.round(1e6 * np.exp(0.3 * rng.standard_normal(count))),
            "adj_close": 0.5 * close,
        }
        parts.append(pd.DataFrame(bars))
    return pd.concat(parts, ignore_index=True)[list(PRICE_COLUMNS)]


@pytest.fixture(scope="session")
def make_prices() -> MakePrices:
    """Makes a clean price frame: tickers, number of sessions, first day, seed."""
    return _make_prices


@pytest.fixture(scope="session")
def sample() -> pd.DataFrame:
    """All bundled real bars."""
    return SamplePrices().fetch(SAMPLE_TICKERS, None, None).prices
