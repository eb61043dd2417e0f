"""Why the paper book did not earn what the report's simulation earns on the same targets: the difference by cause.

The targets of all sessions are kept again and again, each time with one thing more as it was: first as the report
assumes (any fraction of a share, at the open, flat costs), last as the paper book did. What one step changes is that
cause's share of the difference, so that the causes add up to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from financial_assets.portfolio.construction.orders import orders_to
from financial_assets.portfolio.costs import BASIS_POINT, Costs
from financial_assets.portfolio.simulation import simulate
from financial_assets.portfolio.traded import traded_returns
from financial_assets.trading.book import Bar, Book, Rules, keep_session, open_worth
from financial_assets.trading.order import Order, TradingCosts
from financial_assets.trading.order_files import Target

_NO_COSTS = TradingCosts()


@dataclass(frozen=True)
class Decided:
    """What one session aimed at; ``lot`` and ``smallest`` of its orders as in ``portfolio.construction.orders``."""

    targets: tuple[Target, ...]
    lot: int = 1
    smallest: float = 0.0


@dataclass(frozen=True)
class Manner:
    """How targets are traded.

    Attributes
    ----------
    at_open
        Sized by the price of the execution; otherwise by the close of the decision.
    whole
        In whole lots.
    limits
        Limits count.
    flat_bps
        Flat costs in basis points per side; ``None``: those of each target.
    """

    at_open: bool
    whole: bool
    limits: bool
    flat_bps: float | None


@dataclass(frozen=True)
class History:
    """Sessions without gaps and what happened in them.

    Attributes
    ----------
    sessions
        ISO dates; at the close of the first the account was opened.
    bars
        Session -> ticker -> bar, of the tickers that traded.
    decided
        Session -> what it aimed at; none where no orders were sent: what is held stays.
    """

    sessions: tuple[str, ...]
    bars: Mapping[str, Mapping[str, Bar]]
    decided: Mapping[str, Decided]

    @property
    def tickers(self) -> tuple[str, ...]:
        """All that was ever aimed at, sorted."""
        return tuple(sorted({each.ticker for one in self.decided.values() for each in one.targets}))


@dataclass(frozen=True)
class Reconciliation:
    """Profit and loss from the report's to the paper book's, in the currency of the prices.

    Attributes
    ----------
    first, last
        Sessions: at whose close the account was opened, and up to whose open it is reconciled.
    report
        Of the same targets by ``portfolio.simulation.simulate`` with ``COST_BPS``, everything sold at the end.
    causes
        Name -> what it changed.
    paper
        Of the paper book.
    error
        By how much the first replay misses the report's simulation: arithmetic, and rounding in the source's adjusted
        prices; as a share of the capital.
    """

    first: str
    last: str
    report: float
    causes: Mapping[str, float]
    paper: float
    error: float


def reconcile(
    history: History, *, capital: float, paper_worth: float, flat_bps: float, rules: Rules, borrow_per_year: float
) -> Reconciliation | None:
    """The reconciliation up to the open of the last session; ``None`` before a first position has earned anything.

    Parameters
    ----------
    history
        Everything since the account was opened.
    capital
        At the beginning.
    paper_worth
        Worth of the paper book at the open of the last session, before anything was traded there.
    flat_bps
        The report's flat costs per side.
    rules, borrow_per_year
        Of the paper book; borrowing once per session, once as the simulation states it.
    """
    sessions = history.sessions
    if len(sessions) < 3 or not history.tickers:
        return None
    simulated = simulated_worth(history, capital, flat_bps, rules.cash_per_session, borrow_per_year)
    fractional = replace(rules, whole_shares=False, limits=False)
    manners = (
        Manner(at_open=True, whole=False, limits=False, flat_bps=flat_bps),
        Manner(at_open=False, whole=False, limits=False, flat_bps=flat_bps),
        Manner(at_open=False, whole=True, limits=False, flat_bps=flat_bps),
        Manner(at_open=False, whole=True, limits=True, flat_bps=flat_bps),
        Manner(at_open=False, whole=True, limits=True, flat_bps=None),
    )
    books = [
        replay(history, capital, manner, replace(fractional, whole_shares=manner.whole, limits=manner.limits))
        for manner in manners
    ]
    as_reported, sized_before, whole, limited, costed = map(open_worth, books)
    last = history.bars[sessions[-1]]
    closing = sum(
        abs(held.quantity * held.open) * flat_bps * BASIS_POINT
        for ticker, held in books[0].positions.items()
        if ticker in last
    )
    causes = {
        "not sold at the end, as the simulation assumes": as_reported - simulated,
        "sized by the last close, not by the open": sized_before - as_reported,
        "whole lots, dividends in cash": whole - sized_before,
        "limits not reached, or better than the open": limited - whole,
        "commission, spread and impact in place of flat costs": costed - limited,
        "halts, cancelled orders, prices corrected since": paper_worth - costed,
    }
    error = abs(as_reported - closing - simulated) / capital
    return Reconciliation(sessions[0], sessions[-1], simulated - capital, causes, paper_worth - capital, error)


def simulated_worth(
    history: History, capital: float, flat_bps: float, cash_per_session: float, borrow_per_year: float
) -> float:
    """Worth of the capital at the open of the last session by the report's simulation, everything sold there."""
    sessions, tickers = history.sessions, history.tickers
    if not tickers:
        return capital * (1 + cash_per_session) ** (len(sessions) - 2)
    opens = np.full((len(tickers), len(sessions)), np.nan)
    weights = np.zeros((len(tickers), len(sessions) - 2))
    aimed = np.zeros(weights.shape, dtype=bool)
    for place, session in enumerate(sessions):
        for row, ticker in enumerate(tickers):
            bar = history.bars[session].get(ticker)
            if bar is not None:
                opens[row, place] = bar.open * bar.factor
        if place < weights.shape[1] and session in history.decided:
            for each in history.decided[session].targets:
                weights[tickers.index(each.ticker), place] = each.weight
                aimed[tickers.index(each.ticker), place] = True
    traded = traded_returns(opens)
    # Without a target nothing is traded: a position stays and gains or loses weight.
    traded = replace(traded, tradable=traded.tradable & aimed)
    costs = Costs(flat_bps=flat_bps, borrow_per_year=borrow_per_year)
    earned = simulate(weights, traded, costs, cash=np.full(weights.shape[1], cash_per_session))
    return capital * float(np.prod(1 + earned.net))


