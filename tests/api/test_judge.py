"""The judge over HTTP: plans, verdicts, errors that name the field, keys and limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from financial_assets.api.keys import add_key
from financial_assets.installation import open_installation
from financial_assets.settings import load_settings
from tests.api.judging import PLAN, START, Clock, judged, register, series
from tests.api.local_client import LocalClient

Open = Callable[..., LocalClient]
ELSEWHERE = ("10.1.2.3", 40000)


@pytest.fixture
def client(tmp_path: Path, open_client: Open) -> LocalClient:
    return open_client(open_installation(load_settings(financial_assets_home=tmp_path)), clock=Clock())


def error(answer: Any) -> tuple[int, str, list[str]]:
    body = answer.json()["error"]
    assert body["request_id"]
    assert body["fix"]
    return answer.status_code, body["code"], [one["field"] for one in body["problems"]]


def test_a_plan_is_registered_once(client: LocalClient) -> None:
    first = register(client, "a")
    again = register(client, "a")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["starts"] == first.json()["registered_at"] == "2026-01-01T00:00:00Z"
    assert error(register(client, "a", alpha=0.01)) == (409, "plan_differs", ["alpha"])
    assert client.get(f"/v1/judge/plans/{first.json()['digest']}").json() == first.json()
    assert error(client.get("/v1/judge/plans/b")) == (404, "unknown_plan", ["plan"])


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"low": None}, ["low, high"]),
        ({"effect": None}, ["effect, deviation"]),
        ({"alpha": 2}, ["alpha"]),
        ({"unit": "week"}, ["unit"]),
        ({"surprise": 1}, ["surprise"]),
        ({"starts": "2025-12-31T00:00:00Z"}, ["starts"]),
        ({"time_zone": "Nowhere"}, ["time_zone"]),
    ],
)
def test_a_wrong_plan_is_refused_and_its_field_named(
    client: LocalClient, changes: dict[str, Any], fields: list[str]
) -> None:
    status, _, found = error(register(client, "a", **changes))
    assert (status, found) == (422, fields)
    assert client.get("/v1/judge/plans/a").status_code == 404
    assert error(client.request("PUT", "/v1/judge/plans/UPPER", json=PLAN))[2] == ["name"]


def test_a_verdict_says_what_it_rests_on(client: LocalClient) -> None:
    promoted, rolled_back = judged(client, "good", 0.03), judged(client, "bad", -0.03)
    held = judged(client, "same", 0.0)
    assert [one["verdict"] for one in (promoted, rolled_back, held)] == ["promote", "rollback", "hold"]
    assert [one["classification"] for one in (promoted, rolled_back, held)] == ["Pass", "Fail", "Marginal"]
    assert promoted["interval"]["low"] >= 0
    assert promoted["better"]["p_value"] <= 0.01
    assert promoted["reason"].startswith("Promote: the candidate is shown to be better at 2026-")
    assert (held["units"], held["control_outcomes"], held["final"]) == (300, 300, False)
    assert client.get("/v1/judge/plans/good/verdict").json() == promoted
    assert client.post("/v1/judge", json={"plan": "good"}).json() == promoted
    assert client.post("/v1/judge", json={"plan": promoted["plan_digest"]}).json() == promoted
    metrics = client.get("/metrics").text
    assert 'financial_assets_api_judgements_total{action="promote"} 4.0' in metrics


def test_a_retrospective_plan_is_judged_and_nothing_acts_on_it(client: LocalClient) -> None:
    register(client, "past", retrospective=True)
    client.app.state.clock.now = START + timedelta(days=500)
    answer = client.post("/v1/judge", json={"plan": "past", **series(300, 0.05)}).json()
    assert (answer["verdict"], answer["action"], answer["score"]) == ("promote", "hold", 50)


def changed(**parts: Any) -> dict[str, Any]:
    return {"plan": "a", **series(3, 0.0), **parts}


def row(at: Any = "2026-01-01", value: Any = 0.5, **more: Any) -> list[dict[str, Any]]:
    return [{"at": at, "value": value, **more}]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (changed(candidate=None), "candidate"),
        (changed(control=row(), candidate=[]), "control.0.at"),
        (changed(control=row(value=2), candidate=row()), "control.0.value"),
        (changed(control=row(value="0.5"), candidate=row()), "control.0.value"),
        (changed(control=row(value=True), candidate=row()), "control.0.value"),
        (changed(control=row(value=None), candidate=row()), "control.0.value"),
        (changed(control=row(at="yesterday"), candidate=row()), "control.0.at"),
        (changed(control=row(at=20260101), candidate=row()), "control.0.at"),
        (changed(control=row(at="2027-01-01"), candidate=row(at="2027-01-01")), "control.0.at"),
        (changed(control=row() + row(), candidate=row() + row()), "control.1.at"),
        (changed(control=row(arm="b"), candidate=row()), "control.0.arm"),
        (changed(complete_through="2026-01-02T00:00:00Z"), "complete_through"),
        (changed(complete_through="2026-01-02"), "complete_through"),
        (changed(plan=""), "plan"),
        (changed(surprise=1), "surprise"),
        ({}, "plan"),
        ([], ""),
    ],
)
def test_a_wrong_series_is_refused_and_its_field_named(client: LocalClient, body: Any, field: str) -> None:
    register(client, "a")
    client.app.state.clock.now = START + timedelta(days=10)
    status, _, found = error(client.post("/v1/judge", json=body))
    assert status == 422
    assert found[0] == field
    assert client.get("/v1/judge/plans/a/verdict").json()["judged_at"] is None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_are_none_are_refused(client: LocalClient, number: str) -> None:
    register(client, "a")
    body = json.dumps(changed(control=row(value=0.25))).replace("0.25", number)
    answer = client.post("/v1/judge", content=body, headers={"content-type": "application/json"})
    assert error(answer)[::2] == (422, ["control.0.value"])


def test_a_series_that_contradicts_what_was_judged_is_refused(client: LocalClient) -> None:
    judged(client, "a", 0.0, 30)
    client.app.state.clock.now = START + timedelta(days=500)
    body: dict[str, Any] = {"plan": "a", **series(40, 0.0)}
    body["candidate"][3]["value"] = 0.987
    assert error(client.post("/v1/judge", json=body))[:2] == (409, "past_rewritten")
    assert error(client.post("/v1/judge", json={"plan": "a", **series(20, 0.0)}))[:2] == (409, "series_is_behind")
    bound = {"plan": "a", "revision": "v1", **series(40, 0.0)}
    assert client.post("/v1/judge", json=bound).json()["revision"] == "v1"
    assert error(client.post("/v1/judge", json=bound | {"revision": "v2"})) == (409, "other_revision", ["revision"])


def test_too_much_at_once_is_refused(tmp_path: Path, open_client: Open) -> None:
    settings = load_settings(financial_assets_home=tmp_path, judge_most_outcomes=100)
    client = open_client(open_installation(settings), clock=Clock())
    register(client, "a")
    client.app.state.clock.now = START + timedelta(days=500)
    assert client.post("/v1/judge", json={"plan": "a", **series(50, 0.0)}).status_code == 200
    answer = client.post("/v1/judge", json={"plan": "a", **series(51, 0.0)})
    assert error(answer) == (413, "too_many_outcomes", ["control"])
    assert error(client.post("/v1/judge", content=b" " * 1_000_001))[:2] == (413, "body_too_large")
    large = open_client(open_installation(load_settings(financial_assets_home=tmp_path)), clock=Clock())
    assert large.post("/v1/judge", content=b" " * 1_000_001).status_code == 422
    assert large.post("/v1/risk", content=b" " * 1_000_001).status_code == 413


def test_keys_judge_or_only_read(tmp_path: Path, open_client: Open) -> None:
    path = tmp_path / "keys.json"
    keys = {scope: add_key(path, scope, [scope]) for scope in ("judge", "verdicts", "signals")}  # type: ignore[list-item]
    settings = load_settings(financial_assets_home=tmp_path, api_keys_file=path)
    client = open_client(open_installation(settings), clock=Clock(), client=ELSEWHERE)
    calls: list[tuple[str, str, Any]] = [
        ("PUT", "/v1/judge/plans/a", PLAN),
        ("POST", "/v1/judge", {"plan": "a", **series(0, 0.0)}),
        ("POST", "/v1/judge", {"plan": "a"}),
        ("GET", "/v1/judge/plans/a/verdict", None),
        ("GET", "/v1/judge/plans/a", None),
        ("POST", "/v1/judge/flagger/rollout", {"name": "a", "namespace": "b", "phase": "c", "metadata": {"plan": "a"}}),
        ("GET", "/v1/judge/kayenta/canaryConfig", None),
    ]

    def statuses(scope: str) -> list[int]:
        headers = {"Authorization": f"Bearer {keys[scope]}"}
        return [client.request(method, path, json=body, headers=headers).status_code for method, path, body in calls]

    assert statuses("judge") == [201, *[200] * 6]
    assert statuses("verdicts") == [403, 403, *[200] * 5]
    assert statuses("signals") == [403] * 7
    assert client.get("/v1/judge/plans/a").status_code == 401
    for name, status in ((keys["verdicts"], 200), ("wrong", 401), ("", 401)):
        # A URL with a user and a password, as Flagger's webhooks have it.
        assert client.get("/v1/judge/plans/a/verdict", auth=("flagger", name)).status_code == status
    for broken in ("Basic", "Basic !", "Basic Zmx=", "Basic Zmxh"):
        assert client.get("/v1/judge/plans/a", headers={"Authorization": broken}).status_code == 401


def test_a_damaged_store_is_an_error_of_the_server(client: LocalClient, tmp_path: Path) -> None:
    judged(client, "a", 0.0, 5)
    (tmp_path / "judge" / "kept" / "a.json").write_text("{")
    assert error(client.get("/v1/judge/plans/a/verdict"))[:2] == (503, "unavailable")
    (tmp_path / "judge" / "plans.jsonl").write_text("?\n")
    assert error(client.get("/v1/judge/plans/a"))[:2] == (503, "unavailable")
    assert client.get("/healthz").status_code == 200
