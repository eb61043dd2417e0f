"""A slow ledger in money: shares bought and sold at opens, one trade after the other, by no formula of the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

PER_YEAR = 252


@dataclass
class Ledger:
    """One account. ``fee(ticker, session, share of the value)`` is the cost of a trade as a share of the trade."""

    fee: Callable[[int, int, float], float]
    cash: float = 1.0
    shares: dict[int, float] = field(default_factory=dict)

    def worth(self, price: np.ndarray) -> float:
        return self.cash + sum(amount * price[name] for name, amount in self.shares.items())

    def trade(self, name: int, session: int, amount: float, price: float, value: float, charged: list[float]) -> None:
        """``amount`` of shares at ``price`` in a book that is worth ``value``."""
        money = amount * price
        charged.append(abs(money) * self.fee(name, session, abs(money) / value))
        self.cash -= money
        self.shares[name] = self.shares.get(name, 0.0) + amount


def keep_books(
    weights: np.ndarray,
    opens: np.ndarray,
    fee: Callable[[int, int, float], float],
    *,
    borrow_per_year: float = 0.0,
    cash_return: float = 0.0,
    delisting_return: float = 0.0,
    fills: np.ndarray | None = None,
) -> np.ndarray:
    """Net simple return of each session; ``fills`` are prices at which a position is closed within a session."""
    names, sessions = weights.shape
    account, net = Ledger(fee), np.zeros(sessions)
    price = np.full(names, np.nan)
    last_open = [max((s for s in range(sessions + 2) if not np.isnan(row[s])), default=-1) for row in opens]
    for t in range(sessions):
        today, tomorrow, charged = opens[:, t + 1], opens[:, t + 2], []
        price = np.where(np.isnan(today), price if t else opens[:, 0], today)
        marks = np.nan_to_num(price)
        start = account.worth(marks)
        for name in range(names):
            if not np.isnan(today[name]):
                wanted = weights[name, t] * start / today[name]
                account.trade(name, t, wanted - account.shares.get(name, 0.0), today[name], start, charged)
        invested = sum(amount * marks[name] for name, amount in account.shares.items())
        short = sum(max(-amount * marks[name], 0.0) for name, amount in account.shares.items())
        account.cash += cash_return * (start - invested) - short * borrow_per_year / PER_YEAR
        after = np.where(np.isnan(tomorrow), price, tomorrow)
        for name in range(names):
            if fills is not None and not np.isnan(fills[name, t]) and account.shares.get(name, 0.0):
                account.trade(name, t, -account.shares[name], fills[name, t], start, charged)
            elif last_open[name] == t + 1 and name in account.shares:  # it never opens again
                account.cash += account.shares.pop(name) * price[name] * (1 + delisting_return)
            elif t == sessions - 1 and account.shares.get(name, 0.0):
                account.trade(name, t, -account.shares[name], after[name], start, charged)
        account.cash -= sum(charged)
        net[t] = account.worth(np.nan_to_num(after)) / start - 1
    return net
