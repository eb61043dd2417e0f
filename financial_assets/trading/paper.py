"""The paper broker: orders are executed at the next session's open, in a ledger that only grows.

Each record of the ledger is one thing that happened: the account was opened, orders came in or were cancelled, a
session was kept. A session is one record, with all of its executions and the book afterwards, so that a process that
dies leaves either the whole session or nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from financial_assets.chain import HashChain, Link
from financial_assets.errors import ChainError, OrderError
from financial_assets.halt import KillSwitch
from financial_assets.trading.book import Bar, Book, Fill, Rules, SessionResult, Unfilled, keep_session
from financial_assets.trading.broker import Acknowledgement, OrderState
from financial_assets.trading.order import Order

HALTED = "the kill switch was on"


@dataclass(frozen=True)
class KeptSession:
    """A session in the ledger: its date, worth at the open before trading and at the close, and the record's values."""

    session: str
    before: float
    after: float
    values: Mapping[str, Any]


@dataclass
class LedgerState:
    """What a ledger says, up to its last record.

    Attributes
    ----------
    opened
        Session at whose close the account was opened; empty before that.
    capital
        Cash at the beginning.
    book, session
        Now, and the last session that was kept.
    orders, states
        Key -> order, and what became of it.
    due
        Key -> session at whose close an open order was decided.
    references
        Digests of the files of orders that came in, in order.
    fills, sessions
        All of them, in order.
    unfilled
        Key -> why an order expired or was cancelled.
    """

    opened: str = ""
    capital: float = 0.0
    book: Book = field(default_factory=lambda: Book(0.0, {}))
    session: str = ""
    orders: dict[str, Order] = field(default_factory=dict)
    states: dict[str, OrderState] = field(default_factory=dict)
    due: dict[str, str] = field(default_factory=dict)
    references: list[str] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    sessions: list[KeptSession] = field(default_factory=list)
    unfilled: dict[str, str] = field(default_factory=dict)

    @property
    def open_keys(self) -> tuple[str, ...]:
        """Orders that wait for their session."""
        return tuple(key for key, state in self.states.items() if state == "open")


@dataclass(frozen=True)
class PaperBroker:
    """The paper book at ``path``; one writer at a time, who holds the lock of the desk.

    Attributes
    ----------
    path
        The ledger.
    switch
        The kill switch: under a halt no order is taken, and none that waits is executed.
    """

    path: Path
    switch: KillSwitch

    def state(self) -> LedgerState:
        """What the ledger says; the arithmetic of each session is done again.

        Raises
        ------
        ChainError
            A record was edited, removed or put in, or a session's book does not follow from the one before.
        """
        state = LedgerState()
        for link in HashChain(self.path).read():
            try:
                _READERS[link.values["kind"]](state, link)
            except (KeyError, TypeError, ValueError, OrderError) as error:
                raise ChainError(
                    f"record {link.number} of {self.path} is damaged ({error!r}). Restore the file from a copy"
                ) from error
        return state

    def open_account(self, session: str, capital: float) -> None:
        """Put the capital into an account that is not open yet; later calls change nothing."""
        if not self.state().opened:
            self._add({"kind": "opened", "session": session, "capital": capital})

    def submit(self, orders: Sequence[Order], *, reference: str, session: str) -> Mapping[str, Acknowledgement]:
        """See :meth:`.Broker.submit`."""
        state = self.state()
        if not state.opened:
            raise OrderError("the paper book is not open yet: materialize `paper_book` first")
        keys = [order.key for order in orders]
        if len(set(keys)) < len(keys):
            raise OrderError(f"two orders of {session} have the same key")
        for order in orders:
            if order.key in state.orders and state.orders[order.key] != order:
                raise OrderError(f"an order with the key {order.key} but other contents was sent before")
        fresh = [order for order in orders if order.key not in state.orders]
        if fresh:
            self.switch.check()
            if session < state.session:
                raise OrderError(
                    f"the orders of {session} are too late: the session after it is over; the book stands at "
                    f"{state.session}"
                )
        if fresh or reference not in state.references:
            self._add(
                {
                    "kind": "submitted",
                    "session": session,
                    "reference": reference,
                    "orders": [order.to_dict() for order in fresh],
                }
            )
        return {order.key: "accepted" if order in fresh else "known" for order in orders}

    def cancel(self, keys: Collection[str], *, reason: str) -> tuple[str, ...]:
        """See :meth:`.Broker.cancel`."""
        cancelled = tuple(key for key in self.state().open_keys if key in set(keys))
        if cancelled:
            self._add({"kind": "cancelled", "keys": list(cancelled), "reason": reason})
        return cancelled

    def order_states(self) -> Mapping[str, OrderState]:
        """See :meth:`.Broker.order_states`."""
        return dict(self.state().states)

    def fills(self) -> tuple[Fill, ...]:
        """See :meth:`.Broker.fills`."""
        return tuple(self.state().fills)

    def positions(self) -> Mapping[str, Any]:
        """See :meth:`.Broker.positions`."""
        return dict(self.state().book.positions)

    def cash(self) -> float:
        """See :meth:`.Broker.cash`."""
        return self.state().book.cash

    def keep(
        self, session: str, bars: Mapping[str, Bar], rules: Rules, *, anchors: Mapping[str, Bar] | None = None
    ) -> SessionResult | None:
        """Keep the next session; ``None`` for one that was kept before, of which nothing is done twice.

        Orders of the session before are executed or expire. Orders that waited longer have missed their session.
        """
        state = self.state()
        if not state.opened:
            raise OrderError("the paper book is not open yet: materialize `paper_book` first")
        if session <= max(state.session, state.opened):
            return None
        halted = self.switch.halt_in_force()
        last = max(state.session, state.opened)
        waiting = [state.orders[key] for key in state.open_keys]
        due = [order for order in waiting if state.due[order.key] == last and halted is None]
        missed = [
            Unfilled(order.key, order.ticker, HALTED if halted is not None else "its session was missed")
            for order in waiting
            if order not in due
        ]
        result = keep_session(state.book, session, bars, due, rules, anchors=anchors)
        self._add(
            {
                "kind": "session",
                "session": session,
                "before": result.before,
                "carried": result.carried,
                "fills": [asdict(fill) for fill in result.fills],
                "unfilled": [asdict(one) for one in (*result.unfilled, *missed)],
                "events": [asdict(event) for event in result.events],
                "book": result.book.to_dict(),
            }
        )
        return result

    def _add(self, values: Mapping[str, Any]) -> None:
        HashChain(self.path).append(values)


