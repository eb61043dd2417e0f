"""A book in money: positions and cash, and what one session does to them. Pure: values in, values out.

Prices are those that were paid, in the currency of the source, never adjusted ones: a split multiplies shares, a
dividend is paid into cash at the ex-date's open. Both are read off adjusted close over close, in such a way that the
worth of a position moves exactly as its adjusted price does.

Orders are for one session. Its open executes them, or a later price of that session where the open was beyond the
limit. What they cost is charged at once; interest and the fee for borrowed shares, for the time from one open to the
next, at the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from financial_assets.errors import OrderError
from financial_assets.market.corporate_actions import SMALLEST_STEP, customary_split
from financial_assets.trading.order import Order

_SPLIT_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Bar:
    """One session of one ticker as the source gives it.

    Attributes
    ----------
    open, high, low, close
        Prices per share, above 0.
    factor
        Adjusted close over close.
    """

    open: float
    high: float
    low: float
    close: float
    factor: float

    def __post_init__(self) -> None:
        for name in ("open", "high", "low", "close", "factor"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise OrderError(f"a bar's {name} must be a finite number above 0, not {value}")


@dataclass(frozen=True)
class Position:
    """Shares of one ticker, negative where they are borrowed, and the last bar that they were seen at."""

    quantity: float
    session: str
    open: float
    close: float
    factor: float


@dataclass(frozen=True)
class Book:
    """Cash and positions.

    Attributes
    ----------
    cash
        Below 0 where money is borrowed.
    positions
        Ticker -> position, none of 0 shares.
    carry
        Interest less borrowing fees since the last open, due at the next.
    """

    cash: float
    positions: Mapping[str, Position]
    carry: float = 0.0

    @property
    def worth(self) -> float:
        """At the last closes."""
        return self.cash + self.carry + sum(held.quantity * held.close for held in self.positions.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` gave."""
        positions = {ticker: Position(**held) for ticker, held in values["positions"].items()}
        return cls(float(values["cash"]), positions, float(values["carry"]))


@dataclass(frozen=True)
class Rules:
    """How a session is kept.

    Attributes
    ----------
    whole_shares
        A split leaves no fraction of a share, and dividends are paid, both in cash. Otherwise dividends become shares
        at the ex-date's open, as adjusted prices have it.
    limits
        Whether limits of orders count.
    cash_per_session
        Simple return of cash.
    borrow_per_session
        Fee for shares sold short, as a share of their value.
    """

    whole_shares: bool = True
    limits: bool = True
    cash_per_session: float = 0.0
    borrow_per_session: float = 0.0


@dataclass(frozen=True)
class Fill:
    """An execution: ``quantity`` shares at ``price``, and its costs in money by cause."""

    key: str
    ticker: str
    side: str
    quantity: float
    price: float
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Unfilled:
    """An order that was not executed, and why."""

    key: str
    ticker: str
    reason: str


@dataclass(frozen=True)
class Event:
    """What a corporate action did: shares by a split, money by a dividend or for a fraction of a share."""

    ticker: str
    kind: str
    quantity_after: float
    cash: float


@dataclass(frozen=True)
class SessionResult:
    """One session of a book.

    Attributes
    ----------
    book
        Afterwards.
    before
        Worth at the open, before anything was traded.
    fills, unfilled, events
        What happened.
    carried
        Interest less borrowing fees since the open before.
    """

    book: Book
    before: float
    fills: tuple[Fill, ...]
    unfilled: tuple[Unfilled, ...]
    events: tuple[Event, ...]
    carried: float


def keep_session(
    book: Book,
    session: str,
    bars: Mapping[str, Bar],
    orders: Sequence[Order],
    rules: Rules,
    *,
    anchors: Mapping[str, Bar] | None = None,
) -> SessionResult:
    """Corporate actions, executions and marks of one session.

    Parameters
    ----------
    book
        Before it.
    session
        Its date, ISO 8601.
    bars
        Of the tickers that traded; another one's position stays as it is, and its order is not executed.
    orders
        Of the session before.
    rules
        How it is kept.
    anchors
        What the source says today of the sessions at which positions and orders were last priced, by ticker: where it
        has divided earlier prices by a split since, shares follow.
    """
    opened, events = _apply_actions(book, session, bars, rules, anchors or {})
    before = _worth_at_open(opened)
    cash, positions = opened.cash, dict(opened.positions)
    fills: list[Fill] = []
    unfilled: list[Unfilled] = []
    for order in orders:
        done = _executed(order, bars.get(order.ticker), rules, (anchors or {}).get(order.ticker))
        if isinstance(done, Unfilled):
            unfilled.append(done)
            continue
        fills.append(done)
        held, bar = positions.get(order.ticker), bars[order.ticker]
        signed = order.sign * done.quantity
        cash -= signed * done.price + sum(done.costs.values())
        quantity = signed + (held.quantity if held is not None else 0.0)
        positions[order.ticker] = Position(quantity, session, bar.open, bar.close, bar.factor)
    positions = {ticker: held for ticker, held in positions.items() if held.quantity != 0}
    # Of what is held over the time to the next open, in prices of this one: as `portfolio.simulation` charges it.
    invested = sum(held.quantity * held.open for held in positions.values())
    short = sum(max(-held.quantity * held.open, 0.0) for held in positions.values())
    carry = rules.cash_per_session * (before - invested) - rules.borrow_per_session * short
    after = Book(cash, positions, carry)
    return SessionResult(after, before, tuple(fills), tuple(unfilled), events, book.carry)


