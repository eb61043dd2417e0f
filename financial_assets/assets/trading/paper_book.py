"""The asset ``paper_book``: orders are executed on paper, and the result is reconciled with the report's."""

import dagster as dg
import pandas as pd

from financial_assets.assets.checks.audit import AUDITED_DAILY
from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.assets.evaluation import predictions
from financial_assets.assets.market import price_panel
from financial_assets.errors import ChainError
from financial_assets.metadata import link, table
from financial_assets.resources import ABTest, Market, Trading
from financial_assets.trading.paper import LedgerState
from financial_assets.trading.reconciliation import Reconciliation
from financial_assets.workflows.desk.paper_book import KeptBook, keep_paper_book, read_paper_book

GROUP = "trading"
OWNERS = ["team:trading-desk"]
_CHAIN = "Each record of the ledger names the one before it, and its cash and shares follow from it"
_RECONCILES = "The book's arithmetic on the report's assumptions is that of the report's simulation"
_LARGEST_ERROR = 1e-6
"""Of the capital: sources round adjusted prices; the arithmetic itself agrees to 1e-9 (tests/trading)."""


def _judge(market: Market, ab_test: ABTest, trading: Trading) -> list[dg.AssetCheckResult]:
    try:
        book = read_paper_book(market, ab_test, trading)
    except ChainError as error:
        return [
            dg.AssetCheckResult(check_name="chain", passed=False, description=str(error)),
            dg.AssetCheckResult(
                check_name="reconciles",
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"not judged, because the record is broken: {error}",
            ),
        ]
    return _checks(book)


@checkable_asset(
    judge=_judge,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python"},
    code_version="1",
    # Predictions too: a replay moves the market clock on, and the book follows it.
    deps=[price_panel, predictions],
    check_specs=[
        dg.AssetCheckSpec(
            "chain", asset="paper_book", blocking=True, description=_CHAIN, automation_condition=AUDITED_DAILY
        ),
        dg.AssetCheckSpec("reconciles", asset="paper_book", description=_RECONCILES),
    ],
    op_tags={"dagster/priority": "1"},
)
def paper_book(
    context: dg.AssetExecutionContext, market: Market, ab_test: ABTest, trading: Trading
) -> dg.MaterializeResult:
    """Positions and cash of the paper book at the market clock; the orders of the session before met this one's prices.

    Sessions that were missed are kept in order. A repeated run does nothing twice.
    """
    try:
        book = keep_paper_book(market, ab_test, trading)
    except ChainError as error:
        raise dg.Failure(f"the record of the desk is broken: {error}", allow_retries=False) from error
    state = book.state
    halted = trading.switch.halt_in_force()
    if halted is not None:
        context.log.warning(halted.sentence)
    context.log.info(_summary(book))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{max(state.session, state.opened)} {state.book.worth!r}"),
        check_results=_checks(book),
        metadata={
            "session": max(state.session, state.opened),
            "worth at the last closes": state.book.worth,
            "profit since the account was opened": state.book.worth - state.capital,
            "cash": state.book.cash,
            "positions": table(_positions(state)),
            "executed since the last run": table(_executed(book)),
            "not executed since the last run": table(_not_executed(book)),
            "splits, dividends": table(_events(book)),
            "reconciliation": table(reconciliation_table(book.reconciliation)),
            "halted": "no" if halted is None else halted.sentence,
            "ledger": link(trading.paper.path),
        },
    )


def _checks(book: KeptBook) -> list[dg.AssetCheckResult]:
    """Of a ledger whose chain is whole."""
    counts = {"sessions": len(book.state.sessions), "fills": len(book.state.fills)}
    return [
        dg.AssetCheckResult(check_name="chain", passed=True, metadata=counts),
        _reconciles(book.reconciliation),
    ]


def _summary(book: KeptBook) -> str:
    state = book.state
    fills = sum(len(result.fills) for result in book.kept.values())
    missed = sum(len(result.unfilled) for result in book.kept.values())
    earned = state.book.worth - state.capital
    return (
        f"paper book at {max(state.session, state.opened)}: worth {state.book.worth:,.0f} ({earned:+,.0f}), "
        f"{len(state.book.positions)} positions; {len(book.kept)} sessions kept now, {fills} orders executed, "
        f"{missed} not"
    )


def _positions(state: LedgerState) -> pd.DataFrame:
    worth = state.book.worth
    rows = [
        (
            ticker,
            held.quantity,
            held.close,
            held.quantity * held.close,
            held.quantity * held.close / worth,
            held.session,
        )
        for ticker, held in sorted(state.book.positions.items())
    ]
    return pd.DataFrame(rows, columns=["ticker", "shares", "last close", "value", "weight", "last traded on"])


def _executed(book: KeptBook) -> pd.DataFrame:
    rows = [
        (session, fill.ticker, fill.side, fill.quantity, fill.price, sum(fill.costs.values()))
        for session, result in book.kept.items()
        for fill in result.fills
    ]
    return pd.DataFrame(rows, columns=["session", "ticker", "side", "shares", "price", "costs"])


def _not_executed(book: KeptBook) -> pd.DataFrame:
    rows = [
        (session, one.ticker, one.key, one.reason) for session, result in book.kept.items() for one in result.unfilled
    ]
    return pd.DataFrame(rows, columns=["session", "ticker", "order", "reason"])


def _events(book: KeptBook) -> pd.DataFrame:
    rows = [
        (session, event.ticker, event.kind, event.quantity_after, event.cash)
        for session, result in book.kept.items()
        for event in result.events
    ]
    return pd.DataFrame(rows, columns=["session", "ticker", "what", "shares afterwards", "cash"])


def reconciliation_table(found: Reconciliation | None) -> pd.DataFrame:
    """From the report's profit to the paper book's, a row per cause; empty before there is anything to compare."""
    if found is None:
        return pd.DataFrame(columns=["profit and loss", "amount"])
    rows = [
        (f"of the same targets by the report's simulation, {found.first} to the open of {found.last}", found.report),
        *found.causes.items(),
        ("of the paper book", found.paper),
    ]
    return pd.DataFrame(rows, columns=["profit and loss", "amount"])


def _reconciles(found: Reconciliation | None) -> dg.AssetCheckResult:
    if found is None:
        return dg.AssetCheckResult(
            check_name="reconciles", passed=True, description="No position has earned anything yet"
        )
    return dg.AssetCheckResult(
        check_name="reconciles",
        passed=found.error <= _LARGEST_ERROR,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"Paper book {found.paper:+,.2f}, report's simulation {found.report:+,.2f}; "
            f"the first replay misses it by {found.error:.1e} of the capital"
        ),
        metadata={name: float(amount) for name, amount in found.causes.items()},
    )
