"""What a file of orders is to say: the book that a session's signals lead to, and the way there from what is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from financial_assets.errors import PortfolioError
from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.trading import TradingState
from financial_assets.market import calendar
from financial_assets.monitoring.metrics import open_log
from financial_assets.portfolio.economics.prices import market_costs
from financial_assets.serving.signal_schema import QUANTILE_COLUMNS
from financial_assets.trading.order import Order, TradingCosts, limit_rule, limits_of
from financial_assets.trading.order_files import OrderDocument, Target
from financial_assets.workflows.desk.paper_book import PAPER, bars_between
from financial_assets.workflows.desk.portfolio import BookProposal, Forecast, propose_book
from financial_assets.workflows.desk.risk import DeskRisk
from financial_assets.workflows.desk.session import DeskSession
from financial_assets.workflows.desk.signals import Advice, advise

_WEIGHT_DIGITS = 9
"""Of weights in files: the solver's last digits say nothing."""


@dataclass(frozen=True)
class Held:
    """Ticker -> shares, what they are shares of the capital of, and where that is from."""

    shares: Mapping[str, float]
    capital: float
    origin: str


def empty_document(session: pd.Timestamp, trading: TradingState, status: Any, remark: str) -> OrderDocument:
    """A document without orders, of a session in which nothing is asked of the models."""
    return OrderDocument(
        session=f"{session:%Y-%m-%d}",
        target_session=f"{calendar.next_session(session):%Y-%m-%d}",
        status=status,
        remark=remark,
        model="",
        version=0,
        decision="",
        holdings=PAPER if trading.holdings is None else Path(trading.holdings).name,
        capital=0.0,
        construction=_construction(trading, 0.0),
        limit_rule=limit_rule(trading.limit_by, trading.orders_tick),
    )


def _construction(trading: TradingState, cost_per_side: float) -> dict[str, Any]:
    return {
        "mode": trading.orders_mode,
        "gross": trading.orders_gross,
        "per_name": trading.orders_per_name,
        "per_sector": trading.orders_per_sector,
        "turnover": trading.orders_turnover,
        "forecast": _forecast(trading),
        "risk_aversion": trading.orders_risk_aversion,
        "holding_sessions": trading.orders_holding_sessions,
        "lot": trading.orders_lot,
        "smallest_order": trading.orders_smallest,
        "cost_per_side": cost_per_side,
    }


def _forecast(trading: TradingState) -> Forecast:
    default = "score" if trading.orders_mode == "neutral" else "probability"
    return cast("Forecast", trading.orders_forecast or default)


