"""How much prices move."""

from __future__ import annotations

import torch
from torch import Tensor

from financial_assets.features import rolling
from financial_assets.features.bars import Bars, log_return, shared
from financial_assets.features.feature import Feature, define

__all__ = ["CAUSAL_VOLATILITY_LOOKBACK", "FEATURES", "SESSIONS_PER_YEAR", "VOLATILITY_FLOOR", "causal_volatility"]

SESSIONS_PER_YEAR = 252
RISKMETRICS_DECAY = 0.94
VOLATILITY_FLOOR = 1e-4
"""Smallest daily volatility: a basis point, so that a halted ticker divides nothing by zero."""

CAUSAL_VOLATILITY_LOOKBACK = rolling.ema_bars(RISKMETRICS_DECAY) + 1
ANNUAL = SESSIONS_PER_YEAR**0.5


@shared
def causal_volatility(bars: Bars) -> Tensor:
    """Daily volatility known at the close: RiskMetrics' EWMA of squared log returns.

    Source: J.P. Morgan/Reuters, RiskMetrics Technical Document (1996), decay 0.94.

    Returns
    -------
    Tensor
        ``[..., session]``, at least ``VOLATILITY_FLOOR``; looks back ``CAUSAL_VOLATILITY_LOOKBACK`` bars.
    """
    returns = log_return(bars)
    return torch.clamp(torch.sqrt(rolling.ema(returns * returns, RISKMETRICS_DECAY)), min=VOLATILITY_FLOOR)


def _volatility(window: int) -> Feature:
    return define(
        f"volatility_{window}",
        "volatility",
        window + 1,
        f"annualised standard deviation of the last {window} daily log returns",
        "standard",
        lambda bars: ANNUAL * rolling.std(log_return(bars), window),
        bounds=(0.0, 5.0),
        replaces=(f"volatility_{window}",) if window <= 20 else (),
    )


FEATURES: tuple[Feature, ...] = (
    *(_volatility(window) for window in (5, 10, 20, 60)),
    define(
        "ewma_volatility",
        "volatility",
        CAUSAL_VOLATILITY_LOOKBACK,
        "annualised root of the EWMA (decay 0.94) of squared daily log returns, at least a basis point a day",
        "J.P. Morgan/Reuters, RiskMetrics (1996)",
        lambda bars: ANNUAL * causal_volatility(bars),
        neutral=ANNUAL * VOLATILITY_FLOOR,
        bounds=(0.0, 5.0),
    ),
)
