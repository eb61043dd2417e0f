"""Orders over HTTP, and what every route says while trading is halted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from financial_assets.installation import Installation, open_installation
from financial_assets.settings import load_settings
from financial_assets.workflows.desk.orders import make_orders
from financial_assets.workflows.desk.paper_book import keep_paper_book
from tests.api.local_client import LocalClient

Open = Callable[..., LocalClient]


@pytest.fixture
def desk(home: Path, tmp_path: Path) -> Installation:
    shutil.copytree(home, tmp_path / "home")
    return open_installation(load_settings(financial_assets_home=tmp_path / "home", orders_per_name=0.4))


def test_before_the_first_daily_run_there_are_none(desk: Installation, open_client: Open) -> None:
    answer = open_client(desk).get("/v1/orders")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "no_orders"
    assert not desk.trading.paper.path.exists()


def test_orders_of_the_daily_run_and_what_became_of_each(desk: Installation, open_client: Open) -> None:
    keep_paper_book(desk.market, desk.ab_test, desk.trading)
    made = make_orders(desk.market, desk.ab_test, desk.trading).stored
    client = open_client(desk)
    found = client.get("/v1/orders").json()
    assert found["digest"] == made.digest
    assert (found["status"], found["halted"], found["session"]) == ("orders", None, made.document.session)
    assert [(one["key"], one["quantity"], one["limit"]) for one in found["orders"]] == [
        (one.key, one.quantity, one.limit) for one in made.document.orders
    ]
    assert {one["state"] for one in found["orders"]} == {"open"}
    assert client.get(f"/v1/orders?session={made.document.session}").json() == found
    assert client.get("/v1/orders?session=1999-01-04").status_code == 404
    assert client.get("/v1/orders?session=never").status_code == 422


def test_a_broken_chain_is_an_error_and_no_orders(desk: Installation, open_client: Open) -> None:
    keep_paper_book(desk.market, desk.ab_test, desk.trading)
    path = make_orders(desk.market, desk.ab_test, desk.trading).stored.path
    path.write_text(path.read_text().replace("BUY", "SELL"))
    answer = open_client(desk).get("/v1/orders")
    assert answer.status_code == 503
    assert "were edited" in answer.json()["error"]["message"]


def test_a_halt_is_seen_at_once_and_nobody_is_given_orders(desk: Installation, open_client: Open) -> None:
    keep_paper_book(desk.market, desk.ab_test, desk.trading)
    make_orders(desk.market, desk.ab_test, desk.trading)
    client = open_client(desk)
    asked = {"capital": 1e6, "constraints": {"per_name": 0.5}}
    assert client.get("/v1/signals").json()["halted"] is None
    assert client.post("/v1/portfolio", json=asked).json()["orders"]
    desk.trading.switch.halt("prices look wrong", "anna")
    signals = client.get("/v1/signals").json()
    assert "prices look wrong" in signals["halted"]
    assert signals["remarks"][0] == signals["halted"]
    assert signals["signals"]
    assert client.get("/v1/signals?direction=HOLD").json()["halted"] == signals["halted"]
    book = client.post("/v1/portfolio", json=asked).json()
    assert book["orders"] == []
    assert book["targets"]
    assert book["warnings"][0] == signals["halted"]
    orders = client.get("/v1/orders").json()
    assert orders["orders"] == []
    assert orders["halted"] == signals["halted"]
    desk.trading.switch.resume("anna")
    assert client.get("/v1/signals").json()["halted"] is None
    assert client.get("/v1/orders").json()["orders"]
