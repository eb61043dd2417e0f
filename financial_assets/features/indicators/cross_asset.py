"""The ticker against its market."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import (
    SCALE_LOOKBACK,
    SCALE_WINDOW,
    Bars,
    in_daily_scale,
    log_return,
    market_return,
)
from financial_assets.features.feature import Feature
from financial_assets.features.indicators.volatility import ANNUAL, ANNUAL_BOUNDS, return_std

_feature = partial(Feature, "cross_asset")

SHARPE = "Sharpe (1963), market model"
BETA_BOUNDS = (-3.0, 5.0)
ROUNDING = 2.0**-16
"""Share of a sum of 60 squares that may be rounding."""


def _market_scale(bars: Bars) -> Tensor:
    returns = market_return(bars)
    return torch.sqrt(rolling.mean(returns * returns, SCALE_WINDOW))


def _market_products(bars: Bars) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of squares of 60 market and ticker returns, and of their products."""
    return rolling.product_moments(market_return(bars), log_return(bars), 60)


def _beta(bars: Bars) -> Tensor:
    products = _market_products(bars)
    return torch.clamp(rolling.ratio(products[2], products[0], neutral=1.0), *BETA_BOUNDS)


def _downside_beta(bars: Bars) -> Tensor:
    falling = torch.clamp(market_return(bars), max=0.0)
    return rolling.ratio(rolling.sum_(falling * log_return(bars), 60), rolling.sum_(falling * falling, 60), neutral=1.0)


def _idiosyncratic_volatility(bars: Bars) -> Tensor:
    products = _market_products(bars)
    # What rounding leaves of a ticker that is its market is not a residual: its root would be 0.1 % of the volatility.
    unexplained = products[1] * (1.0 - ROUNDING) - rolling.ratio(products[2] * products[2], products[0])
    return ANNUAL * torch.sqrt(torch.clamp(unexplained, min=0.0) / 60.0)


def _relative_strength(window: int) -> Feature:
    return _feature(
        f"relative_strength_{window}",
        max(window + 1, SCALE_LOOKBACK),
        f"(log(close / close[-{window}]) - log(market / market[-{window}])) / (scale * sqrt({window}))",
        "Levy (1967)",
        lambda bars: in_daily_scale(bars, log_return(bars, window) - market_return(bars, window), window),
        bounds=(-6.0, 6.0),
    )


def _market_momentum(window: int) -> Feature:
    return _feature(
        f"market_momentum_{window}",
        max(window + 1, SCALE_LOOKBACK),
        f"log(market / market[-{window}]) / (market scale * sqrt({window}))",
        "Cooper, Gutierrez and Hameed (2004)",
        lambda bars: rolling.ratio(market_return(bars, window), _market_scale(bars) * window**0.5),
        bounds=(-6.0, 6.0),
    )


def _market_correlation(window: int) -> Feature:
    return _feature(
        f"market_correlation_{window}",
        window + 1,
        f"correlation of ticker and market log returns over {window} bars",
        SHARPE,
        lambda bars: rolling.correlation(log_return(bars), market_return(bars), window),
    )


FEATURES: tuple[Feature, ...] = (
    *(_market_momentum(window) for window in (1, 5, 20)),
    _feature(
        "market_volatility_20",
        21,
        "annualised standard deviation of 20 market log returns",
        "standard",
        lambda bars: ANNUAL * rolling.std(market_return(bars), 20),
        bounds=ANNUAL_BOUNDS,
    ),
    *(_relative_strength(window) for window in (1, 5, 20, 60)),
    _feature(
        "beta_60",
        61,
        "covariance of ticker and market log returns / variance of the market's, 60 bars; 1 in a still market",
        SHARPE,
        _beta,
        neutral=1.0,
        bounds=BETA_BOUNDS,
    ),
    _feature(
        "downside_beta_60",
        61,
        "sum r m / sum m^2 over the days of 60 on which the market fell; 1 without such a day",
        "Ang, Chen and Xing (2006), uncentred",
        _downside_beta,
        neutral=1.0,
        bounds=BETA_BOUNDS,
    ),
    _market_correlation(20),
    _market_correlation(60),
    _feature(
        "market_lead_correlation_60",
        62,
        "correlation of the ticker's return with the market's of the day before, 60 bars",
        "Lo and MacKinlay (1990)",
        lambda bars: rolling.correlation(log_return(bars), rolling.lag(market_return(bars), 1), 60),
    ),
    _feature(
        "idiosyncratic_volatility_60",
        61,
        "annualised standard deviation of the market model's residual, 60 bars",
        "Ang, Hodrick, Xing and Zhang (2006), one factor",
        _idiosyncratic_volatility,
        bounds=ANNUAL_BOUNDS,
    ),
    _feature(
        "residual_momentum_20",
        SCALE_LOOKBACK,
        "(log(close / close[-20]) - beta_60 * log(market / market[-20])) / (scale * sqrt(20))",
        "Blitz, Huij and Martens (2011), one factor",
        lambda bars: in_daily_scale(bars, log_return(bars, 20) - _beta(bars) * market_return(bars, 20), 20),
        bounds=(-6.0, 6.0),
    ),
    _feature(
        "relative_volatility_20",
        21,
        "(v - m) / (v + m), standard deviations of 20 ticker and market log returns",
        "standard",
        lambda bars: rolling.relative_difference(return_std(bars, 20), rolling.std(market_return(bars), 20)),
    ),
)