def _opened(state: LedgerState, link: Link) -> None:
    if state.opened:
        raise ValueError("the account was opened before")
    state.opened, state.capital = str(link.values["session"]), float(link.values["capital"])
    state.book = Book(state.capital, {})


def _submitted(state: LedgerState, link: Link) -> None:
    state.references.append(str(link.values["reference"]))
    for values in link.values["orders"]:
        order = Order.from_dict(values)
        if order.key in state.orders:
            raise ValueError(f"the order {order.key} is there twice")
        state.orders[order.key], state.states[order.key] = order, "open"
        state.due[order.key] = str(link.values["session"])


def _cancelled(state: LedgerState, link: Link) -> None:
    for key in link.values["keys"]:
        _close(state, key, "cancelled")
        state.unfilled[key] = str(link.values["reason"])


def _session(state: LedgerState, link: Link) -> None:
    values, session = link.values, str(link.values["session"])
    if session <= max(state.session, state.opened):
        raise ValueError(f"{session} comes after {max(state.session, state.opened)}")
    fills = [Fill(**fill) for fill in values["fills"]]
    after = Book.from_dict(values["book"])
    _check_arithmetic(state.book, after, fills, values["events"], session)
    for fill in fills:
        _close(state, fill.key, "filled")
    for one in values["unfilled"]:
        _close(state, one["key"], "expired")
        state.unfilled[one["key"]] = one["reason"]
    state.fills += fills
    state.book, state.session = after, session
    state.sessions.append(KeptSession(session, float(values["before"]), after.worth, values))


_READERS: Mapping[str, Callable[[LedgerState, Link], None]] = {
    "opened": _opened,
    "submitted": _submitted,
    "cancelled": _cancelled,
    "session": _session,
}


def _close(state: LedgerState, key: str, to: OrderState) -> None:
    if state.states.get(key) != "open":
        raise ValueError(f"the order {key} is not open")
    state.states[key] = to


def _check_arithmetic(
    before: Book, after: Book, fills: Sequence[Fill], events: Sequence[Mapping[str, Any]], session: str
) -> None:
    """Cash and shares follow from what happened."""
    cash = before.cash + before.carry + sum(float(event["cash"]) for event in events)
    shares = {ticker: held.quantity for ticker, held in before.positions.items()}
    for event in events:
        shares[event["ticker"]] = float(event["quantity_after"])
    for fill in fills:
        signed = fill.quantity if fill.side == "BUY" else -fill.quantity
        shares[fill.ticker] = shares.get(fill.ticker, 0.0) + signed
        cash -= signed * fill.price + sum(fill.costs.values())
    scale = max(abs(cash), abs(before.cash), 1.0)
    if abs(cash - after.cash) > 1e-9 * scale:
        raise ValueError(f"cash after {session} is {after.cash!r}, by what happened it is {cash!r}")
    held = {ticker: position.quantity for ticker, position in after.positions.items()}
    left = {ticker: quantity for ticker, quantity in shares.items() if abs(quantity) > 1e-9 or ticker in held}
    if held.keys() != left.keys() or any(abs(held[name] - left[name]) > 1e-9 * abs(held[name]) for name in held):
        raise ValueError(f"positions after {session} do not follow from what happened")
