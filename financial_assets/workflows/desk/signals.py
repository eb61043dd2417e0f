"""Signals as a desk acts on them: BUY, SELL or HOLD, with size, stop and risk of either side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from financial_assets.portfolio.joint_risk.measures import TailRisk, tails_of_quantiles
from financial_assets.portfolio.sizing import fractional_kelly
from financial_assets.portfolio.trade_edge import TradeEdge, expected_return, trade_edge
from financial_assets.serving.signal_schema import QUANTILE_5D_COLUMNS, QUANTILE_COLUMNS
from financial_assets.workflows.desk.session import DeskSession

SIZE_RULE = (
    "Fractional Kelly of probability and expected range (BUSINESS_KELLY_FRACTION, at most BUSINESS_KELLY_CAP); 0 on "
    "HOLD."
)
STOP_RULE = (
    "The adverse 1 % quantile of the next session's return, from the last close: a move that the forecast expects on "
    "one session in a hundred; none on HOLD."
)


@dataclass(frozen=True)
class Advice:
    """One ticker.

    Attributes
    ----------
    ticker
        Symbol.
    edge
        BUY, SELL or HOLD, and why.
    weight
        Suggested position as a signed share of the capital.
    stop_return, stop_price
        Where to leave: simple return from the last close, and that price; ``None`` on HOLD.
    long, short
        Risk of a unit held either way over one session; ``long_5d`` and ``short_5d`` over five, ``None`` where the
        model has no such head.
    """

    ticker: str
    edge: TradeEdge
    weight: float
    stop_return: float | None
    stop_price: float | None
    long: TailRisk
    short: TailRisk
    long_5d: TailRisk | None
    short_5d: TailRisk | None


def advise(session: DeskSession, *, kelly_fraction: float, kelly_cap: float) -> tuple[Advice, ...]:
    """Advice on every ticker that has a signal, in the order of the signals."""
    rows = session.signals
    expected = expected_return(rows["probability_up"], rows["q05"], rows["q95"])
    likely = np.clip(rows["probability_up"].to_numpy(np.float64), 1e-6, 1 - 1e-6)  # Kelly refuses certainty
    low, high = (rows[name].to_numpy(np.float64)[:, None] for name in ("q05", "q95"))
    kelly = fractional_kelly(likely[:, None], low, high, fraction=kelly_fraction, cap=kelly_cap)[:, 0]
    return tuple(
        _advice(session, row, float(mean), float(size))
        for row, mean, size in zip(session.by_ticker.values(), expected, kelly, strict=True)
    )


def _advice(session: DeskSession, row: Mapping[str, Any], expected: float, kelly: float) -> Advice:
    ticker, probability = str(row["ticker"]), float(row["probability_up"])
    edge = trade_edge(session.evidence, probability, expected, cost_per_side=session.cost_per_side)
    quantiles = [float(row[name]) for name in QUANTILE_COLUMNS]
    later = [float(row[name]) for name in QUANTILE_5D_COLUMNS]
    stop = None if edge.direction == "HOLD" else float(np.expm1(quantiles[0] if edge.side > 0 else quantiles[-1]))
    close = session.prices.get(ticker)
    has_later = bool(np.isfinite(later).all())
    return Advice(
        ticker=ticker,
        edge=edge,
        weight=0.0 if edge.direction == "HOLD" else kelly,
        stop_return=stop,
        stop_price=None if stop is None or close is None else close * (1 + stop),
        long=tails_of_quantiles(quantiles, 1),
        short=tails_of_quantiles(quantiles, -1),
        long_5d=tails_of_quantiles(later, 1) if has_later else None,
        short_5d=tails_of_quantiles(later, -1) if has_later else None,
    )
