"""The commands ``halt`` and ``resume``, as a person uses them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from financial_assets.cli.main import main
from financial_assets.halt import KillSwitch
from financial_assets.trading.order import Order, TradingCosts
from financial_assets.trading.paper import PaperBroker


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_halting_cancels_open_orders_and_resuming_brings_none_back(home: Path) -> None:
    broker = PaperBroker(home / "paper-book.jsonl", KillSwitch.of(home))
    broker.open_account("2020-01-02", 1000.0)
    broker.submit([Order("a-key", "A", "BUY", 1, None, 10.0, 1.0, TradingCosts())], reference="f", session="2020-01-02")
    halted = command("halt", "--reason", "prices look wrong", "--by", "anna")
    assert halted.exit_code == 0, halted.output
    assert "by anna: prices look wrong. No orders; champion and traffic are frozen" in halted.output
    assert "open orders cancelled: a-key" in halted.output
    assert dict(broker.order_states()) == {"a-key": "cancelled"}
    assert broker.state().unfilled["a-key"] == "halted: prices look wrong"
    again = command("halt")
    assert again.exit_code == 0
    assert "there were none" in again.output
    resumed = command("resume", "--by", "ben")
    assert resumed.exit_code == 0
    assert "resumed; it was HALTED since" in resumed.output
    assert KillSwitch.of(home).halt_in_force() is None
    assert dict(broker.order_states()) == {"a-key": "cancelled"}
    assert "there was no halt" in command("resume").output


def test_a_broken_ledger_does_not_keep_anybody_from_halting(home: Path) -> None:
    home.mkdir()
    (home / "paper-book.jsonl").write_text("rubbish\n")
    halted = command("halt")
    assert halted.exit_code == 1
    assert "trading is halted, but open orders of the paper book were not cancelled" in halted.output
    assert KillSwitch.of(home).halt_in_force() is not None


def test_status_says_it_first(home: Path) -> None:
    command("halt", "--reason", "a [red]test[/red]", "--by", "anna")
    shown = command("status")
    assert shown.output.startswith("HALTED since ")
    assert "a [red]test[/red]" in shown.output.replace("\n", " ")


def test_help_says_what_is_frozen() -> None:
    for name in ("halt", "resume"):
        assert command(name, "--help").exit_code == 0
    assert "Nothing is promoted, rolled back" in " ".join(command("halt", "--help").output.split())
