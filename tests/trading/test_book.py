"""One session of a book: executions, limits, splits, dividends, and what did not trade."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from financial_assets.errors import OrderError
from financial_assets.trading.book import Bar, Book, Position, Rules, keep_session, open_worth
from financial_assets.trading.order import Order, TradingCosts

BAR = Bar(open=100.0, high=104.0, low=98.0, close=102.0, factor=0.5)
FREE = TradingCosts()


def order(side: Any = "BUY", quantity: float = 10, limit: float | None = None, **more: Any) -> Order:
    values: dict[str, Any] = {"key": "k", "ticker": "A", "close": 101.0, "factor": 0.5, "costs": FREE}
    return Order(side=side, quantity=quantity, limit=limit, **{**values, **more})


def keep(
    book: Book, *orders: Order, bar: Bar | None = BAR, rules: Rules | None = None, anchor: Bar | None = None
) -> Any:
    bars = {} if bar is None else {"A": bar}
    anchors = {} if anchor is None else {"A": anchor}
    return keep_session(book, "2020-01-03", bars, orders, rules or Rules(), anchors=anchors)


def holding(quantity: float, cash: float = 0.0, close: float = 100.0, factor: float = 0.5) -> Book:
    return Book(cash, {"A": Position(quantity, "2020-01-02", 99.0, close, factor)})


def test_an_order_is_executed_at_the_open_and_pays_its_costs() -> None:
    costs = TradingCosts(commission_bps=1.0, half_spread=2e-4, impact=1e-6)
    result = keep(Book(10_000.0, {}), order(costs=costs))
    (fill,) = result.fills
    assert (fill.quantity, fill.price) == (10, 100.0)
    assert fill.costs == {
        "commission": pytest.approx(0.1),
        "spread": pytest.approx(0.2),
        "impact": pytest.approx(1e-6 * 1000**1.5),
    }
    assert result.book.cash == pytest.approx(9000 - sum(fill.costs.values()))
    assert result.book.worth == pytest.approx(result.book.cash + 1020)
    assert result.before == 10_000


@pytest.mark.parametrize(
    ("side", "limit", "price"),
    [
        ("BUY", 100.0, 100.0),  # the open itself
        ("BUY", 103.0, 100.0),  # better than the limit
        ("BUY", 99.0, 99.0),  # later in the session
        ("BUY", 98.0, 98.0),  # touched
        ("BUY", 97.99, None),
        ("SELL", 100.0, 100.0),
        ("SELL", 90.0, 100.0),
        ("SELL", 104.0, 104.0),
        ("SELL", 104.01, None),
    ],
)
def test_a_limit_is_never_executed_beyond_and_only_if_the_range_reached_it(
    side: str, limit: float, price: float | None
) -> None:
    result = keep(Book(10_000.0, {}), order(side, limit=limit))
    if price is None:
        (missed,) = result.unfilled
        assert not result.fills
        assert "stayed" in missed.reason
        assert f"limit {limit:g}" in missed.reason
        assert result.book == Book(10_000.0, {})
    else:
        (fill,) = result.fills
        assert fill.price == price


def test_without_a_bar_nothing_is_executed_and_the_position_stays() -> None:
    before = holding(7, cash=5.0)
    result = keep(before, order(), bar=None)
    assert result.book == before
    assert "did not trade" in result.unfilled[0].reason


def test_selling_more_than_is_held_opens_a_short_position_which_pays_its_fee_at_the_next_open() -> None:
    rules = Rules(borrow_per_session=0.001, cash_per_session=0.0)
    result = keep(holding(4, cash=0.0), order("SELL", 10), rules=rules)
    assert result.book.positions["A"].quantity == -6
    assert result.book.carry == pytest.approx(-0.001 * 6 * 100)
    assert result.book.cash == pytest.approx(1000)
    after = keep(result.book, rules=rules)
    assert after.carried == result.book.carry
    assert after.book.cash == pytest.approx(1000 - 0.6)


def test_interest_is_for_what_is_not_invested() -> None:
    result = keep(Book(10_000.0, {}), order(), rules=Rules(cash_per_session=0.01))
    assert result.book.carry == pytest.approx(0.01 * 9000)


def test_a_sold_position_is_gone() -> None:
    result = keep(holding(10), order("SELL", 10))
    assert result.book.positions == {}
    assert result.book.cash == 1000


@pytest.mark.parametrize(("ratio", "shares"), [(2.0, 20), (1.5, 15), (0.1, 1)])
def test_a_split_multiplies_shares_and_an_open_order_with_its_limit(ratio: float, shares: int) -> None:
    bar = Bar(*(price / ratio for price in (100.0, 104.0, 98.0, 102.0)), factor=0.5 * ratio)
    result = keep(holding(10), order(quantity=10, limit=99.0), bar=bar)
    assert result.events[0].kind == "split"
    assert result.events[0].quantity_after == shares
    (fill,) = result.fills
    assert fill.quantity == shares
    assert fill.price == pytest.approx(99.0 / ratio)
    assert result.before == pytest.approx(1000)


def test_a_fraction_of_a_share_is_paid_in_cash() -> None:
    bar = Bar(*(price / 1.5 for price in (100.0, 104.0, 98.0, 102.0)), factor=0.75)
    result = keep(holding(5), bar=bar)
    assert result.book.positions["A"].quantity == 7
    assert result.book.cash == pytest.approx(0.5 * 100 / 1.5)
    assert result.before == pytest.approx(500)
    assert [event.kind for event in result.events] == ["split", "fraction of a share"]


def test_a_reverse_split_of_less_than_a_share_leaves_cash_alone_and_no_order() -> None:
    bar = Bar(1000.0, 1040.0, 980.0, 1020.0, factor=0.05)
    result = keep(holding(5), order(quantity=4), bar=bar)
    assert result.book.positions == {}
    assert result.book.cash == pytest.approx(500)
    assert "less than one share" in result.unfilled[0].reason


@pytest.mark.parametrize("shares", [100, -100])
def test_a_dividend_is_paid_in_cash_as_the_adjusted_price_has_it(shares: int) -> None:
    bar = replace(BAR, factor=0.5 / 0.99)
    result = keep(holding(shares), bar=bar)
    (event,) = result.events
    assert event.kind == "dividend"
    assert event.cash == pytest.approx(shares * 100 * (1 / 0.99 - 1))  # who is short pays it
    assert result.before == pytest.approx(shares * 100 / 0.99)
    assert result.book.positions["A"].quantity == shares


def test_rounding_of_the_source_is_no_dividend() -> None:
    assert keep(holding(100), bar=replace(BAR, factor=0.5 * (1 + 3e-5))).events == ()


def test_a_session_without_trade_in_between_loses_no_split() -> None:
    missed = keep(holding(10), bar=None).book
    bar = Bar(50.0, 52.0, 49.0, 51.0, factor=1.0)
    result = keep(missed, bar=bar)
    assert result.book.positions["A"].quantity == 20


def test_when_the_source_divides_the_past_by_a_split_shares_follow() -> None:
    """A split-adjusted source: the close of 100 of the day before is 25 today, and the factor has not moved."""
    anchor = Bar(24.0, 26.0, 23.0, 25.0, factor=0.5)
    bar = Bar(25.5, 26.0, 25.0, 25.8, factor=0.5)
    result = keep(holding(10), order(quantity=10, limit=104.0, close=100.0), bar=bar, anchor=anchor)
    assert result.before == pytest.approx(10 * 100 * 25.5 / 25)
    assert result.fills[0].quantity == 40
    assert result.book.positions["A"].quantity == 80


def test_a_corrected_price_is_no_split() -> None:
    anchor = replace(BAR, close=97.0)
    assert keep(holding(10), anchor=anchor).book.positions["A"].quantity == 10


def test_a_restated_factor_counts_from_what_the_source_says_today() -> None:
    """At a dividend sources multiply all earlier adjusted closes: what matters is the step, not the level."""
    anchor = replace(BAR, close=100.0, factor=0.8)
    assert keep(holding(10), bar=replace(BAR, factor=0.8), anchor=anchor).events == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize("name", ["open", "high", "low", "close", "factor"])
def test_bars_that_cannot_be_are_refused(name: str, value: float) -> None:
    with pytest.raises(OrderError, match=name):
        replace(BAR, **{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize("name", ["quantity", "limit", "close", "factor"])
def test_orders_that_cannot_be_are_refused(name: str, value: float) -> None:
    with pytest.raises(OrderError, match=name):
        order(**{name: value})


def test_a_side_is_buy_or_sell() -> None:
    with pytest.raises(OrderError, match="'HOLD'"):
        order("HOLD")


def test_a_book_is_read_back_equal() -> None:
    book = keep(holding(10, cash=0.1 + 0.2), rules=Rules(cash_per_session=1e-5)).book
    assert Book.from_dict(book.to_dict()) == book
    assert open_worth(book) == pytest.approx(0.3 + 1000 + book.carry)
