"""What a panel says about trading a span of its sessions: returns between opens, liquidity, and what one could hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from financial_assets.features.bars import CAUSAL_VOLATILITY_LOOKBACK, Bars, causal_volatility, split_channels
from financial_assets.features.feature import Feature
from financial_assets.features.indicators import cross_asset, liquidity
from financial_assets.market import calendar
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.portfolio.arguments import Floats, Mask
from financial_assets.portfolio.costs import BASIS_POINT, Costs, SquareRootImpact, average_dollar_volume, half_spread
from financial_assets.portfolio.economics.assumptions import Assumptions
from financial_assets.portfolio.economics.forecasts import Forecasts
from financial_assets.portfolio.traded import TradedReturns, traded_returns

BENCHMARK = "SPY"
"""Held beside the books, where the panel has it as a ticker or as a covariate."""

_VOLUME_WINDOW = 20


@dataclass(frozen=True)
class TradedSpan:
    """Prices of the forecasts' tickers on their sessions.

    Attributes
    ----------
    sessions
        Of the decisions.
    exits
        Session at whose open the position of each session is left ``[session]``; the last known one where that is still
        to come.
    opens, highs, lows
        Adjusted ``[ticker, session + 2]``; NaN where the ticker did not trade as a member of the universe.
    traded
        What positions earn, see :func:`.traded.traded_returns`.
    valid
        Whether the ticker traded on the session of the decision ``[ticker, session]``.
    settled
        Whether the return of the session is known ``[session]``: not, where the open at which it ends is still to come.
    volatility, beta
        Known at the close ``[ticker, session]``; NaN where there were too few bars.
    costs
        Of the market, as assumed; NaN where a rate is not known.
    costed
        Whether all of its rates are known ``[ticker, session]``.
    benchmark
        Simple return of holding it ``[session]``; ``None`` where the panel does not have it.
    """

    sessions: pd.DatetimeIndex
    exits: pd.DatetimeIndex
    opens: Floats
    highs: Floats
    lows: Floats
    traded: TradedReturns
    valid: Mask
    settled: Mask
    volatility: Floats
    beta: Floats
    costs: Costs
    costed: Mask
    benchmark: Floats | None

    def cash(self, per_year: float) -> Floats:
        """Simple return of cash ``[session]``."""
        return np.full(len(self.sessions), per_year / calendar.sessions_per_year())


def traded_span(forecasts: Forecasts, panel: PricePanel, assumptions: Assumptions) -> TradedSpan:
    """What the panel says about the sessions of the forecasts.

    The last session may have no second open yet: it is there, so that what is held can be sold at the first one.
    """
    first, end, rows = forecasts.first, forecasts.end, forecasts.rows
    bars = _Bars(panel, rows, first, end)
    opens, highs, lows = (bars.traded(name) for name in ("open", "high", "low"))
    # A float32 panel may round an open past its high.
    highs, lows = np.fmax(highs, opens), np.fmin(lows, opens)
    traded = traded_returns(opens, delisting_return=assumptions.delisting_return)
    costs, costed, volatility = _market_costs(bars, assumptions)
    return TradedSpan(
        sessions=panel.sessions[first:end],
        exits=panel.sessions[np.minimum(np.arange(first, end) + 2, len(panel.sessions) - 1)],
        opens=opens,
        highs=highs,
        lows=lows,
        traded=traded,
        valid=panel.valid[rows, first:end],
        settled=np.arange(first, end) + 2 < len(panel.sessions),
        volatility=volatility,
        beta=bars.of_feature(_feature(cross_asset.FEATURES, "beta_60")),
        costs=costs,
        costed=costed,
        benchmark=_benchmark(panel, first, end),
    )


def market_costs(
    panel: PricePanel, rows: np.ndarray, first: int, end: int, assumptions: Assumptions
) -> tuple[Costs, Mask]:
    """Market costs of trades that are decided on a span of sessions, as they are known then.

    Parameters
    ----------
    panel
        Prices.
    rows
        Places of the tickers in it.
    first, end
        Sessions from number ``first`` to before ``end``.
    assumptions
        What is assumed of costs.

    Returns
    -------
    tuple
        Costs, and whether all rates are known ``[ticker, session]``; those that are not are NaN.
    """
    costs, costed, _ = _market_costs(_Bars(panel, rows, first, end), assumptions)
    return costs, costed


def _market_costs(bars: _Bars, assumptions: Assumptions) -> tuple[Costs, Mask, Floats]:
    """The same, and the volatility behind them ``[ticker, session]``."""
    volatility = bars.computed(causal_volatility, CAUSAL_VOLATILITY_LOOKBACK)
    spread = _half_spread(bars, assumptions)
    volume = _expected_volume(bars)
    costs = Costs(
        flat_bps=assumptions.commission_bps,
        half_spread=spread,
        impact=SquareRootImpact(assumptions.impact, volatility, volume) if assumptions.impact > 0 else None,
        borrow_per_year=assumptions.borrow_per_year,
    )
    costed = ~np.isnan(np.broadcast_to(spread, volatility.shape))
    if assumptions.impact > 0:
        costed = costed & ~np.isnan(volatility) & ~np.isnan(volume)
    return costs, costed, volatility


@dataclass(frozen=True)
class _Bars:
    """Bars of some tickers of a panel, on the sessions of the decisions and around them."""

    panel: PricePanel
    rows: np.ndarray
    first: int
    end: int

    def traded(self, channel: str) -> Floats:
        """A price ``[ticker, session + 2]``, NaN where there was no trade; of a session to come, that of the last."""
        place = np.minimum(np.arange(self.first, self.end + 2), len(self.panel.sessions) - 1)
        prices = self.panel.values[self.rows[:, None], CHANNELS.index(channel), place].astype(np.float64)
        return np.where(self.panel.valid[self.rows[:, None], place], prices, np.nan)

    def computed(self, function: Callable[[Bars], torch.Tensor], lookback: int) -> Floats:
        """A function of bars ``[ticker, session]``, NaN where fewer bars than it looks back on are known."""
        begin = max(self.first - lookback + 1, 0)
        values = self.panel.values[self.rows, :, begin : self.end]
        found = function(split_channels(torch.from_numpy(np.ascontiguousarray(values)))).numpy().astype(np.float64)
        bars = np.cumsum(~np.isnan(values[:, CHANNELS.index("close")]), axis=1)
        return np.where((bars >= lookback) & np.isfinite(found), found, np.nan)[:, self.first - begin :]

    def of_feature(self, feature: Feature) -> Floats:
        """A feature of the catalogue, likewise."""
        return self.computed(feature.function, feature.lookback)


def _feature(family: tuple[Feature, ...], name: str) -> Feature:
    return next(feature for feature in family if feature.name == name)


def _half_spread(bars: _Bars, assumptions: Assumptions) -> Floats:
    if assumptions.half_spread_bps is not None:
        return np.full((1, 1), assumptions.half_spread_bps * BASIS_POINT)
    percent = bars.of_feature(_feature(liquidity.FEATURES, "corwin_schultz_spread_20"))
    return _last_known(half_spread(percent))


def _expected_volume(bars: _Bars) -> Floats:
    """Money traded in a session with trade, expected at the close; NaN before there was any.

    Sessions without trade tell nothing about the next one with trade: at that one a suspended position is sold.
    """
    begin = max(bars.first - _VOLUME_WINDOW + 1, 0)
    values = bars.panel.values[bars.rows, :, begin : bars.end].astype(np.float64)
    money = values[:, CHANNELS.index("close")] * values[:, CHANNELS.index("volume")]
    money = np.where(bars.panel.valid[bars.rows, begin : bars.end], money, np.nan)
    mean = average_dollar_volume(money, _VOLUME_WINDOW)
    return _last_known(np.where(mean > 0, mean, np.nan))[:, bars.first - begin :]


def _last_known(values: Floats) -> Floats:
    """Each gap filled with what was known before it."""
    known = ~np.isnan(values)
    place = np.maximum.accumulate(np.where(known, np.arange(values.shape[1]), 0), axis=1)
    return np.take_along_axis(values, place, axis=1)


def _benchmark(panel: PricePanel, first: int, end: int) -> Floats | None:
    """From open to open as a ticker; as a covariate, which has closes only, from the session's close to the next."""
    if BENCHMARK in panel.tickers:
        bars = _Bars(panel, np.array([panel.tickers.index(BENCHMARK)]), first, end)
        opens = bars.traded("open")
        return traded_returns(opens).returns[0] if not np.isnan(opens).all() else None
    if BENCHMARK in panel.covariates:
        closes = panel.values[0, panel.channels.index(BENCHMARK), first : end + 1].astype(np.float64)
        returns = closes[1:] / closes[:-1] - 1
        return returns if np.isfinite(returns).all() else None
    return None