def open_worth(book: Book) -> float:
    """Worth at the last opens, with what is carried."""
    return book.carry + _worth_at_open(book)


def _worth_at_open(book: Book) -> float:
    return book.cash + sum(held.quantity * held.open for held in book.positions.values())


def units_since(close: float, factor: float, bar: Bar, anchor: Bar | None) -> tuple[float, float]:
    """What one share has become, and what it was paid on top, per unit of worth, since a close.

    Parameters
    ----------
    close, factor
        The close, and adjusted close over close, as they were known then.
    bar
        Of now.
    anchor
        That session's bar as it is known now, where it is.

    Returns
    -------
    tuple of float
        Shares, and the growth of worth by dividends: the adjusted price has grown by the product and the price's own
        growth.
    """
    shares, base = 1.0, factor
    if anchor is not None:
        # A source of split-adjusted prices has divided the past: shares that were bought then are more today.
        ratio = close / anchor.close
        if customary_split(math.log(ratio), _SPLIT_TOLERANCE) is not None:
            shares = ratio
        base = anchor.factor
    step = bar.factor / base
    if abs(step - 1) <= SMALLEST_STEP:
        return shares, 1.0  # the rounding of the source
    split = customary_split(math.log(step), _SPLIT_TOLERANCE)
    if split is None:
        return shares, step
    numerator, denominator = map(float, split.split(":"))
    return shares * numerator / denominator, step * denominator / numerator


def _apply_actions(
    book: Book, session: str, bars: Mapping[str, Bar], rules: Rules, anchors: Mapping[str, Bar]
) -> tuple[Book, tuple[Event, ...]]:
    cash = book.cash + book.carry
    positions: dict[str, Position] = {}
    events: list[Event] = []
    for ticker, held in book.positions.items():
        bar = bars.get(ticker)
        if bar is None:
            positions[ticker] = held
            continue
        shares, paid = units_since(held.close, held.factor, bar, anchors.get(ticker))
        if not rules.whole_shares:
            quantity = held.quantity * shares * paid
            positions[ticker] = Position(quantity, session, bar.open, bar.close, bar.factor)
            continue
        quantity = held.quantity * shares
        whole = float(math.trunc(quantity + math.copysign(1e-9, quantity)))
        money = quantity * bar.open * (paid - 1)
        if shares != 1:
            events.append(Event(ticker, "split", whole, 0.0))
        if money:
            events.append(Event(ticker, "dividend" if paid > 1 else "adjustment", whole, money))
        fraction = (quantity - whole) * bar.open if abs(quantity - whole) > 1e-6 else 0.0
        if fraction:
            events.append(Event(ticker, "fraction of a share", whole, fraction))
        cash += money + fraction
        if whole:
            positions[ticker] = Position(whole, session, bar.open, bar.close, bar.factor)
    return replace(book, cash=cash, positions=positions, carry=0.0), tuple(events)


def _executed(order: Order, bar: Bar | None, rules: Rules, anchor: Bar | None) -> Fill | Unfilled:
    if bar is None:
        return Unfilled(order.key, order.ticker, "the ticker did not trade in the session")
    shares, _ = units_since(order.close, order.factor, bar, anchor)
    quantity = order.quantity * shares
    if rules.whole_shares:
        quantity = float(math.floor(quantity + 1e-9))
        if quantity == 0:
            return Unfilled(order.key, order.ticker, "after a reverse split it is less than one share")
    price = bar.open
    if rules.limits and order.limit is not None:
        limit = order.limit / shares
        if order.sign * (bar.open - limit) > 0:
            reached = bar.low <= limit if order.side == "BUY" else bar.high >= limit
            if not reached:
                edge = f"low {bar.low:g} stayed above" if order.side == "BUY" else f"high {bar.high:g} stayed below"
                return Unfilled(order.key, order.ticker, f"the session's {edge} the limit {limit:g}")
            price = limit
    return Fill(order.key, order.ticker, order.side, quantity, price, order.costs.of(quantity * price))
