"""The paper broker: each order once, each session once, whatever happens in between; and no record can be edited."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from financial_assets.chain import HashChain
from financial_assets.errors import ChainError, HaltedError, OrderError
from financial_assets.halt import KillSwitch
from financial_assets.trading.book import Bar, Rules
from financial_assets.trading.broker import Broker
from financial_assets.trading.order import Order, TradingCosts
from financial_assets.trading.paper import HALTED, PaperBroker

BAR = Bar(100.0, 104.0, 98.0, 102.0, 1.0)
DAYS = ("2020-01-02", "2020-01-03", "2020-01-06", "2020-01-07")


def order(key: str = "one", quantity: float = 10, **more: Any) -> Order:
    values: dict[str, Any] = {"ticker": "A", "side": "BUY", "limit": None, "close": 100.0, "factor": 1.0}
    return Order(key=key, quantity=quantity, costs=TradingCosts(1.0), **{**values, **more})


@pytest.fixture
def broker(tmp_path: Path) -> PaperBroker:
    broker = PaperBroker(tmp_path / "paper.jsonl", KillSwitch.of(tmp_path))
    broker.open_account(DAYS[0], 10_000.0)
    return broker


def test_it_is_a_broker(broker: PaperBroker) -> None:
    as_broker: Broker = broker
    assert as_broker.cash() == 10_000.0
    assert dict(as_broker.positions()) == {}
    assert as_broker.fills() == ()


def test_an_account_is_opened_once(broker: PaperBroker) -> None:
    broker.open_account(DAYS[1], 5.0)
    assert broker.state().capital == 10_000.0


def test_an_order_that_is_sent_twice_is_executed_once(broker: PaperBroker) -> None:
    assert broker.submit([order()], reference="f", session=DAYS[0]) == {"one": "accepted"}
    size = broker.path.stat().st_size
    assert broker.submit([order()], reference="f", session=DAYS[0]) == {"one": "known"}
    assert broker.path.stat().st_size == size
    broker.keep(DAYS[1], {"A": BAR}, Rules())
    assert broker.submit([order()], reference="f", session=DAYS[0]) == {"one": "known"}
    assert broker.positions()["A"].quantity == 10
    assert dict(broker.order_states()) == {"one": "filled"}


def test_a_known_key_with_other_contents_is_refused_and_nothing_accepted(broker: PaperBroker) -> None:
    broker.submit([order()], reference="f", session=DAYS[0])
    with pytest.raises(OrderError, match="other contents"):
        broker.submit([order("two"), order(quantity=11)], reference="g", session=DAYS[0])
    assert dict(broker.order_states()) == {"one": "open"}
    with pytest.raises(OrderError, match="same key"):
        broker.submit([order("three"), order("three")], reference="g", session=DAYS[0])


def test_a_session_is_kept_once_and_late_orders_are_refused(broker: PaperBroker) -> None:
    broker.submit([order()], reference="f", session=DAYS[0])
    assert broker.keep(DAYS[1], {"A": BAR}, Rules()) is not None
    before = broker.path.read_bytes()
    assert broker.keep(DAYS[1], {"A": BAR}, Rules()) is None
    assert broker.keep(DAYS[0], {"A": BAR}, Rules()) is None
    assert broker.path.read_bytes() == before
    with pytest.raises(OrderError, match="too late"):
        broker.submit([order("late")], reference="g", session=DAYS[0])


def test_an_order_is_for_the_next_session_only(broker: PaperBroker) -> None:
    broker.submit([order(limit=50.0)], reference="f", session=DAYS[0])
    broker.keep(DAYS[1], {"A": BAR}, Rules())
    assert dict(broker.order_states()) == {"one": "expired"}
    assert "stayed above the limit 50" in broker.state().unfilled["one"]
    result = broker.keep(DAYS[2], {"A": replace(BAR, low=40.0)}, Rules())
    assert result is not None
    assert not result.fills


def test_cancelled_orders_are_not_executed_and_cancelling_again_changes_nothing(broker: PaperBroker) -> None:
    broker.submit([order(), order("two", ticker="B")], reference="f", session=DAYS[0])
    assert broker.cancel(["one", "unknown"], reason="a person") == ("one",)
    assert broker.cancel(["one"], reason="again") == ()
    result = broker.keep(DAYS[1], {"A": BAR, "B": BAR}, Rules())
    assert result is not None
    assert [fill.key for fill in result.fills] == ["two"]
    assert broker.state().unfilled["one"] == "a person"


def test_under_a_halt_no_order_is_taken_nor_executed(broker: PaperBroker) -> None:
    broker.submit([order()], reference="f", session=DAYS[0])
    broker.switch.halt("test", "me")
    with pytest.raises(HaltedError, match="test"):
        broker.submit([order("two")], reference="g", session=DAYS[0])
    assert broker.submit((), reference="empty", session=DAYS[0]) == {}
    result = broker.keep(DAYS[1], {"A": BAR}, Rules())
    assert result is not None
    assert not result.fills
    assert dict(broker.order_states()) == {"one": "expired"}
    assert broker.state().unfilled["one"] == HALTED
    broker.switch.resume("me")
    broker.submit([order("three")], reference="h", session=DAYS[1])
    broker.keep(DAYS[2], {"A": BAR}, Rules())
    assert broker.positions()["A"].quantity == 10


def test_a_broker_without_an_account_says_what_to_do(tmp_path: Path) -> None:
    broker = PaperBroker(tmp_path / "none.jsonl", KillSwitch.of(tmp_path))
    for act in (
        lambda: broker.submit([order()], reference="f", session=DAYS[0]),
        lambda: broker.keep(DAYS[1], {}, Rules()),
    ):
        with pytest.raises(OrderError, match="materialize `paper_book` first"):
            act()


def rechained(path: Path, change: Any) -> None:
    """What a forger would do who knows how the chain is made."""
    values = [dict(link.values) for link in HashChain(path).read()]
    change(values)
    path.unlink()
    for one in values:
        HashChain(path).append(one)


def raise_cash(values: list[dict[str, Any]]) -> None:
    values[2]["book"]["cash"] += 0.01


def raise_shares(values: list[dict[str, Any]]) -> None:
    values[2]["book"]["positions"]["A"]["quantity"] += 1


def fill_twice(values: list[dict[str, Any]]) -> None:
    values[2]["fills"] *= 2


def unknown_kind(values: list[dict[str, Any]]) -> None:
    values[2]["kind"] = "gift"


def out_of_order(values: list[dict[str, Any]]) -> None:
    values.append(values[2])


@pytest.mark.parametrize("change", [raise_cash, raise_shares, fill_twice, unknown_kind, out_of_order])
def test_a_forged_record_is_found_even_with_a_whole_chain(broker: PaperBroker, change: Any) -> None:
    broker.submit([order()], reference="f", session=DAYS[0])
    broker.keep(DAYS[1], {"A": BAR}, Rules())
    broker.state()
    rechained(broker.path, change)
    with pytest.raises(ChainError, match=r"record [34] of"):
        broker.state()


def test_an_edited_line_is_found(broker: PaperBroker) -> None:
    broker.submit([order()], reference="f", session=DAYS[0])
    broker.path.write_text(broker.path.read_text().replace('"capital":10000.0', '"capital":90000.0'))
    with pytest.raises(ChainError, match="line 2 of"):
        broker.state()


_DESK = """
import sys
from pathlib import Path
from financial_assets.halt import KillSwitch
from financial_assets.trading.book import Rules
from financial_assets.trading.paper import PaperBroker
from tests.trading.test_paper import BAR, order
folder = Path(sys.argv[1])
broker = PaperBroker(folder / "paper.jsonl", KillSwitch.of(folder))
broker.open_account("2020-01-01", 1e9)
while True:
    state = broker.state()
    day = max(state.session, state.opened)
    number = int(day.replace("-", ""))
    broker.submit([order(f"k{number}")], reference=day, session=day)
    following = f"{number + 1:08d}"
    broker.keep(f"{following[:4]}-{following[4:6]}-{following[6:]}", {"A": BAR}, Rules())
"""


def test_a_desk_that_is_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "paper.jsonl"
    for _ in range(3):
        size = path.stat().st_size if path.exists() else 0
        desk = subprocess.Popen([sys.executable, "-c", _DESK, str(tmp_path)])
        deadline = time.monotonic() + 120
        while not path.exists() or path.stat().st_size < size + 5000:
            assert desk.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(desk.pid, signal.SIGKILL)
        desk.wait()
        state = PaperBroker(path, KillSwitch.of(tmp_path)).state()
        bought = sum(fill.quantity for fill in state.fills)
        assert len({fill.key for fill in state.fills}) == len(state.fills) == len(state.sessions)
        assert bought == state.book.positions["A"].quantity
        paid = sum(fill.quantity * fill.price + sum(fill.costs.values()) for fill in state.fills)
        assert state.book.cash == pytest.approx(1e9 - paid)
    days = [json.loads(line)["session"] for line in path.read_text().splitlines() if '"kind":"session"' in line]
    assert days == sorted(set(days))
