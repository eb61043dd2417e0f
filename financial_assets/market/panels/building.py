"""From a checked price frame to the arrays of a panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from financial_assets.errors import PriceDataError
from financial_assets.market import calendar
from financial_assets.market.frames import sort_prices, ticker_codes
from financial_assets.market.panels.layout import Layout, lay_out
from financial_assets.market.quality.results import failure_table
from financial_assets.market.quality.sessions import stray_days
from financial_assets.market.quality.shapes import not_traded
from financial_assets.market.quality.values import require_possible

Members = Callable[[Sequence[str], pd.DatetimeIndex], np.ndarray]
"""Tickers and sessions to bool ``[ticker, session]``: who belongs to the universe when."""


def build_layout(prices: pd.DataFrame, members: Members | None = None) -> Layout:
    """The arrays of the panel that ``panel.build_panel`` makes of the same; they can be extended."""
    require_possible(prices, "a price panel cannot be built")
    if prices.empty:
        raise PriceDataError("a price panel cannot be built: there are no prices", prices)
    require_sessions(prices)
    first_day, last_day = prices["date"].min(), prices["date"].max()
    prices = sort_prices(prices, copy=False)
    # Padding of a suspended or delisted ticker is not a trade: it must become neither a label nor a signal.
    idle = not_traded(prices)
    prices = prices[~idle] if idle.any() else prices
    codes, names = ticker_codes(prices["ticker"], sort=True)
    tickers, sessions = tuple(map(str, names)), calendar.sessions(first_day, last_day)
    return lay_out(prices, codes, tickers, sessions, belonging(members, tickers, sessions))


def require_sessions(prices: pd.DataFrame) -> None:
    """Refuse bars on days without a session.

    Raises
    ------
    PriceDataError
        There are some; names the first.
    """
    failures = failure_table(prices, stray_days(pd.DatetimeIndex(prices["date"])))
    if len(failures):
        first = failures.iloc[0]
        raise PriceDataError(
            f"a price panel cannot be built: {len(failures)} bars on days without a session, the first "
            f"{first['ticker']} on {first['date']:%Y-%m-%d}: {first['problem']}",
            failures,
        )


def belonging(members: Members | None, tickers: Sequence[str], sessions: pd.DatetimeIndex) -> np.ndarray:
    """Who belongs to the universe when: bool ``[ticker, session]``; everybody, always, where nobody is named."""
    return np.ones((len(tickers), len(sessions)), dtype=bool) if members is None else members(tickers, sessions)
