"""Portfolios over HTTP: weights and orders that fulfil what was asked, and what is said where none do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.api.local_client import LocalClient

CAPITAL = 1_000_000.0


def ask(client: LocalClient, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/portfolio", json={"capital": CAPITAL, **body})
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("mode", ["long_only", "neutral", "long_short"])
@pytest.mark.parametrize("forecast", ["score", "probability", "evidence", "none", None])
def test_the_book_keeps_its_constraints(client: LocalClient, mode: str, forecast: str | None) -> None:
    limits = {
        "mode": mode,
        "gross": 1.2,
        "per_name": 0.5,
        "per_sector": 0.8,
        "turnover": 1.0,
        "volatility_target": 0.15,
    }
    found = ask(client, constraints=limits, forecast=forecast, positions=[{"ticker": "AAA", "value": 50_000}])
    weights = {target["ticker"]: target["weight"] for target in found["targets"]}
    held = np.array(list(weights.values()))
    assert found["gross"] == pytest.approx(np.abs(held).sum())
    assert found["gross"] <= 1.2 + 1e-6
    assert np.abs(held).max(initial=0) <= 0.5 + 1e-6
    assert abs(weights.get("AAA", 0)) + abs(weights.get("BBB", 0)) <= 0.8 + 1e-6
    assert found["turnover"] <= 1.0 + 1e-6
    assert found["volatility"] <= 0.15 + 1e-6
    assert found["net"] + found["cash"] == pytest.approx(1)
    if mode == "long_only":
        assert held.min(initial=0) >= 0
    if mode == "neutral":
        assert found["net"] == pytest.approx(0, abs=1e-6)
    # Only a forecast can make it worth while to trade.
    assert bool(found["orders"]) or forecast == "none" or held.size == 0


def test_orders_lead_from_what_is_held_to_the_targets(client: LocalClient) -> None:
    positions = [{"ticker": "AAA", "quantity": 2000}, {"ticker": "BBB", "value": 100_000}]
    found = ask(client, constraints={"mode": "long_short", "gross": 1.5, "per_name": 0.5}, positions=positions)
    targets = {target["ticker"]: target for target in found["targets"]}
    prices = {member["ticker"]: member["last_close"] for member in client.get("/v1/universe").json()["tickers"]}
    assert targets["AAA"]["current"] == pytest.approx(2000 * prices["AAA"] / CAPITAL)
    assert targets["BBB"]["current"] == pytest.approx(0.1)
    for order in found["orders"]:
        target, price = targets[order["ticker"]], prices[order["ticker"]]
        signed = order["quantity"] if order["side"] == "BUY" else -order["quantity"]
        assert order["weight_after"] == pytest.approx(target["current"] + signed * price / CAPITAL)
        assert abs(order["weight_after"] - target["weight"]) < price / CAPITAL
    values = [order["value"] for order in found["orders"]]
    assert values == sorted(values, reverse=True)


def test_the_volatility_is_that_of_the_joint_scenarios(client: LocalClient) -> None:
    """Of one name: that of its scenarios, whatever is done to correlations."""
    found = ask(client, tickers=["AAA"], forecast="none", constraints={"per_name": 1.0, "invested": 0.8})
    risk = client.post("/v1/risk", json={"positions": [{"ticker": "AAA", "value": 800_000}]}).json()
    # A standard deviation beside a 5 % quantile: of tails between normal and Student's t their ratio is 1.4 to 1.8.
    daily = found["volatility"] / 252**0.5
    assert 1.3 < risk["horizons"][0]["portfolio"]["var_95"] / CAPITAL / daily < 1.9


def test_names_that_may_not_be_held_are_sold(client: LocalClient) -> None:
    found = ask(client, positions=[{"ticker": "CCC", "value": 80_000}], tickers=["AAA", "BBB"])
    targets = {target["ticker"]: target["weight"] for target in found["targets"]}
    assert targets["CCC"] == 0
    assert ("CCC", "SELL") in [(order["ticker"], order["side"]) for order in found["orders"]]


def test_a_lot_and_a_smallest_order(client: LocalClient) -> None:
    found = ask(client, constraints={"per_name": 0.5}, lot=100, smallest_order=1000)
    assert found["orders"]
    assert all(order["quantity"] % 100 == 0 and order["value"] >= 1000 for order in found["orders"])


def test_contradictions_are_named_and_the_advice_works(client: LocalClient) -> None:
    positions = [{"ticker": "AAA", "value": 600_000}]
    limits = {"mode": "long_only", "per_name": 0.1, "turnover": 0.1}
    error = ask(client, 422, positions=positions, constraints=limits)["error"]
    assert error["code"] == "infeasible_constraints"
    assert {problem["field"] for problem in error["problems"]} == {"constraints.per_name", "constraints.turnover"}
    for problem in error["problems"]:
        needed = float(problem["message"].rpartition(" to ")[2].split(" ")[0])
        ask(client, positions=positions, constraints={**limits, problem["field"].partition(".")[2]: needed})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"capital": 0}, "capital"),
        ({"capital": None}, "capital"),
        ({"constraints": {"mode": "short_only"}}, "constraints.mode"),
        ({"constraints": {"gross": -1}}, "constraints.gross"),
        ({"constraints": {"per_name": 0}}, "constraints.per_name"),
        ({"constraints": {"mode": "neutral", "invested": 0.5}}, "constraints"),
        ({"constraints": {"volatility": 0.1}}, "constraints.volatility"),
        ({"tickers": []}, "tickers"),
        ({"forecast": "magic"}, "forecast"),
        ({"holding_sessions": 0}, "holding_sessions"),
        ({"lot": 0}, "lot"),
        ({"risk_aversion": "NaN"}, "risk_aversion"),
        ({"positions": [{"ticker": "AAA", "value": 1}, {"ticker": "AAA", "value": 1}]}, "positions"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(client: LocalClient, body: dict[str, Any], field: str) -> None:
    error = ask(client, 422, **body)["error"]
    assert error["code"] == "invalid_request"
    assert error["problems"][0]["field"] == field


def test_unknown_names_are_refused(client: LocalClient) -> None:
    assert ask(client, 422, tickers=["AAA", "XXX"])["error"]["code"] == "unknown_ticker"
    assert ask(client, 422, positions=[{"ticker": "XXX", "value": 1}])["error"]["code"] == "unknown_ticker"
