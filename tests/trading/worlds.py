"""Small markets in money: raw bars with splits, dividends and sessions without trade, and books that want weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from financial_assets.trading.book import Bar
from financial_assets.trading.order import TradingCosts
from financial_assets.trading.order_files import Target
from financial_assets.trading.reconciliation import Decided, History

COSTS = TradingCosts(commission_bps=0.5, half_spread=2e-4, impact=1e-7)


def sessions_of(count: int) -> tuple[str, ...]:
    return tuple(str(np.datetime64("2020-01-01") + day) for day in range(count))


@st.composite
def histories(draw: Any, *, most_gross: float = 0.8) -> History:
    """Two to three tickers over 3 to 12 sessions; targets in most of them, long and short."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    names = tuple("ABC"[: draw(st.integers(2, 3))])
    sessions = sessions_of(draw(st.integers(3, 12)))
    bars: dict[str, dict[str, Bar]] = {session: {} for session in sessions}
    for name in names:
        price, factor = float(rng.uniform(5, 400)), float(rng.uniform(0.2, 1.0))
        for place, session in enumerate(sessions):
            # Actions do not fall on the first bar: there is none before it.
            if place and rng.random() < 0.15:
                split = float(rng.choice([2.0, 3.0, 1.5, 0.1]))
                price, factor = price / split, factor * split
            if place and rng.random() < 0.15:
                paid = float(rng.uniform(0.002, 0.02))
                price, factor = price * (1 - paid), factor / (1 - paid)
            opened = price * float(np.exp(rng.normal(0, 0.03)))
            price = opened * float(np.exp(rng.normal(0, 0.03)))
            high, low = max(opened, price) * 1.01, min(opened, price) * 0.99
            # A name that ended would be delisted in the simulation: it trades on the last session.
            if place in (0, len(sessions) - 1) or rng.random() > 0.12:
                bars[session][name] = Bar(opened, high, low, price, factor)
    decided: dict[str, Decided] = {}
    for session in sessions:
        if rng.random() < 0.15:
            continue
        weights = rng.normal(size=len(names))
        weights *= most_gross * rng.random() / np.abs(weights).sum()
        decided[session] = Decided(
            tuple(
                Target(
                    name, float(weight), 0.0, bars[session][name].close, bars[session][name].factor, None, None, COSTS
                )
                for name, weight in zip(names, weights, strict=True)
                if name in bars[session]
            )
        )
    return History(sessions, bars, decided)
