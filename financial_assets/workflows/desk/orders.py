"""The orders of a session with the configured resources: from its signals and what is held to a file of orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from financial_assets.errors import OrderError
from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.trading import TradingState
from financial_assets.trading.holdings import read_holdings
from financial_assets.trading.order_files import OrderDocument, StoredOrders
from financial_assets.workflows.desk.order_draft import Draft, Held, empty_document
from financial_assets.workflows.desk.paper_book import PAPER, send, starting_capital
from financial_assets.workflows.desk.session import load_session


@dataclass(frozen=True)
class MadeOrders:
    """The orders of a session, whether their file was written just now, and who could not be in the book, and why."""

    stored: StoredOrders
    is_new: bool
    left_out: Mapping[str, str]


def make_orders(market: MarketState, ab_test: ABTestState, trading: TradingState) -> MadeOrders:
    """The orders of the market clock's session: a file in the chain, handed to the paper broker.

    Repeated with the same signals, prices, holdings and settings it changes nothing. Otherwise a new revision is
    written, and takes the place of the earlier one as long as its session has not come. Under a halt the file has no
    orders and says so. Where no book can be built, likewise.

    Raises
    ------
    ChainError
        The files of orders, or the ledger, were edited.
    HoldingsError
        ``HOLDINGS`` cannot be read, or names what cannot be held.
    OrderError
        The paper book does not stand at that session; or another process held the desk for a minute.
    SignalsError
        The session has no signals.
    """
    session = market.panel().sessions[-1]
    with trading.alone("making orders"):
        broker, files = trading.paper, trading.files
        state = broker.state()
        stands = max(state.session, state.opened)
        if stands != f"{session:%Y-%m-%d}":
            raise OrderError(
                f"the paper book stands at {stands or 'no session'}, the orders are of {session:%Y-%m-%d}: materialize "
                "`paper_book` first"
            )
        stored = files.read(state.references)
        left_out: dict[str, str] = {}
        halted = trading.switch.halt_in_force()
        if halted is not None:
            draft = empty_document(session, trading, "halted", halted.sentence)
        else:
            desk = load_session(market, ab_test, session)
            held = _holdings(market, ab_test, trading)
            earlier = [one.document for one in stored if one.document.session < f"{session:%Y-%m-%d}"]
            known = {each.ticker for each in earlier[-1].targets} if earlier else set()
            draft = Draft(desk, held, known, market, ab_test, trading, left_out).document()
        made, is_new = files.add(draft, again=_was_cancelled(stored, draft, state.states))
        send(made, trading)
    return MadeOrders(made, is_new, left_out)


def _was_cancelled(stored: tuple[StoredOrders, ...], draft: OrderDocument, states: Mapping[str, str]) -> bool:
    """Whether the session's last orders were withdrawn by a halt that is over."""
    last = [one.document for one in stored if one.document.session == draft.session][-1:]
    return any(states.get(order.key) == "cancelled" for document in last for order in document.orders)


def _holdings(market: MarketState, ab_test: ABTestState, trading: TradingState) -> Held:
    if trading.holdings is None:
        book = trading.paper.state().book
        return Held({ticker: held.quantity for ticker, held in book.positions.items()}, book.worth, PAPER)
    found = read_holdings(Path(trading.holdings), market.tickers, short_allowed=trading.orders_mode != "long_only")
    return Held(found.shares, starting_capital(ab_test, trading), found.origin)
