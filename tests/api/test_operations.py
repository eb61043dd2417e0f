"""What every request passes through: ids, logs, metrics, errors, sizes; many at once; explanations."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from financial_assets.api import sessions as sessions_module
from financial_assets.api.logs import FIELDS, JsonFormatter
from financial_assets.api.middleware import MOST_BODY_BYTES
from financial_assets.errors import TrainingError
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.installation import Installation
from financial_assets.models.training import Training, train
from financial_assets.models.variants import VARIANTS
from financial_assets.redaction import conceal
from tests.api.local_client import LocalClient

Open = Callable[..., LocalClient]


def test_a_request_id_is_given_back_or_made(client: LocalClient) -> None:
    for path in ("/healthz", "/v1/signals/AAA", "/v1/signals/XXX", "/nowhere"):
        answer = client.get(path, headers={"X-Request-ID": "trade-7.a_b"})
        assert answer.headers["x-request-id"] == "trade-7.a_b"
    made = {client.get("/healthz").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    for odd in ("a b", "x" * 65, "{}", "", "a\tb"):
        answer = client.get("/v1/signals/XXX", headers={"X-Request-ID": odd})
        assert answer.headers["x-request-id"] != odd
        assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


def test_every_request_is_one_line_of_json_without_secrets(
    client: LocalClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "financial_assets.api"):
        client.get(
            "/v1/signals/AAA?session=2001-01-02", headers={"X-Request-ID": "one", "Authorization": "Bearer geheim"}
        )
        client.get("/readyz")
        client.get("/v1/models", headers={"X-Request-ID": "two"})
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records if record.message == "request"]
    assert [(line["path"], line["status"], line["caller"]) for line in lines] == [
        ("/v1/signals/AAA", 404, "local"),
        ("/v1/models", 200, "local"),
    ]
    assert all(line["ms"] >= 0 and line["method"] == "GET" and line["client"] == "127.0.0.1" for line in lines)
    assert "geheim" not in caplog.text


def test_secrets_never_reach_a_line() -> None:
    conceal("postgresql://someone:letmein-77@host/log")
    record = logging.LogRecord(
        "x", logging.ERROR, __file__, 1, "could not open %s", ("postgres://a:letmein-77@h",), None
    )
    setattr(record, FIELDS, {"detail": "password=letmein-77", "other": 'with "quotes" letmein-77'})
    try:
        raise ValueError("letmein-77")
    except ValueError:
        import sys

        record.exc_info = sys.exc_info()
    line = JsonFormatter().format(record)
    assert "letmein" not in line
    assert json.loads(line)["level"] == "ERROR"


def test_requests_are_counted_by_route_not_by_path(client: LocalClient) -> None:
    for path in ("/v1/signals/AAA", "/v1/signals/BBB", "/v1/signals/XXX", "/secret/1", "/secret/2"):
        client.get(path)
    text = client.get("/metrics").text
    prefix = "financial_assets_api_requests_total"
    assert f'{prefix}{{method="GET",route="/v1/signals/{{ticker}}",status="200"}} 2.0' in text
    assert f'{prefix}{{method="GET",route="/v1/signals/{{ticker}}",status="404"}} 1.0' in text
    assert f'{prefix}{{method="-",route="unknown",status="404"}} 2.0' in text
    assert "secret" not in text
    assert "financial_assets_api_in_flight 1.0" in text  # this very request
    assert 'request_seconds_count{route="/v1/signals/{ticker}"} 3.0' in text
    assert "session_timestamp_seconds 0.0" not in text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v2/signals", 404), ("POST", "/v1/signals", 405)])
def test_unknown_paths_and_methods_have_the_same_form_of_error(
    client: LocalClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["fix"]


def test_a_body_that_is_too_large_is_cut_off(client: LocalClient) -> None:
    positions = json.dumps({"positions": [{"ticker": "AAA", "value": 1}]}).encode()
    for size, status in ((MOST_BODY_BYTES, 200), (MOST_BODY_BYTES + 1, 413)):
        answer = client.post("/v1/risk", content=positions.ljust(size), headers={"content-type": "application/json"})
        assert answer.status_code == status
    assert answer.json()["error"]["code"] == "body_too_large"


def test_a_fault_of_the_server_is_told_without_its_inside(
    client: LocalClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("inside")

    monkeypatch.setattr(type(client.app.state.sessions), "_look", broken)
    answer = client.get("/v1/signals")
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert error["code"] == "internal_error"
    assert "inside" not in answer.text
    assert "inside" in caplog.text
    assert client.get("/healthz").status_code == 200


def test_the_openapi_document_says_what_it_answers(client: LocalClient) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/v1/signals", "/v1/signals/{ticker}", "/v1/signals/{ticker}/explanation", "/v1/universe"),
        *("/v1/risk", "/v1/portfolio", "/v1/orders", "/v1/decisions", "/v1/models", "/healthz", "/readyz", "/metrics"),
        *("/v1/judge", "/v1/judge/plans/{name}", "/v1/judge/plans/{name}/verdict", "/v1/judge/flagger/{gate}"),
        *("/v1/judge/kayenta/canaryConfig", "/v1/judge/kayenta/canary/{name}", "/v1/judge/kayenta/canary/{execution}"),
    }
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert bool(operation.get("security")) == path.startswith("/v1/")
            assert operation["summary"]
    parameters = document["paths"]["/v1/signals/{ticker}"]["get"]["parameters"]
    assert [one["name"] for one in parameters] == ["ticker", "session"]
    for name, schema in document["components"]["schemas"].items():
        for field, value in schema.get("properties", {}).items():
            known = ("HTTPValidationError", "ValidationError")
            numeric = value.get("type") == "number" or {"type": "number"} in value.get("anyOf", [])
            described = value.get("description") or schema.get("description", "")
            assert not numeric or name in known or described, f"{name}.{field} has no unit"


def test_the_page_shows_every_operation_and_field_and_asks_no_other_host(client: LocalClient) -> None:
    answer = client.get("/docs")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page, document = answer.text, client.get("/openapi.json").json()
    for path in document["paths"]:
        assert f"<code>{path}</code>" in page
    for field in (
        *("positions[].ticker", "positions[].quantity", "limits.var_99", "scenarios"),
        *("horizons[].portfolio.es_99", "horizons[].back_test[].kupiec_p", "constraints.volatility_target"),
        *("long.one_session.var_95", "answers[].families[].share", "signals[].suggested.stop_price"),
    ):
        assert f"<code>{field}</code>" in page, field
    assert "at least 250, at most 5,000" in page
    assert "://" not in page.replace("http://127.0.0.1", "")
    assert "<script" not in page


def test_many_at_once_get_their_own_answers(installation: Installation, open_client: Open) -> None:
    """The session is loaded once, also when fifty ask at the same instant before anybody has."""
    client = open_client(installation)
    tickers = ("AAA", "BBB", "CCC")

    async def ask(number: int) -> None:
        ticker = tickers[number % 3]
        headers = {"X-Request-ID": f"request-{number}"}
        if number % 10 == 0:
            body = {"positions": [{"ticker": ticker, "value": number + 1}]}
            answer = await client.asynchronous.post("/v1/risk", json=body, headers=headers)
            assert answer.json()["horizons"][0]["positions"][0]["ticker"] == ticker
        else:
            answer = await client.asynchronous.get(f"/v1/signals/{ticker}", headers=headers)
            assert answer.json()["ticker"] == ticker
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == f"request-{number}"

    async def at_once() -> None:
        await asyncio.gather(*map(ask, range(50)))

    client.run(at_once())
    assert "session_loads_total 1.0" in client.get("/metrics").text
    assert "in_flight 1.0" in client.get("/metrics").text


def test_a_failed_load_fails_for_all_who_wait_and_the_next_one_tries_again(
    installation: Installation, open_client: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(installation)
    from financial_assets.errors import MarketDataError

    def failing(*_: Any) -> Any:
        raise MarketDataError("the disk is away")

    async def at_once() -> list[int]:
        answers = await asyncio.gather(*(client.asynchronous.get("/v1/signals") for _ in range(5)))
        return [answer.status_code for answer in answers]

    with monkeypatch.context() as patched:
        patched.setattr(sessions_module, "load_session", failing)
        assert client.run(at_once()) == [503] * 5
    assert client.run(at_once()) == [200] * 5


@pytest.fixture(scope="module")
def training(home: Path) -> Training:
    """A model of the folder's own features; nothing about its answers matters."""
    from financial_assets.installation import open_installation
    from financial_assets.settings import load_settings

    panel = open_installation(load_settings(financial_assets_home=home)).market.panel()
    graph = FeatureGraph()
    variant = replace(VARIANTS["baseline"], epochs=1, hidden=4, layers=1)
    return train(
        variant,
        compute_panel(panel, graph),
        panel,
        cutoff=panel.sessions[-1],
        sequence_length=5,
        seed=1,
        device="cpu",
    )


