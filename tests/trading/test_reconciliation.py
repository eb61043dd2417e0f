"""The paper book's arithmetic is the report's: the same targets earn the same, and each difference has its cause."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.market import calendar
from financial_assets.trading.book import Rules, open_worth
from financial_assets.trading.reconciliation import History, Manner, reconcile, replay, simulated_worth
from tests.trading.worlds import histories

CAPITAL = 1_000_000.0
AS_THE_REPORT = Rules(whole_shares=False, limits=False)


@settings(max_examples=150, deadline=None)
@given(histories(), st.floats(0, 50), st.floats(0, 0.2), st.floats(0, 0.3), st.sampled_from([1e3, 1e6, 1e9]))
def test_with_the_reports_assumptions_the_ledger_earns_what_the_simulation_earns(
    history: History, flat_bps: float, cash: float, borrow: float, capital: float
) -> None:
    per_year = calendar.sessions_per_year()
    rules = replace(AS_THE_REPORT, cash_per_session=cash / per_year, borrow_per_session=borrow / per_year)
    kept = replay(history, capital, Manner(at_open=True, whole=False, limits=False, flat_bps=flat_bps), rules)
    last = history.bars[history.sessions[-1]]
    sale = sum(abs(held.quantity) * last[ticker].open * flat_bps * 1e-4 for ticker, held in kept.positions.items())
    simulated = simulated_worth(history, capital, flat_bps, rules.cash_per_session, borrow)
    assert math.isclose(open_worth(kept) - sale, simulated, rel_tol=1e-9)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_the_causes_add_up_to_the_difference(history: History) -> None:
    everything = Manner(at_open=False, whole=True, limits=True, flat_bps=None)
    book = replay(history, CAPITAL, everything, Rules())
    found = reconcile(
        history,
        capital=CAPITAL,
        paper_worth=open_worth(book),
        flat_bps=5.0,
        rules=Rules(),
        borrow_per_year=0.0,
    )
    if not history.tickers:
        assert found is None
        return
    assert found is not None
    assert found.error < 1e-9
    assert found.report + sum(found.causes.values()) == pytest.approx(found.paper, abs=1e-6)
    assert found.causes["halts, cancelled orders, prices corrected since"] == pytest.approx(0, abs=1e-6)


def test_before_a_position_has_earned_anything_there_is_nothing_to_reconcile() -> None:
    history = History(("2020-01-01", "2020-01-02"), {"2020-01-01": {}, "2020-01-02": {}}, {})
    assert reconcile(history, capital=1.0, paper_worth=1.0, flat_bps=0.0, rules=Rules(), borrow_per_year=0.0) is None
