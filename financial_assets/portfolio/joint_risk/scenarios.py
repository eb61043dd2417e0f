"""Scenarios of the next return of several tickers: filtered historical simulation with forecast ranges.

The joint residuals of the past keep what moves together and how fat tails are; the forecasts say how far each ticker
may move now (Barone-Adesi, Giannopoulos and Vosper 1999, VaR without correlations for portfolios of derivative
securities; Hull and White 1998, Incorporating volatility updating into the historical simulation method for
value-at-risk).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.errors import PortfolioError


@dataclass(frozen=True, eq=False)
class ForecastRange:
    """5, 50 and 95 % quantiles of the log return of each ticker, as served: float64 ``[ticker]`` each."""

    low: NDArray[np.float64]
    median: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, low: ArrayLike, median: ArrayLike, high: ArrayLike) -> ForecastRange:
        """Arrays of one length.

        Raises
        ------
        PortfolioError
            A quantile is not finite, or they are out of order.
        """
        arrays = [np.asarray(values, dtype=np.float64) for values in (low, median, high)]
        if not all(np.isfinite(values).all() for values in arrays):
            raise PortfolioError("a forecast has no finite quantiles")
        if np.any(arrays[0] > arrays[1]) or np.any(arrays[1] > arrays[2]) or np.any(arrays[0] >= arrays[2]):
            raise PortfolioError("the quantiles of a forecast are out of order, or its range is empty")
        return cls(*arrays)


def scenario_returns(residuals: NDArray[np.float64], forecast: ForecastRange) -> NDArray[np.float64]:
    """Simple returns ``[scenario, ticker]``: residuals shifted and scaled so that each ticker has its forecast range.

    Below and above the median a ticker's residuals are scaled by themselves, so that the 5, 50 and 95 % quantiles of
    its scenarios are those of its forecast: the 95 % value at risk of a single position is that of its signal. Tails
    beyond, and what a ticker does together with others, are those of the residuals ``[scenario, ticker]``.

    Raises
    ------
    PortfolioError
        The residuals of a ticker do not move.
    """
    low, median, high = np.quantile(np.ascontiguousarray(residuals.T), [0.05, 0.5, 0.95], axis=1)
    if np.any(median <= low) or np.any(high <= median):
        raise PortfolioError("the past returns of a ticker do not move: its risk cannot be told from them")
    down = (forecast.median - forecast.low) / (median - low)
    up = (forecast.high - forecast.median) / (high - median)
    moved = residuals - median
    return np.expm1(forecast.median + moved * np.where(moved < 0, down, up))