def test_an_explanation_adds_up_and_is_made_once(
    client: LocalClient, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    import financial_assets.workflows.desk.explanation as desk_explanation

    asked: list[int] = []

    def load(_: Any, version: int) -> Training:
        asked.append(version)
        return training

    monkeypatch.setattr(desk_explanation, "load_training", load)
    found = client.get("/v1/signals/BBB/explanation").json()
    assert (found["ticker"], found["model"]) == ("BBB", "baseline-predictor-v1")
    answers = {answer["answer"]: answer for answer in found["answers"]}
    assert set(answers) == {"direction", "median", "spread", "median_5d", "spread_5d", "score"}
    for answer in answers.values():
        total = sum(family["contribution"] for family in answer["families"])
        size = abs(answer["value"] - answer["baseline"])
        assert total == pytest.approx(answer["value"] - answer["baseline"], abs=1e-3 + 0.02 * size)
        assert sum(family["share"] for family in answer["families"]) == pytest.approx(1)
        sizes = [abs(family["contribution"]) for family in answer["families"]]
        assert sizes == sorted(sizes, reverse=True)
    assert client.get("/v1/signals/BBB/explanation").json() == found
    assert client.get("/v1/signals/AAA/explanation").json() != found
    assert asked == [1]


def test_a_model_without_gradients_has_no_explanation(client: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    import financial_assets.workflows.desk.explanation as desk_explanation

    def none(*_: Any) -> Training:
        raise TrainingError("version 1 was made elsewhere: of its graph no gradients are known")

    monkeypatch.setattr(desk_explanation, "load_training", none)
    answer = client.get("/v1/signals/AAA/explanation")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_explanation")
    assert "made elsewhere" in answer.json()["error"]["message"]
