"""Simulated prices without drift, and the product's own features of them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
from rich.progress import track
from rules import product
from worlds import YEAR, autoregressive

from financial_assets.features.catalogue import CATALOGUE
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.market import calendar
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.monitoring.drift.streams import feature_means

REFERENCE = 1000
CALENDAR = [feature.name for feature in CATALOGUE if feature.family == "calendar"]
_WARM = 256
"""Sessions before the first feature."""
DAYS = calendar.sessions(dt.date(2005, 1, 3), dt.date(2012, 12, 31))[: _WARM + REFERENCE + YEAR]
_BURN = 500


def garch_factor_prices(rng: np.random.Generator, tickers: int) -> PricePanel:
    """Bars of stocks with one market factor; factor and stocks are GARCH(1, 1) with Student t of 5 degrees."""
    shocks = rng.standard_t(5, (1 + tickers, _BURN + len(DAYS))) / np.sqrt(5 / 3)
    sizes, variance = np.empty_like(shocks), np.ones(1 + tickers)
    for at in range(shocks.shape[1]):
        sizes[:, at] = np.sqrt(variance)
        variance = 0.02 + (0.08 * shocks[:, at] ** 2 + 0.90) * variance
    shocks, sizes = shocks[:, _BURN:], sizes[:, _BURN:]
    beta = rng.uniform(0.6, 1.4, (tickers, 1))
    moves = 0.01 * (beta * shocks[0] * sizes[0] + 1.2 * shocks[1:] * sizes[1:])
    sigma = 0.01 * np.sqrt((beta * sizes[0]) ** 2 + (1.2 * sizes[1:]) ** 2)
    close = np.log(50.0) + np.cumsum(moves, axis=1)
    opening = np.roll(close, 1, axis=1) + 0.4 * sigma * rng.standard_normal(close.shape)
    opening[:, 0] = close[:, 0]
    high = np.maximum(opening, close) + 0.4 * sigma * np.abs(rng.standard_normal(close.shape))
    low = np.minimum(opening, close) - 0.4 * sigma * np.abs(rng.standard_normal(close.shape))
    traded = autoregressive(0.15 * rng.standard_normal(close.shape), 0.9) + 0.5 * np.log(sigma / 0.015)
    volume = np.round(5e6 * np.exp(traded + 0.25 * rng.standard_normal(close.shape)))
    names = [f"T{number:03d}" for number in range(tickers)]
    logs = {"open": opening, "high": high, "low": low, "close": close, "adj_close": close}
    prices = {name: np.exp(values).ravel() for name, values in logs.items()}
    keys = {"date": np.tile(DAYS, tickers), "ticker": np.repeat(names, len(DAYS))}
    return build_panel(pd.DataFrame({**keys, **prices, "volume": volume.ravel()}))


def own_features(rng: np.random.Generator, tickers: int) -> pd.DataFrame:
    """Daily means of the product's features of such prices ``[session, feature]``, the calendar's left out."""
    means = feature_means(compute_panel(garch_factor_prices(rng, tickers), FeatureGraph()))
    return means.drop(columns=CALENDAR).iloc[-(REFERENCE + YEAR) :]


def own_false_alarms(worlds: int, tickers: int, seed: int) -> np.ndarray:
    """Whether each simulated year raises an alarm of any of the product's features, bool ``[world]``."""
    found: list[bool] = []
    for world in track(range(worlds), f"{tickers} tickers"):
        means = own_features(np.random.default_rng([seed, tickers, world]), tickers).to_numpy().T
        found.append(bool(product(means[:, :REFERENCE], means[:, REFERENCE:], 1)[0] <= YEAR))
    return np.array(found)
