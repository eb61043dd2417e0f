"""The paper book with the configured resources: sessions are kept in order, and reconciled with the report."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from financial_assets.errors import OrderError
from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.trading import TradingState
from financial_assets.market import calendar
from financial_assets.market.panel import PricePanel
from financial_assets.trading.book import Bar, Rules, SessionResult
from financial_assets.trading.order_files import StoredOrders
from financial_assets.trading.paper import LedgerState
from financial_assets.trading.reconciliation import Decided, History, Reconciliation, reconcile

PAPER = "paper book"
"""What order files name as the holdings that they lead from, where that is the paper book."""
REPLACED = "another revision of the session's orders took their place"


@dataclass(frozen=True)
class KeptBook:
    """What keeping sessions has done.

    Attributes
    ----------
    state
        The ledger now.
    kept
        Session -> what happened in it, of those that were kept just now.
    reconciliation
        With the report's simulation of the same targets; ``None`` before a position has earned anything.
    """

    state: LedgerState
    kept: Mapping[str, SessionResult]
    reconciliation: Reconciliation | None


def keep_paper_book(market: MarketState, ab_test: ABTestState, trading: TradingState) -> KeptBook:
    """Keep all sessions that the book has not seen, up to the market clock, in order; nothing is done twice.

    The first time, the account is opened at the close of the clock's session. An order is for one session only: of an
    order file that came before an outage, the session after it is kept with its orders, and later ones without any.

    Raises
    ------
    ChainError
        The ledger or the files of orders were edited.
    OrderError
        Another process held the desk for a minute.
    """
    panel = market.panel()
    with trading.alone("keeping the paper book"):
        broker = trading.paper
        broker.open_account(f"{panel.sessions[-1]:%Y-%m-%d}", starting_capital(ab_test, trading))
        stored = trading.files.read(broker.state().references)
        for one in stored:  # a writer may have died between a file and the broker
            send(one, trading)
        kept = _keep(panel, market, ab_test, trading)
        state = broker.state()
    return KeptBook(state, kept, _reconciled(stored, state, panel, market, ab_test))


def read_paper_book(market: MarketState, ab_test: ABTestState, trading: TradingState) -> KeptBook:
    """The book as it stands, reconciled with the report; nothing is kept, sent or written.

    Raises
    ------
    ChainError
        The ledger or the files of orders were edited.
    OrderError
        There is no book yet; or another process held the desk for a minute.
    """
    with trading.alone("reading the paper book"):
        state = trading.paper.state()
        stored = trading.files.read(state.references)
    if not state.opened:
        raise OrderError("there is no paper book yet: materialize `paper_book`, or run `financial-assets run`")
    return KeptBook(state, {}, _reconciled(stored, state, market.panel(), market, ab_test))


def starting_capital(ab_test: ABTestState, trading: TradingState) -> float:
    """``ORDERS_CAPITAL``, or that of the report's books."""
    return trading.orders_capital or ab_test.assumptions().capital


def send(stored: StoredOrders, trading: TradingState) -> None:
    """Hand an order file to the paper broker, unless it has it; earlier revisions of the session are withdrawn first.

    The orders of a session that is over, from a file of holdings, or under a halt are not sent; the broker only
    records that there was a file. The caller holds the lock.
    """
    broker, document = trading.paper, stored.document
    state = broker.state()
    if stored.digest in state.references:
        return
    replaced = [key for key in state.open_keys if state.due[key] == document.session]
    broker.cancel(replaced, reason=REPLACED)
    is_due = document.session == max(state.session, state.opened)
    sendable = is_due and document.holdings == PAPER and trading.switch.halt_in_force() is None
    broker.submit(document.orders if sendable else (), reference=stored.digest, session=document.session)


def _keep(
    panel: PricePanel, market: MarketState, ab_test: ABTestState, trading: TradingState
) -> dict[str, SessionResult]:
    broker, rules = trading.paper, rules_of(ab_test)
    state = broker.state()
    last = pd.Timestamp(max(state.session, state.opened))
    kept: dict[str, SessionResult] = {}
    for session in panel.sessions[panel.sessions > last]:
        state = broker.state()
        held = state.book.positions
        asked = sorted({*held, *(state.orders[key].ticker for key in state.open_keys)})
        before = max(state.session, state.opened)
        since = {ticker: held[ticker].session if ticker in held else before for ticker in asked}
        day = f"{session:%Y-%m-%d}"
        first = pd.Timestamp(min(since.values(), default=day))
        bars = bars_between(market, panel, asked, first, session)
        anchors = {
            ticker: bars[when][ticker] for ticker, when in since.items() if ticker in bars.get(when, {}) and when != day
        }
        result = broker.keep(day, bars.get(day, {}), rules, anchors=anchors)
        if result is not None:
            kept[day] = result
    return kept


def rules_of(ab_test: ABTestState) -> Rules:
    """Interest and borrowing fees as the report's books have them, per session."""
    assumed, per_year = ab_test.assumptions(), calendar.sessions_per_year()
    return Rules(
        cash_per_session=assumed.cash_per_year / per_year, borrow_per_session=assumed.borrow_per_year / per_year
    )


def bars_between(
    market: MarketState, panel: PricePanel, tickers: Collection[str], first: pd.Timestamp, last: pd.Timestamp
) -> dict[str, dict[str, Bar]]:
    """Session -> ticker -> bar as the source gives it, where the ticker traded as the panel has it."""
    bars: dict[str, dict[str, Bar]] = {
        f"{session:%Y-%m-%d}": {} for session in panel.sessions[(panel.sessions >= first) & (panel.sessions <= last)]
    }
    known = [ticker for ticker in tickers if ticker in panel.tickers]
    if not known:
        return bars
    rows = {ticker: panel.tickers.index(ticker) for ticker in known}
    frame = market.store().read(known, first.date(), last.date())
    places = panel.sessions.get_indexer(pd.DatetimeIndex(frame["date"]))
    columns = [frame[name].tolist() for name in ("ticker", "open", "high", "low", "close", "adj_close")]
    for place, ticker, opened, high, low, close, adjusted in zip(places, *columns, strict=True):
        if place >= 0 and panel.valid[rows[ticker], place]:
            bars[f"{panel.sessions[place]:%Y-%m-%d}"][ticker] = Bar(opened, high, low, close, adjusted / close)
    return bars


def _reconciled(
    stored: tuple[StoredOrders, ...],
    state: LedgerState,
    panel: PricePanel,
    market: MarketState,
    ab_test: ABTestState,
) -> Reconciliation | None:
    if not state.sessions:
        return None
    latest = {one.document.session: one.document for one in stored if one.document.holdings == PAPER}
    decided = {
        session: Decided(
            document.targets, int(document.construction["lot"]), float(document.construction["smallest_order"])
        )
        for session, document in latest.items()
        if document.status in ("orders", "nothing to trade") and state.opened <= session < state.session
    }
    tickers = sorted({each.ticker for one in decided.values() for each in one.targets})
    bars = bars_between(market, panel, tickers, pd.Timestamp(state.opened), pd.Timestamp(state.session))
    return reconcile(
        History(tuple(bars), bars, decided),
        capital=state.capital,
        paper_worth=state.sessions[-1].before,
        flat_bps=ab_test.cost_bps,
        rules=rules_of(ab_test),
        borrow_per_year=ab_test.assumptions().borrow_per_year,
    )