def replay(history: History, capital: float, manner: Manner, rules: Rules) -> Book:
    """The book at the open of the last session, before anything is traded there, and without what it carries on."""
    book = Book(capital, {})
    for before, session in zip(history.sessions[:-1], history.sessions[1:], strict=True):
        bars, decided = history.bars[session], history.decided.get(before)
        orders: Sequence[Order] = ()
        if decided is not None and session != history.sessions[-1]:
            if manner.at_open:
                orders = _at_the_open(book, session, bars, decided, manner, rules)
            else:
                orders = _at_the_close(book, decided, manner)
        book = keep_session(book, session, bars, orders, rules).book
    return replace(book, carry=0.0)


def _at_the_open(
    book: Book, session: str, bars: Mapping[str, Bar], decided: Decided, manner: Manner, rules: Rules
) -> list[Order]:
    """Orders that bring each weight about exactly, by the prices at which they are executed."""
    opened = keep_session(book, session, bars, (), rules)
    orders: list[Order] = []
    for each in decided.targets:
        bar, held = bars.get(each.ticker), opened.book.positions.get(each.ticker)
        if bar is None:
            continue
        signed = each.weight * opened.before / bar.open - (held.quantity if held is not None else 0.0)
        if signed:
            # As of the bar itself: a split of this session must not be applied to it again.
            orders.append(_order(replace(each, close=bar.close, factor=bar.factor), signed, manner))
    return orders


def _at_the_close(book: Book, decided: Decided, manner: Manner) -> list[Order]:
    worth = book.worth
    tickers = [each.ticker for each in decided.targets]
    held = {ticker: position.quantity for ticker, position in book.positions.items()}
    current = [held.get(each.ticker, 0.0) * each.close / worth for each in decided.targets]
    if not manner.whole:
        signed = {
            each.ticker: (each.weight - before) * worth / each.close
            for each, before in zip(decided.targets, current, strict=True)
        }
    else:
        sized = orders_to(
            tickers,
            [each.weight for each in decided.targets],
            current,
            {each.ticker: each.close for each in decided.targets},
            capital=worth,
            lot=decided.lot,
            smallest=decided.smallest,
        )
        signed = {one.ticker: float(one.quantity if one.side == "BUY" else -one.quantity) for one in sized}
    return [_order(each, signed[each.ticker], manner) for each in decided.targets if signed.get(each.ticker)]


def _order(target: Target, signed: float, manner: Manner) -> Order:
    return Order(
        key=target.ticker,
        ticker=target.ticker,
        side="BUY" if signed > 0 else "SELL",
        quantity=abs(signed),
        limit=target.buy_limit if signed > 0 else target.sell_limit,
        close=target.close,
        factor=target.factor,
        costs=target.costs if manner.flat_bps is None else replace(_NO_COSTS, commission_bps=manner.flat_bps),
    )
