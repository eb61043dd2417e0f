"""From signals to orders to fills over a state folder: idempotent, in order, halted, late, from a file, and broken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.desk.home import write_signals
from financial_assets.errors import ChainError, HoldingsError, OrderError, SignalsError
from financial_assets.installation import Installation
from financial_assets.market.clock import HistoricalClock
from financial_assets.serving.signal_files import save_signals
from financial_assets.trading.order_checks import broken_limits
from financial_assets.trading.paper import HALTED
from financial_assets.workflows.desk.orders import MadeOrders, make_orders
from financial_assets.workflows.desk.paper_book import PAPER, REPLACED, KeptBook, keep_paper_book
from tests.trading.conftest import CAPITAL, Open


def keep(desk: Installation) -> KeptBook:
    return keep_paper_book(desk.market, desk.ab_test, desk.trading)


def order(desk: Installation) -> MadeOrders:
    return make_orders(desk.market, desk.ab_test, desk.trading)


def advance(desk: Installation, sessions: int = 1, *, signals: bool = True, up: float = 0.55) -> None:
    """Move the clock, and write the signals of its session."""
    clock, whole = desk.market.clock(), desk.market.whole_panel().sessions
    assert isinstance(clock, HistoricalClock)
    clock.advance_to(whole[whole > clock.now()][sessions - 1])
    if signals:
        publish(desk, up)


def publish(desk: Installation, up: float) -> None:
    panel = desk.market.panel()
    tilt = np.linspace(-0.02, 0.02, len(panel.tickers))[:, None]
    write_signals(desk, probabilities=np.broadcast_to(up + tilt, (len(panel.tickers), len(panel.sessions))))


def files(desk: Installation) -> dict[str, bytes]:
    home = desk.settings.home
    paths = [*(home / "orders").glob("*"), *home.glob("paper-book.jsonl")]
    return {path.name: path.read_bytes() for path in sorted(paths)}


def test_orders_lead_from_cash_to_the_target_and_say_why(desk: Installation) -> None:
    publish(desk, 0.55)
    keep(desk)
    made = order(desk)
    document = made.stored.document
    assert document.status == "orders"
    assert broken_limits(document).empty
    assert document.capital == CAPITAL
    assert (document.model, document.version, document.holdings) == ("baseline-predictor-v1", 1, PAPER)
    targets = {each.ticker: each for each in document.targets}
    for one in document.orders:
        assert one.side == "BUY"
        assert one.quantity == int(targets[one.ticker].weight * CAPITAL / one.close * (1 + 1e-12))
        assert one.limit is not None
        assert one.limit > one.close
        assert "by itself the signal says" in one.reason
        assert one.costs.half_spread == pytest.approx(desk.ab_test.business_half_spread_bps * 1e-4)
        assert one.costs.impact > 0
    assert set(desk.trading.paper.order_states().values()) == {"open"}


def test_a_repeated_run_changes_no_byte(desk: Installation) -> None:
    publish(desk, 0.55)
    keep(desk)
    order(desk)
    before = files(desk)
    for _ in range(2):
        assert keep(desk).kept == {}
        assert not order(desk).is_new
    assert files(desk) == before


def test_the_next_session_executes_at_its_open_and_the_causes_explain_the_difference(desk: Installation) -> None:
    publish(desk, 0.55)
    keep(desk)
    placed = {one.ticker: one for one in order(desk).stored.document.orders}
    for up in (0.56, 0.47, 0.55, 0.5, 0.53, 0.45):
        advance(desk, up=up)
        kept = keep(desk)
        order(desk)
    state = kept.state
    assert len(state.sessions) == 6
    first = state.sessions[0]
    bars = desk.market.store().read(list(placed), *([desk.market.panel().sessions[-6].date()] * 2))
    opens = dict(zip(bars["ticker"], bars["open"], strict=True))
    for fill in first.values["fills"]:
        limit = placed[fill["ticker"]].limit
        assert limit is not None
        assert fill["price"] == pytest.approx(min(opens[fill["ticker"]], limit))
    assert set(state.states.values()) <= {"filled", "expired", "open"}
    found = kept.reconciliation
    assert found is not None
    assert found.error < 1e-6
    assert found.report + sum(found.causes.values()) == pytest.approx(found.paper, abs=1e-6)
    assert found.causes["halts, cancelled orders, prices corrected since"] == pytest.approx(0, abs=0.01)
    assert found.paper == pytest.approx(state.sessions[-1].before - CAPITAL)
    assert any(abs(amount) > 0.01 for amount in found.causes.values())


def test_corrected_signals_give_a_revision_and_the_first_orders_are_withdrawn(desk: Installation) -> None:
    publish(desk, 0.55)
    keep(desk)
    first = order(desk).stored
    before = files(desk)
    publish(desk, 0.45)
    second = order(desk).stored
    assert second.document.revision == 2
    assert second.document.revises == first.digest
    after = files(desk)
    assert {name: after[name] for name in before if name != "paper-book.jsonl"} == {
        name: data for name, data in before.items() if name != "paper-book.jsonl"
    }
    state = desk.trading.paper.state()
    assert {key: state.states[key] for key in state.states if "-r1-" in key} == dict.fromkeys(
        [one.key for one in first.document.orders], "cancelled"
    )
    assert set(state.unfilled.values()) == {REPLACED}
    advance(desk)
    (result,) = keep(desk).kept.values()
    assert {fill.key for fill in result.fills} <= {one.key for one in second.document.orders}


def test_missed_sessions_are_kept_in_order_and_only_the_next_one_executes(desk: Installation) -> None:
    publish(desk, 0.55)
    keep(desk)
    placed = order(desk).stored.document.orders
    advance(desk, 4)
    kept = keep(desk)
    assert list(kept.kept) == [f"{session:%Y-%m-%d}" for session in desk.market.panel().sessions[-4:]]
    first, *later = kept.kept.values()
    assert len(first.fills) + len(first.unfilled) == len(placed)
    assert not any(result.fills or result.unfilled for result in later)
    order(desk)
    advance(desk)
    reconciled = keep(desk).reconciliation
    assert reconciled is not None
    assert reconciled.error < 1e-6


def test_orders_ask_for_the_book_of_their_session(desk: Installation) -> None:
    with pytest.raises(OrderError, match="stands at no session, the orders are of"):
        order(desk)
    keep(desk)
    advance(desk)
    with pytest.raises(OrderError, match="materialize `paper_book` first"):
        order(desk)


def test_without_signals_there_are_no_orders(desk: Installation) -> None:
    advance(desk, signals=False)
    keep(desk)
    with pytest.raises(SignalsError):
        order(desk)
    assert not desk.trading.files.read()


def test_under_a_halt_the_file_says_so_and_the_open_orders_are_not_executed(desk: Installation) -> None:
    publish(desk, 0.55)
    keep(desk)
    first = order(desk).stored
    desk.trading.switch.halt("prices look wrong", "anna")
    halted = order(desk).stored.document
    assert (halted.status, halted.orders, halted.revision) == ("halted", (), 2)
    assert "prices look wrong" in halted.remark
    assert set(desk.trading.paper.order_states().values()) == {"cancelled"}
    assert not order(desk).is_new
    advance(desk)
    (result,) = keep(desk).kept.values()
    assert not result.fills
    again = order(desk).stored.document
    assert (again.status, again.previous) == ("halted", desk.trading.files.read()[1].digest)
    assert first.document.orders
    desk.trading.switch.resume("anna")
    assert order(desk).stored.document.status == "orders"


def test_a_halt_between_orders_and_their_session_executes_nothing(desk: Installation) -> None:
    publish(desk, 0.55)
    keep(desk)
    order(desk)
    desk.trading.switch.halt("", "anna")
    advance(desk)
    (result,) = keep(desk).kept.values()
    assert not result.fills
    assert set(desk.trading.paper.state().unfilled.values()) == {HALTED}


def test_after_a_halt_that_was_lifted_in_the_same_session_the_orders_come_again(desk: Installation) -> None:
    publish(desk, 0.55)
    keep(desk)
    first = order(desk).stored.document
    desk.trading.switch.halt("", "anna")
    broker = desk.trading.paper
    broker.cancel(broker.state().open_keys, reason="halted")
    desk.trading.switch.resume("anna")
    again = order(desk).stored.document
    assert again.revision == 2
    assert again.content == first.content
    assert {key for key, state in broker.order_states().items() if state == "open"} == {one.key for one in again.orders}
    assert not order(desk).is_new


def test_holdings_of_a_file_are_led_to_the_target_and_not_executed_on_paper(open_desk: Open, tmp_path: Path) -> None:
    path = tmp_path / "holdings.csv"
    path.write_text("ticker;quantity\nAAA;300\nCCC;9000\n", encoding="utf-16")
    desk = open_desk(holdings=path)
    publish(desk, 0.5)
    keep(desk)
    document = order(desk).stored.document
    assert document.holdings.startswith("holdings.csv ")
    current = {each.ticker: each.current for each in document.targets}
    prices = {each.ticker: each.close for each in document.targets}
    assert current["CCC"] == pytest.approx(9000 * prices["CCC"] / CAPITAL)
    assert any(one.side == "SELL" for one in document.orders)
    assert desk.trading.paper.order_states() == {}
    path.write_text("ticker;quantity\nAAA;300\nAAA;1\n")
    with pytest.raises(HoldingsError, match="line 3: AAA is there twice"):
        order(desk)


def test_a_held_name_without_a_signal_stays_and_takes_its_part_of_the_gross_exposure(
    open_desk: Open, tmp_path: Path
) -> None:
    path = tmp_path / "holdings.csv"
    path.write_text("ticker,quantity\nCCC,2000\n")
    desk = open_desk(holdings=path, orders_gross=0.8, orders_per_name=0.8)
    publish(desk, 0.6)
    folder, session = desk.market.folder / "signals", desk.market.clock().now()
    signals = pd.read_parquet(folder / f"{session:%Y-%m-%d}.parquet")
    save_signals(signals[signals["ticker"] != "CCC"], folder)
    keep(desk)
    document = order(desk).stored.document
    assert document.left is not None
    assert "has no signal" in document.left["CCC"]
    assert "CCC" not in {each.ticker for each in document.targets}
    bars = desk.market.store().read(["CCC"], session.date(), session.date())
    taken = 2000 * float(bars["close"].iloc[0]) / CAPITAL
    assert 0 < sum(abs(each.weight) for each in document.targets) <= 0.8 - taken + 1e-6


def test_constraints_that_contradict_each_other_are_said_and_nothing_is_sent(open_desk: Open, tmp_path: Path) -> None:
    path = tmp_path / "holdings.csv"
    path.write_text("ticker,quantity\nAAA,1000000\n")
    desk = open_desk(holdings=path, orders_per_name=0.1, orders_turnover=0.01)
    keep(desk)
    document = order(desk).stored.document
    assert (document.status, document.orders) == ("refused", ())
    assert "turnover" in document.remark
    assert "raise turnover" in document.remark


def test_an_edited_file_stops_the_desk_and_is_named(desk: Installation) -> None:
    publish(desk, 0.55)
    keep(desk)
    path = order(desk).stored.path
    path.write_text(path.read_text().replace('"BUY"', '"SELL"'))
    for act in (keep, order):
        with pytest.raises(ChainError, match=r"missing from .* or were edited"):
            act(desk)


def test_a_desk_that_died_between_file_and_broker_goes_on(desk: Installation) -> None:
    publish(desk, 0.55)
    keep(desk)
    ledger = desk.trading.paper.path.read_bytes()
    made = order(desk).stored
    whole = files(desk)
    desk.trading.paper.path.write_bytes(ledger)  # the file is there, the broker knows nothing
    made.path.with_suffix(".csv").unlink()
    keep(desk)
    assert not order(desk).is_new
    assert files(desk) == whole


_DESK = """
import sys
from pathlib import Path
from financial_assets.installation import open_installation
from financial_assets.settings import load_settings
from tests.trading.test_desk import keep, order, publish, advance
desk = open_installation(load_settings(financial_assets_home=Path(sys.argv[1]), orders_capital=1e6))
if len(sys.argv) > 2:
    advance(desk)