class Draft:
    """The document of one session, put together.

    Parameters
    ----------
    desk
        The session.
    held
        What is held.
    known
        Names of the targets before: they stay in the list, so that each can be followed.
    market, ab_test, trading
        Settings and prices.
    left_out
        Is filled: names that could not be in the book, and why.
    """

    def __init__(
        self,
        desk: DeskSession,
        held: Held,
        known: set[str],
        market: MarketState,
        ab_test: ABTestState,
        trading: TradingState,
        left_out: dict[str, str],
    ) -> None:
        self._desk, self._held, self._known, self._left_out = desk, held, known, left_out
        self._market, self._ab_test, self._trading = market, ab_test, trading
        self._costs = self._trading_costs()

    def document(self) -> OrderDocument:
        """The draft, without a place in the chain."""
        desk, capital = self._desk, self._held.capital
        if not capital > 0:
            return self._refused(f"the book is worth {capital:,.2f}: there is nothing to trade with")
        values, stuck = self._split_holdings()
        taken = sum(abs(self._held.shares[name]) * desk.prices.get(name, 0.0) for name in stuck) / capital
        constraints = self._trading.constraints(taken=taken)
        eligible = sorted(self._costs) if constraints.gross > 0 else []
        self._left_out |= {
            name: "its trading costs are not known yet" for name in desk.by_ticker if name not in self._costs
        }
        if not eligible and not values:
            return self._refused("no name of the universe can be traded", left=stuck)
        try:
            proposal = propose_book(
                DeskRisk(desk),
                values,
                capital=capital,
                constraints=constraints,
                appetite=self._appetite(),
                forecast=_forecast(self._trading),
                only=eligible,
                lot=self._trading.orders_lot,
                smallest=self._trading.orders_smallest,
            )
        except PortfolioError as error:  # also constraints that contradict each other
            return self._refused(str(error), left=stuck)
        self._left_out |= proposal.left_out
        return self._of(proposal, stuck)

    def _appetite(self) -> Any:
        from financial_assets.portfolio.construction.optimise import Appetite  # the solver takes seconds

        return Appetite(
            self._trading.orders_risk_aversion, self._trading.orders_holding_sessions, self._desk.cost_per_side
        )

    def _split_holdings(self) -> tuple[dict[str, float], dict[str, str]]:
        """Market values of what can be traded, and why the rest cannot."""
        values: dict[str, float] = {}
        stuck: dict[str, str] = {}
        for name, shares in self._held.shares.items():
            price = self._desk.prices.get(name)
            if name not in self._desk.by_ticker:
                stuck[name] = f"has no signal: {self._desk.without_signal.get(name, 'it is not in the universe')}"
            elif price is None or name not in self._costs:
                stuck[name] = "has no price, or its trading costs are not known yet"
            else:
                values[name] = shares * price
        return values, stuck

    def _of(self, proposal: BookProposal, stuck: Mapping[str, str]) -> OrderDocument:
        desk, advice = self._desk, {one.ticker: one for one in self._advice()}
        factors = self._factors(proposal.tickers)
        weights = np.round(proposal.book.weights, _WEIGHT_DIGITS)
        targets: dict[str, Target] = {}
        for place, name in enumerate(proposal.tickers):
            if weights[place] or proposal.current[place] or name in self._known:
                close = desk.prices[name]
                limits = limits_of(
                    close, _quantiles(desk.by_ticker[name]), self._trading.limit_by, self._trading.orders_tick
                )
                targets[name] = Target(
                    ticker=name,
                    weight=float(weights[place]),
                    current=float(proposal.current[place]),
                    close=close,
                    factor=factors[name],
                    buy_limit=None if limits is None else limits[0],
                    sell_limit=None if limits is None else limits[1],
                    costs=self._costs[name],
                )
        expected = dict(zip(proposal.tickers, proposal.expected.tolist(), strict=True))
        orders = tuple(
            Order(
                key=f"{desk.as_of:%Y-%m-%d}-{one.ticker}",  # the file gives it its own
                ticker=one.ticker,
                side=one.side,
                quantity=one.quantity,
                limit=targets[one.ticker].buy_limit if one.side == "BUY" else targets[one.ticker].sell_limit,
                close=targets[one.ticker].close,
                factor=targets[one.ticker].factor,
                costs=targets[one.ticker].costs,
                reason=_reason(targets[one.ticker], expected[one.ticker], advice[one.ticker], desk),
            )
            for one in proposal.orders
        )
        return self._document(
            "orders" if orders else "nothing to trade",
            "" if orders else "the book is where it is to be, or less than a lot from it",
            targets=tuple(targets[name] for name in sorted(targets)),
            orders=orders,
            left=stuck,
        )

    def _advice(self) -> tuple[Advice, ...]:
        ab_test = self._ab_test
        return advise(self._desk, kelly_fraction=ab_test.business_kelly_fraction, kelly_cap=ab_test.business_kelly_cap)

    def _refused(self, why: str, *, left: Mapping[str, str] | None = None) -> OrderDocument:
        return self._document("refused", why, targets=(), orders=(), left=left or {})

    def _document(self, status: Any, remark: str, **parts: Any) -> OrderDocument:
        desk = self._desk
        return OrderDocument(
            session=f"{desk.as_of:%Y-%m-%d}",
            target_session=f"{desk.target:%Y-%m-%d}",
            status=status,
            remark=remark,
            model=desk.arm.model,
            version=desk.arm.version,
            decision=_decision(desk, self._ab_test),
            holdings=self._held.origin,
            capital=self._held.capital,
            construction=_construction(self._trading, desk.cost_per_side),
            limit_rule=limit_rule(self._trading.limit_by, self._trading.orders_tick),
            **parts,
        )

    def _trading_costs(self) -> dict[str, TradingCosts]:
        """Of each name with a signal whose rates are all known."""
        panel, names = self._desk.panel, sorted(self._desk.by_ticker)
        rows, end = np.array([panel.tickers.index(name) for name in names]), len(panel.sessions)
        costs, known = market_costs(panel, rows, end - 1, end, self._ab_test.assumptions())
        # Of a capital of 1, so that rates are for values in money.
        rates = costs.rates((len(names), 1), 1.0)
        return {
            name: TradingCosts(
                rates.flat_bps,
                float(rates.half_spread[place, 0]),
                0.0 if rates.impact is None else float(rates.impact[place, 0]),
            )
            for place, name in enumerate(names)
            if known[place, 0]
        }

    def _factors(self, tickers: tuple[str, ...]) -> dict[str, float]:
        session = self._desk.as_of
        bars = bars_between(self._market, self._desk.panel, tickers, session, session)[f"{session:%Y-%m-%d}"]
        return {name: bar.factor for name, bar in bars.items()}


def _quantiles(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(row[name]) for name in QUANTILE_COLUMNS}


def _reason(target: Target, expected: float, advice: Advice, desk: DeskSession) -> str:
    row = desk.by_ticker[target.ticker]
    return (
        f"from {target.current:.2%} to {target.weight:.2%} of the capital: the book expects {expected:+.3%} of the "
        f"next session before costs (probability of a rise {float(row['probability_up']):.1%}); by itself the signal "
        f"says {advice.edge.direction}, {advice.edge.reason}"
    )


def _decision(desk: DeskSession, ab_test: ABTestState) -> str:
    """The latest record, as of the session or before, about the model behind the signals."""
    with open_log(ab_test.log_url) as log:
        decisions = log.decisions(desk.epoch.experiment)
    about = [
        one
        for one in decisions
        if one.moves_traffic
        and desk.arm.model in (one.champion, one.challenger)
        and pd.Timestamp(one.as_of) <= desk.as_of
    ]
    return max(about, key=lambda one: one.as_of).digest[:12] if about else ""
