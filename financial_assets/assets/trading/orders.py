"""The asset ``orders``: what to buy and sell for the next session, as a file in a hash chain."""

import dagster as dg
import pandas as pd

from financial_assets.assets.rollout import rollout
from financial_assets.assets.signals import daily_signals
from financial_assets.assets.trading.paper_book import GROUP, OWNERS, paper_book
from financial_assets.errors import ChainError
from financial_assets.metadata import link, quality_check, table
from financial_assets.resources import ABTest, Market, Trading
from financial_assets.trading.order_checks import broken_limits
from financial_assets.trading.order_files import OrderDocument
from financial_assets.workflows.desk.orders import make_orders

_CHAIN = "Each file of orders names the digest of the one before it, and none is missing"
_LIMITS = "Orders keep the limits of the book: whole lots, weights, gross exposure, turnover"
_MADE = "A book could be built, and the kill switch is off"


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python"},
    code_version="1",
    deps=[daily_signals, paper_book, rollout],
    check_specs=[
        dg.AssetCheckSpec("chain", asset="orders", blocking=True, description=_CHAIN),
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
    failures = broken_limits(document)
    said = f"{len(document.orders)} orders for {document.target_session}" if document.orders else document.remark
    (context.log.info if document.status in ("orders", "nothing to trade") else context.log.warning)(
        f"{document.status}: {said}; {path}" + ("" if made.is_new else " (unchanged)")
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(made.stored.digest),
        check_results=[
            dg.AssetCheckResult(check_name="chain", passed=True, metadata={"files": document.sequence}),
            quality_check("within_limits", _LIMITS, len(document.orders), failures),
            dg.AssetCheckResult(
                check_name="made",
                passed=document.status in ("orders", "nothing to trade"),
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{document.status}: {said}",
            ),
        ],
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