while True:
    for up in (0.45, 0.55):
        publish(desk, up)
        keep(desk)
        order(desk)
        print("done", flush=True)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.13, 0.37])
def test_a_desk_that_is_killed_leaves_a_whole_record_and_the_next_run_goes_on(
    desk: Installation, seconds: float
) -> None:
    home = desk.settings.home
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [sys.executable, "-c", _DESK, str(home)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "done\n"
    time.sleep(seconds)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    running.stdout.close()
    publish(desk, 0.55)
    keep(desk)
    made = order(desk)
    state = desk.trading.paper.state()
    stored = desk.trading.files.read(state.references)
    assert [one.digest for one in stored] == state.references
    assert set(state.open_keys) == {one.key for one in made.stored.document.orders}
    desk.trading.files.check_tables(stored)


def test_two_at_once_wait_for_each_other(desk: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("financial_assets.installation.trading._LONGEST_WAIT_S", 0.1)
    code = (
        "import sys; from financial_assets.installation.trading import TradingState\n"
        "with TradingState(home=sys.argv[1]).alone('a test'):\n    print('held', flush=True); sys.stdin.read()"
    )
    other: Any = subprocess.Popen(
        [sys.executable, "-c", code, str(desk.settings.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(OrderError, match="held by another process"), desk.trading.alone("making orders", 0.1):
        pass
    other.communicate("")
    with desk.trading.alone("making orders", 0.1):
        pass


def test_a_neutral_book_is_long_and_short_alike(open_desk: Open) -> None:
    desk = open_desk(orders_mode="neutral", orders_gross=1.0)
    publish(desk, 0.5)
    keep(desk)
    document = order(desk).stored.document
    assert document.construction["forecast"] == "score"
    weights = [each.weight for each in document.targets]
    assert sum(weights) == pytest.approx(0, abs=1e-6)
    assert min(weights) < 0 < max(weights)
    advance(desk)
    kept = keep(desk)
    assert any(held.quantity < 0 for held in kept.state.book.positions.values())
    assert kept.state.book.carry < 0  # borrowed shares cost


def test_the_order_of_a_split_that_the_source_restates_is_followed(desk: Installation) -> None:
    """What the ledger remembers of prices is compared with what the source says of the same session today."""
    publish(desk, 0.55)
    keep(desk)
    made = order(desk).stored
    document, broker = made.document, desk.trading.paper
    halved = replace(document.orders[0], close=2 * document.orders[0].close, key="by hand", quantity=10, limit=None)
    broker.submit([halved], reference=made.digest, session=document.session)
    advance(desk)
    (result,) = keep(desk).kept.values()
    filled = {fill.key: fill.quantity for fill in result.fills}
    assert filled["by hand"] == 20
