"""Risk over HTTP: numbers against an independent computation from the folder's files, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from financial_assets.installation import Installation
from tests.api.local_client import LocalClient

POSITIONS = [
    {"ticker": "AAA", "value": 400_000},
    {"ticker": "bbb", "value": -150_000},
    {"ticker": "CCC", "quantity": 900},
]


def by_hand(installation: Installation, values: dict[str, float], days: int, scenarios: int) -> tuple[float, ...]:
    """Value at risk and shortfall with pandas alone, from stored prices and signals."""
    market = installation.market
    now = market.clock().now()
    prices = market.prices()
    closes = prices[prices["date"] <= now].pivot(index="date", columns="ticker", values="adj_close")
    returns = np.log(closes).diff()
    weights = 0.06 * 0.94 ** np.arange(128)  # RiskMetrics' weights, as far back as the served graph looks
    volatility = np.sqrt(
        returns.pow(2).rolling(128).apply(lambda r: (weights[::-1] * r).sum() / weights.sum(), raw=True)
    )
    ahead = np.log(closes.shift(-days)) - np.log(closes)
    residuals = (ahead / volatility).dropna()[list(values)].tail(scenarios)
    signals = pd.read_parquet(market.folder / "signals" / f"{now:%Y-%m-%d}.parquet").set_index("ticker")
    suffix = "" if days == 1 else "_5d"
    profits = pd.Series(0.0, index=residuals.index)
    for ticker, value in values.items():
        served = signals.loc[ticker]
        column = residuals[ticker]
        median = served[f"q50{suffix}"]
        below = (median - served[f"q05{suffix}"]) / (column.median() - column.quantile(0.05))
        above = (served[f"q95{suffix}"] - median) / (column.quantile(0.95) - column.median())
        moved = column - column.median()
        profits += value * np.expm1(median + moved.where(moved >= 0, 0) * above + moved.where(moved < 0, 0) * below)
    losses = -profits.sort_values()
    found: list[float] = []
    for level in (0.95, 0.99):
        found.append(float(-profits.quantile(1 - level)))
        count = len(losses) * (1 - level)
        whole = math.floor(count + 1e-9)
        found.append(float((losses.iloc[:whole].sum() + (count - whole) * losses.iloc[whole]) / count))
    return tuple(found)


@pytest.mark.parametrize("scenarios", [300, 1000])
def test_the_portfolio_against_pandas(client: LocalClient, installation: Installation, scenarios: int) -> None:
    answer = client.post("/v1/risk", json={"positions": POSITIONS, "scenarios": scenarios})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    values = {one["ticker"]: one["value"] for one in found["horizons"][0]["positions"]}
    price = client.get("/v1/signals/CCC").json()["last_close"]
    assert values == {"AAA": 400_000, "BBB": -150_000, "CCC": pytest.approx(900 * price)}
    for horizon, days in zip(found["horizons"], (1, 5), strict=True):
        tail = horizon["portfolio"]
        # The served volatility is float32 and truncated: four digits are what the two share.
        expected = by_hand(installation, values, days, scenarios)
        assert [tail[name] for name in ("var_95", "es_95", "var_99", "es_99")] == pytest.approx(expected, rel=2e-3)
        shares = sum(one["share_of_es_99"] for one in horizon["positions"])
        assert shares == pytest.approx(tail["es_99"])
        assert horizon["scenarios"] == (300 if scenarios == 300 else pytest.approx(590, abs=10))
    assert found["gross"] == pytest.approx(sum(abs(value) for value in values.values()))
    assert found["capital_is"] == "gross value of the positions"


def test_a_single_position_has_the_value_at_risk_of_its_signal(client: LocalClient) -> None:
    signal = client.get("/v1/signals/AAA").json()
    for value, side in ((1000.0, "long"), (-1000.0, "short")):
        found = client.post("/v1/risk", json={"positions": [{"ticker": "AAA", "value": value}]}).json()
        tail = found["horizons"][0]["portfolio"]
        assert tail["var_95"] == pytest.approx(1000 * signal[side]["one_session"]["var_95"], rel=1e-3)


def test_scale_and_sign_laws(client: LocalClient) -> None:
    def tail(factor: float) -> dict[str, float]:
        positions = [{"ticker": name, "value": factor * value} for name, value in (("AAA", 5.0), ("BBB", -2.0))]
        found: dict[str, float] = client.post("/v1/risk", json={"positions": positions}).json()["horizons"][0][
            "portfolio"
        ]
        return found

    one = tail(1.0)
    assert tail(1e9) == pytest.approx({name: 1e9 * loss for name, loss in one.items()})
    assert tail(-1.0) != pytest.approx(one)  # tails differ from side to side


def test_the_back_test_counts_what_it_says(client: LocalClient) -> None:
    found = client.post("/v1/risk", json={"positions": POSITIONS, "back_test": True}).json()
    one, five = found["horizons"]
    at_95, at_99 = one["back_test"]
    assert (at_95["level"], at_95["sessions"]) == (0.95, 150)
    assert at_95["expected"] == pytest.approx(150 * 0.05)
    # The ranges of this folder are right, up to the tails of its law: a p-value below one in ten thousand is a fault.
    assert at_95["kupiec_p"] > 1e-4
    assert at_99["kupiec_p"] is None
    assert five["back_test"][0]["sessions"] == pytest.approx(29, abs=1)
    assert client.post("/v1/risk", json={"positions": POSITIONS}).json()["horizons"][0]["back_test"] == []


def test_limits_are_checked_against_the_capital(client: LocalClient) -> None:
    asked = {
        "positions": [
            {"ticker": "AAA", "value": 600},
            {"ticker": "BBB", "value": 300},
            {"ticker": "CCC", "value": -200},
        ],
        "capital": 1000,
        "limits": {"gross": 1.0, "net": 0.8, "per_name": 0.6, "per_sector": 0.8, "var_99": 1.0, "es_99_5d": 0.0001},
    }
    found = client.post("/v1/risk", json=asked).json()
    checks = {check["limit"]: check for check in found["limits"]}
    assert {name: check["breached"] for name, check in checks.items()} == {
        "gross": True,
        "net": False,
        "per_name": False,
        "per_sector": True,
        "var_99": False,
        "es_99_5d": True,
    }
    observed = {name: check["observed"] for name, check in checks.items()}
    assert (observed["gross"], observed["net"], observed["per_name"]) == pytest.approx((1.1, 0.7, 0.6))
    assert (observed["per_sector"], checks["per_sector"]["detail"]) == (pytest.approx(0.9), "energy")
    assert checks["per_name"]["detail"] == "AAA"
    assert observed["var_99"] == pytest.approx(found["horizons"][0]["portfolio"]["var_99"] / 1000)
    assert found["within_limits"] is False
    assert client.post("/v1/risk", json={**asked, "limits": {"gross": 2.0}}).json()["within_limits"] is True


def one(**position: Any) -> dict[str, Any]:
    return {"positions": [position]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("not json", "body"),
        ("{", "body"),
        ("", "body"),
        ("[]", ""),
        ({}, "positions"),
        ({"positions": []}, "positions"),
        ({"positions": "AAA"}, "positions"),
        ({"positions": [5]}, "positions.0"),
        (one(ticker="AAA"), "positions.0"),
        (one(ticker="AAA", value=1, quantity=1), "positions.0"),
        (one(ticker="", value=1), "positions.0.ticker"),
        (one(ticker=None, value=1), "positions.0.ticker"),
        (one(ticker="A" * 33, value=1), "positions.0.ticker"),
        (one(ticker="AAA", value="much"), "positions.0.value"),
        (one(ticker="AAA", value=1e14), "positions.0.value"),
        (one(ticker="AAA", quantity=-1e12), "positions.0.quantity"),
        ('{"positions": [{"ticker": "AAA", "value": NaN}]}', "positions.0.value"),
        ('{"positions": [{"ticker": "AAA", "value": Infinity}]}', "positions.0.value"),
        ('{"positions": [{"ticker": "AAA", "value": 1e999}]}', "positions.0.value"),
        ({"positions": [{"ticker": "AAA", "value": 1}, {"ticker": "aaa", "value": 2}]}, "positions"),
        ({**one(ticker="AAA", value=1), "confidence": 0.9}, "confidence"),
        ({**one(ticker="AAA", value=1), "capital": 0}, "capital"),
        ({**one(ticker="AAA", value=1), "capital": -5}, "capital"),
        ({**one(ticker="AAA", value=1), "scenarios": 10}, "scenarios"),
        ({**one(ticker="AAA", value=1), "limits": {"gros": 1}}, "limits.gros"),
        ({**one(ticker="AAA", value=1), "limits": {"gross": "NaN"}}, "limits.gross"),
        ({"positions": [{"ticker": f"T{n}", "value": 1} for n in range(2001)]}, "positions"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(client: LocalClient, body: Any, field: str) -> None:
    sent = (
        {"content": body, "headers": {"content-type": "application/json"}} if isinstance(body, str) else {"json": body}
    )
    answer = client.post("/v1/risk", **sent)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["code"] == "invalid_request"
    fields = [problem["field"] for problem in error["problems"]]
    assert fields[0].startswith(field) or field == "body", fields
    assert error["fix"]


@pytest.mark.parametrize(
    ("positions", "code"),
    [
        ([{"ticker": "XXX", "value": 1}], "unknown_ticker"),
        ([{"ticker": "AAA", "value": 0}], "empty_portfolio"),
        ([{"ticker": "AAA", "value": 0}, {"ticker": "BBB", "quantity": 0}], "empty_portfolio"),
    ],
)
def test_what_cannot_be_judged_is_refused(client: LocalClient, positions: list[dict[str, Any]], code: str) -> None:
    answer = client.post("/v1/risk", json={"positions": positions})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)


def test_every_unknown_ticker_is_named_at_its_place(client: LocalClient) -> None:
    positions = [{"ticker": name, "value": 1} for name in ("AAA", "XXX", "BBB", "YYY")]
    error = client.post("/v1/risk", json={"positions": positions}).json()["error"]
    assert [problem["field"] for problem in error["problems"]] == ["positions.1.ticker", "positions.3.ticker"]


def test_a_position_beside_one_of_nothing_changes_nothing(client: LocalClient) -> None:
    alone = client.post("/v1/risk", json=one(ticker="AAA", value=10)).json()["horizons"][0]["portfolio"]
    both = client.post(
        "/v1/risk", json={"positions": [{"ticker": "AAA", "value": 10}, {"ticker": "BBB", "value": 0}]}
    ).json()["horizons"][0]["portfolio"]
    assert both == pytest.approx(alone)
