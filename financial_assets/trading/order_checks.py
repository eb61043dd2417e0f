"""Whether orders keep the limits of their own book: looked at anew, by other arithmetic than that which made them."""

from __future__ import annotations

import pandas as pd

from financial_assets.trading.order_files import OrderDocument

_TOLERANCE = 1e-6


def broken_limits(document: OrderDocument) -> pd.DataFrame:
    """Rows ``ticker, problem``, one per broken rule; empty if all hold.

    What is left of rounding to whole lots is allowed: a position may end less than a lot from its target.
    """
    rules = document.construction
    after = document.weights_after()
    before = {each.ticker: each.current for each in document.targets}
    lots = {each.ticker: int(rules["lot"]) * each.close / max(document.capital, 1e-300) for each in document.targets}
    found: list[tuple[str, str]] = []
    if document.status != "orders" and document.orders:
        found.append(("", f"there are {len(document.orders)} orders although the status is: {document.status}"))
    keys = [order.key for order in document.orders]
    names = [order.ticker for order in document.orders]
    if len(set(keys)) < len(keys) or len(set(names)) < len(names):
        found.append(("", "two orders have the same key or are about the same ticker"))
    for order in document.orders:
        if order.ticker not in after:
            found.append((order.ticker, "has an order but no target"))
            continue
        if order.quantity % int(rules["lot"]) or order.quantity * order.close < rules["smallest_order"]:
            found.append((order.ticker, f"{order.quantity:g} shares are no whole lots, or worth too little"))
        # A position that was above the cap comes down to it; it may not grow beyond.
        slack = _TOLERANCE + lots[order.ticker]
        if abs(after[order.ticker]) > max(float(rules["per_name"]), abs(before[order.ticker])) + _TOLERANCE:
            found.append(
                (order.ticker, f"would be {after[order.ticker]:.2%} of the capital, more than ORDERS_PER_NAME")
            )
        if rules["mode"] == "long_only" and after[order.ticker] < -slack:
            found.append((order.ticker, f"would be short ({after[order.ticker]:.2%}) in a long-only book"))
    gross, was = (sum(map(abs, weights.values())) for weights in (after, before))
    slack = _TOLERANCE + sum(lots.values())
    if gross > max(float(rules["gross"]), was) + slack:
        found.append(("", f"gross exposure would be {gross:.2%}, more than ORDERS_GROSS"))
    traded = sum(abs(after[name] - before[name]) for name in after)
    if rules["turnover"] is not None and traded > float(rules["turnover"]) + _TOLERANCE:
        found.append(("", f"turnover would be {traded:.2%}, more than ORDERS_TURNOVER"))
    return pd.DataFrame(found, columns=["ticker", "problem"])
