"""Orders: the trades in whole shares that lead from what is held to target weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from financial_assets.errors import PortfolioError


@dataclass(frozen=True)
class Order:
    """One trade.

    Attributes
    ----------
    ticker, side
        What, and whether it is bought or sold; a sale may open a short position.
    quantity
        Whole lots of shares, above 0.
    price
        The price that it was sized by.
    value
        ``quantity * price``.
    weight_before, weight_after
        Of the position, as signed shares of the capital.
    """

    ticker: str
    side: Literal["BUY", "SELL"]
    quantity: int
    price: float
    value: float
    weight_before: float
    weight_after: float


def orders_to(
    tickers: Sequence[str],
    target: ArrayLike,
    current: ArrayLike,
    prices: Mapping[str, float],
    *,
    capital: float,
    lot: int = 1,
    smallest: float = 0.0,
) -> tuple[Order, ...]:
    """Orders for every name whose trade is at least one lot, largest value first.

    Trades are rounded towards zero: never more is traded than the weights ask for, so that turnover stays within its
    limit, and a position ends less than a lot from its target.

    Parameters
    ----------
    tickers
        Names.
    target, current
        Weights ``[ticker]``, signed shares of the capital.
    prices
        Of one share, by ticker, in the currency of the capital.
    capital
        Above 0.
    lot
        Shares that can be traded at least, and multiples of which alone.
    smallest
        Orders of less value are left out.

    Raises
    ------
    PortfolioError
        A name that is traded has no price above 0.
    """
    wanted, held = np.asarray(target, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if not capital > 0 or lot < 1:
        raise ValueError(f"capital must be above 0 and lot at least 1, not {capital} and {lot}")
    found: list[Order] = []
    for ticker, after, before in zip(tickers, wanted, held, strict=True):
        trade = float(after - before) * capital
        if trade == 0:
            continue
        price = prices.get(ticker, 0.0)
        if not (np.isfinite(price) and price > 0):
            raise PortfolioError(f"{ticker} has no price: its order cannot be sized")
        # A hair above, so that a trade of exactly n lots is not n - 1 of them by rounding.
        lots = int(abs(trade) / price / lot * (1 + 1e-12))
        quantity = lots * lot
        value = quantity * price
        if lots == 0 or value < smallest:
            continue
        moved = value / capital if trade > 0 else -value / capital
        side: Literal["BUY", "SELL"] = "BUY" if trade > 0 else "SELL"
        found.append(Order(ticker, side, quantity, price, value, float(before), float(before) + moved))
    return tuple(sorted(found, key=lambda order: (-order.value, order.ticker)))
