"""The doctor on the desk: broken chains are named, a halt deserves a look, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from financial_assets.doctor.trading import check_trading
from financial_assets.doctor.walk import LayerError
from financial_assets.halt import KillSwitch
from financial_assets.installation import Installation, open_installation
from financial_assets.settings import load_settings
from financial_assets.trading.order import Order, TradingCosts
from financial_assets.trading.order_files import OrderFiles
from financial_assets.trading.paper import PaperBroker
from tests.doctor.doctor_home import snapshot
from tests.trading.test_order_files import draft


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A desk after its first session."""
    home = tmp_path / "home"
    broker = PaperBroker(home / "paper-book.jsonl", KillSwitch.of(home))
    broker.open_account("2020-01-02", 1e6)
    stored, _ = OrderFiles(home / "orders").add(draft())
    broker.submit(stored.document.orders, reference=stored.digest, session="2020-01-02")
    return home


def opened(folder: Path, **settings: object) -> Installation:
    return open_installation(load_settings(financial_assets_home=folder, **settings))


def test_a_whole_desk(folder: Path) -> None:
    before = snapshot(folder)
    checked = check_trading(opened(folder))
    assert (checked.remedy, "1 files of orders" in checked.detail) == ("", True)
    assert snapshot(folder) == before


def test_a_folder_without_orders(tmp_path: Path) -> None:
    assert check_trading(opened(tmp_path / "new")).detail == "no orders were made yet"


def test_a_halt_deserves_a_look(folder: Path) -> None:
    KillSwitch.of(folder).halt("a test", "me")
    checked = check_trading(opened(folder))
    assert "by me: a test" in checked.detail
    assert "financial-assets resume" in checked.remedy


def cut(path: Path) -> None:
    path.unlink()


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("A", "B").replace("2020", "2021"))


@pytest.mark.parametrize(
    ("name", "damage", "named"),
    [
        ("orders/2020-01-02.json", cut, "files of orders are missing"),
        ("orders/2020-01-02.json", edit, "2020-01-02.json"),
        ("orders/2020-01-02.csv", cut, "2020-01-02.csv is missing"),
        ("orders/2020-01-02.csv", edit, "2020-01-02.csv does not say"),
        ("paper-book.jsonl", edit, "paper-book.jsonl"),
        ("halt.jsonl", edit, "halt.jsonl"),
    ],
)
def test_a_damaged_record_is_named(folder: Path, name: str, damage: Callable[[Path], None], named: str) -> None:
    KillSwitch.of(folder).halt("A test", "me")
    KillSwitch.of(folder).resume("A person")
    damage(folder / name)
    before = snapshot(folder)
    with pytest.raises(LayerError, match=r"from a copy|writes it again") as broken:
        check_trading(opened(folder))
    assert named in str(broken.value)
    assert "restore the file" in broken.value.remedy
    assert snapshot(folder) == before


def test_a_file_of_holdings_that_cannot_be_meant_is_named(folder: Path) -> None:
    path = folder / "holdings.csv"
    path.write_text("ticker,quantity\nZZZ,1\n")
    with pytest.raises(LayerError, match="line 2: ZZZ is not in the universe") as broken:
        check_trading(opened(folder, holdings=path))
    assert "unset HOLDINGS" in broken.value.remedy


def test_an_order_that_the_ledger_has_but_no_file(folder: Path) -> None:
    broker = PaperBroker(folder / "paper-book.jsonl", KillSwitch.of(folder))
    one = Order("other", "A", "BUY", 1, None, 10.0, 1.0, TradingCosts())
    broker.submit([one], reference="f" * 64, session="2020-01-02")
    with pytest.raises(LayerError, match="ffffffffffff"):
        check_trading(opened(folder))
