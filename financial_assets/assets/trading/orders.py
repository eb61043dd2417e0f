"""The asset ``orders``: what to buy and sell for the next session, as a file in a hash chain."""

import dagster as dg
import pandas as pd

from financial_assets.assets.checks.audit import AUDITED_DAILY
from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.assets.rollout import rollout
from financial_assets.assets.signals import daily_signals
from financial_assets.assets.trading.paper_book import GROUP, OWNERS, paper_book
from financial_assets.errors import ChainError, OrderError
from financial_assets.metadata import link, quality_check, table
from financial_assets.resources import ABTest, Market, Trading
from financial_assets.trading.order_checks import broken_limits
from financial_assets.trading.order_files import OrderDocument
from financial_assets.workflows.desk.orders import make_orders

_CHAIN = "Each file of orders names the digest of the one before it, and none is missing"
_LIMITS = "Orders keep the limits of the book: whole lots, weights, gross exposure, turnover"
_MADE = "A book could be built, and the kill switch is off"
_MADE_OF = ("orders", "nothing to trade")


def _judge(trading: Trading) -> list[dg.AssetCheckResult]:
    """Of the latest file, once the whole chain has been read."""
    try:
        stored = trading.files.read(trading.paper.state().references)
        trading.files.check_tables(stored[-1:])
    except ChainError as error:
        # Further results would be about files that nobody can trust.
        broken = dg.AssetCheckResult(check_name="chain", passed=False, description=str(error))
        unknown = f"not judged, because the record is broken: {error}"
        rest = ("within_limits", "made")
        return [broken, *(dg.AssetCheckResult(check_name=name, passed=False, description=unknown) for name in rest)]
    if not stored:
        raise OrderError("there is no file of orders yet: materialize `orders`, or run `financial-assets run`")
    return _checks(stored[-1].document)


@checkable_asset(
    judge=_judge,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python"},
    code_version="1",
    deps=[daily_signals, paper_book, rollout],
    check_specs=[
        dg.AssetCheckSpec(
            "chain", asset="orders", blocking=True, description=_CHAIN, automation_condition=AUDITED_DAILY
        ),
        dg.AssetCheckSpec("within_limits", asset="orders", description=_LIMITS),
        dg.AssetCheckSpec("made", asset="orders", description=_MADE),
    ],
)
def orders(
    context: dg.AssetExecutionContext, market: Market, ab_test: ABTest, trading: Trading
) -> dg.MaterializeResult:
    """Target against holdings: side, quantity, limit, reason, model version and decision of each order.

    The same signals, prices and holdings give the same file. Corrected ones give a new revision; the old one stays.
    Under a halt the file has no orders and says so.
    """
    try:
        made = make_orders(market, ab_test, trading)
        trading.files.check_tables([made.stored])
    except ChainError as error:
        raise dg.Failure(f"the record of the desk is broken: {error}", allow_retries=False) from error
    document, path = made.stored.document, made.stored.path
    (context.log.info if document.status in _MADE_OF else context.log.warning)(
        f"{_said(document)}; {path}" + ("" if made.is_new else " (unchanged)")
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.stored.digest),
        check_results=_checks(document),
        metadata={
            "dagster/row_count": len(document.orders),
            "status": document.status,
            "remark": document.remark or "none",
            "session": document.session,
            "for the session": document.target_session,
            "model": document.model or "none",
            "decision": document.decision or "none",
            "holdings from": document.holdings,
            "capital": document.capital,
            "limit rule": document.limit_rule,
            "orders": table(orders_table(document)),
            "held, but not traded": table(pd.DataFrame((document.left or {}).items(), columns=["ticker", "reason"])),
            "not in the book": table(pd.DataFrame(made.left_out.items(), columns=["ticker", "reason"])),
            "revision": document.revision,
            "file": link(path),
            "CSV file": link(path.with_suffix(".csv")),
            "SHA-256": made.stored.digest,
            "SHA-256 of the file before": document.previous,
        },
    )


def _checks(document: OrderDocument) -> list[dg.AssetCheckResult]:
    """Of a file whose chain is whole."""
    return [
        dg.AssetCheckResult(check_name="chain", passed=True, metadata={"files": document.sequence}),
        quality_check("within_limits", _LIMITS, len(document.orders), broken_limits(document)),
        dg.AssetCheckResult(
            check_name="made",
            passed=document.status in _MADE_OF,
            severity=dg.AssetCheckSeverity.WARN,
            description=_said(document),
        ),
    ]


def _said(document: OrderDocument) -> str:
    many = f"{len(document.orders)} orders for {document.target_session}"
    return f"{document.status}: {many if document.orders else document.remark}"


def orders_table(document: OrderDocument) -> pd.DataFrame:
    """One row per order, largest value first."""
    after = document.weights_after()
    rows = [
        (
            *(order.ticker, order.side, order.quantity, order.limit, order.close, order.quantity * order.close),
            *(after[order.ticker], sum(order.costs.of(order.quantity * order.close).values()), order.reason),
        )
        for order in document.orders
    ]
    columns = [
        "ticker",
        "side",
        "shares",
        "limit",
        "last close",
        "value",
        "weight afterwards",
        "expected cost",
        "reason",
    ]
    return pd.DataFrame(rows, columns=pd.Index(columns))
