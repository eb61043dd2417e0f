"""Limits follow the served quantiles, in the cautious direction."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.trading.order import LimitBy, limit_rule, limits_of

QUANTILES = {"q01": -0.05, "q05": -0.03, "q50": 0.001, "q95": 0.03, "q99": 0.05}


@pytest.mark.parametrize(
    ("by", "buy", "sell"), [("range", 0.03, -0.03), ("tail", 0.05, -0.05), ("median", 0.001, 0.001)]
)
def test_a_purchase_is_rounded_down_and_a_sale_up(by: LimitBy, buy: float, sell: float) -> None:
    found = limits_of(123.45, QUANTILES, by, 0.01)
    assert found is not None
    wanted = 123.45 * math.exp(buy), 123.45 * math.exp(sell)
    assert wanted[0] - 0.01 < found[0] <= wanted[0]
    assert wanted[1] <= found[1] < wanted[1] + 0.01
    assert f"{round(100 * 0.5 if by == 'median' else 95 if by == 'range' else 99)} %" in limit_rule(by, 0.01)


@given(
    st.floats(1e-4, 1e6),
    st.lists(st.floats(-1, 1), min_size=5, max_size=5).map(sorted),
    st.sampled_from([0.0001, 0.01, 0.05, 1.0]),
)
def test_limits_are_multiples_of_the_tick_and_at_least_one(close: float, values: list[float], tick: float) -> None:
    found = limits_of(close, dict(zip(QUANTILES, values, strict=True)), "range", tick)
    assert found is not None
    for limit in found:
        assert limit >= tick * (1 - 1e-9)
        assert limit / tick == pytest.approx(round(limit / tick), rel=1e-9)


def test_a_price_that_is_a_multiple_stays_it() -> None:
    assert limits_of(0.29, dict.fromkeys(QUANTILES, 0.0), "range", 0.01) == (0.29, 0.29)


def test_without_limits_there_are_none() -> None:
    assert limits_of(1.0, QUANTILES, "none", 0.01) is None
    assert "no limit" in limit_rule("none", 0.01)
