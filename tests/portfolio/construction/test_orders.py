"""Orders: whole lots, never more than asked for, nothing that cannot be priced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import PortfolioError
from financial_assets.portfolio.construction.orders import orders_to

weights = st.lists(st.floats(-1, 1), min_size=3, max_size=3)


@given(weights, weights, st.lists(st.floats(0.5, 2000), min_size=3, max_size=3), st.integers(1, 100))
def test_orders_lead_to_the_target_and_not_beyond(
    target: list[float], current: list[float], prices: list[float], lot: int
) -> None:
    capital = 1e6
    names = ("A", "B", "C")
    quoted = dict(zip(names, prices, strict=True))
    orders = {order.ticker: order for order in orders_to(names, target, current, quoted, capital=capital, lot=lot)}
    for name, wanted, held in zip(names, target, current, strict=True):
        one_lot = lot * quoted[name] / capital
        if name not in orders:
            assert abs(wanted - held) < one_lot * (1 + 1e-9)
            continue
        order = orders[name]
        assert order.side == ("BUY" if wanted > held else "SELL")
        assert order.quantity % lot == 0
        assert order.value == pytest.approx(order.quantity * quoted[name])
        moved = order.weight_after - order.weight_before
        assert np.sign(moved) == np.sign(wanted - held)
        assert abs(moved) <= abs(wanted - held) * (1 + 1e-9)
        assert abs(wanted - order.weight_after) < one_lot * (1 + 1e-9)


def test_the_largest_comes_first_and_small_ones_are_left_out() -> None:
    orders = orders_to(
        ("A", "B", "C"), [0.1, -0.3, 0.001], [0, 0, 0], {"A": 10.0, "B": 20.0, "C": 5.0}, capital=1e5, smallest=200
    )
    assert [(order.ticker, order.side, order.quantity) for order in orders] == [("B", "SELL", 1500), ("A", "BUY", 1000)]


def test_a_traded_name_needs_a_price_and_one_that_is_not_traded_does_not() -> None:
    assert orders_to(("A", "B"), [0.1, 0.2], [0.0, 0.2], {"A": 10.0}, capital=1e5)[0].ticker == "A"
    for prices in ({}, {"A": 0.0}, {"A": float("nan")}):
        with pytest.raises(PortfolioError, match="A has no price"):
            orders_to(("A",), [0.1], [0.0], prices, capital=1e5)
    with pytest.raises(ValueError, match="capital"):
        orders_to(("A",), [0.1], [0.0], {"A": 1.0}, capital=0)
