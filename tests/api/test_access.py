"""Keys, scopes, limits, and who is answered without keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.api import keys as keys_module
from financial_assets.api.access import is_loopback
from financial_assets.api.keys import KeyRing, add_key, read_keys
from financial_assets.api.limits import RateLimit
from financial_assets.errors import SettingsError
from financial_assets.installation import open_installation
from financial_assets.settings import load_settings
from tests.api.local_client import LocalClient

Open = Callable[..., LocalClient]
ELSEWHERE = ("10.1.2.3", 40000)
PATHS = {
    "signals": ("GET", "/v1/signals"),
    "risk": ("POST", "/v1/risk"),
    "portfolio": ("POST", "/v1/portfolio"),
    "records": ("GET", "/v1/models"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def guarded(home: Path, path: Path, open_client: Open) -> Callable[..., LocalClient]:
    """A client, from elsewhere, of an application with keys."""

    def make(**settings: int) -> LocalClient:
        found = load_settings(financial_assets_home=home, api_keys_file=path, **settings)
        return open_client(open_installation(found), client=ELSEWHERE)

    return make


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def code(answer: object) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]  # type: ignore[attr-defined]


def test_a_key_opens_its_scopes_and_no_other(guarded: Callable[..., LocalClient], path: Path) -> None:
    made = {scope: add_key(path, f"only-{scope}", [scope]) for scope in PATHS}  # type: ignore[list-item]
    client = guarded()
    for scope, key in made.items():
        for needed, (method, where) in PATHS.items():
            answer = client.request(method, where, headers=bearer(key), json={} if method == "POST" else None)
            if needed == scope:
                assert answer.status_code in (200, 422), answer.text  # an empty question is understood as one
            else:
                assert code(answer) == (403, "wrong_scope")
                assert needed in answer.json()["error"]["message"]


def test_both_headers_are_taken_and_nothing_else(guarded: Callable[..., LocalClient], path: Path) -> None:
    key = add_key(path, "pm", ["signals"])
    client = guarded()
    assert client.get("/v1/signals", headers=bearer(key)).status_code == 200
    assert client.get("/v1/signals", headers={"X-API-Key": key}).status_code == 200
    assert code(client.get("/v1/signals")) == (401, "no_key")
    assert code(client.get(f"/v1/signals?api_key={key}")) == (401, "no_key")
    for wrong in (key[:-1], key + "x", key.upper(), "", "ü", "x" * 10_000):
        answer = client.get("/v1/signals", headers={b"X-API-Key": wrong.encode("utf-8")})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/signals", headers={"Authorization": f"Basic {key}"}).status_code == 401


def test_every_route_is_closed_without_a_key_before_its_body_is_read(
    guarded: Callable[..., LocalClient], path: Path
) -> None:
    add_key(path, "pm", ["signals"])
    client = guarded()
    documented = [
        (method.upper(), where.replace("{ticker}", "AAA"))
        for where, methods in client.get("/openapi.json").json()["paths"].items()
        for method in methods
        if where.startswith("/v1/")
    ]
    assert {*PATHS.values(), ("GET", "/v1/signals/AAA"), ("GET", "/v1/universe")} <= set(documented)
    for method, where in documented:
        answer = client.request(method, where, content=b"{" if method == "POST" else None)
        assert code(answer) == (401, "no_key"), where


def test_probes_metrics_and_the_page_need_no_key(guarded: Callable[..., LocalClient], path: Path) -> None:
    add_key(path, "pm", ["signals"])
    client = guarded()
    for where in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
        assert client.get(where).status_code == 200
    assert client.get("/readyz").json()["authentication"] == "API keys"


def test_a_key_is_kept_as_a_hash_and_nowhere_else(path: Path) -> None:
    key = add_key(path, "pm", ["signals", "risk"], requests_per_minute=5, expires=date(2999, 1, 1))
    text = path.read_text()
    assert key not in text
    (kept,) = read_keys(path)
    assert kept.sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert (kept.scopes, kept.requests_per_minute, kept.expires) == (("signals", "risk"), 5, date(2999, 1, 1))
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(key) >= 40
    other = add_key(path, "pm", ["risk"])  # replaces it
    assert [one.name for one in read_keys(path)] == ["pm"]
    assert KeyRing(path).find(key) is None
    assert KeyRing(path).find(other) is not None


def test_every_key_is_compared_whichever_fits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of an answer must not say how far a search came."""
    made = [add_key(path, f"k{number}", ["signals"]) for number in range(5)]
    ring = KeyRing(path)
    compared: list[str] = []

    def compare(one: str, other: str) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(keys_module.hmac, "compare_digest", compare)
    for secret in (made[0], made[4], "unknown"):
        compared.clear()
        ring.find(secret)
        assert len(compared) == 5


def test_an_expired_key_is_not_taken(path: Path) -> None:
    today = datetime.now(UTC).date()
    last, gone = (add_key(path, f"k{n}", ["risk"], expires=today - timedelta(days=n)) for n in (0, 1))
    ring = KeyRing(path)
    assert ring.find(last) is not None or datetime.now(UTC).date() > today
    assert ring.find(gone) is None


def test_a_key_that_is_taken_away_is_refused_without_a_restart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "_LOOK_S", 0.0)
    key, other = add_key(path, "pm", ["signals"]), add_key(path, "risk", ["risk"])
    ring = KeyRing(path)
    assert ring.find(key) is not None
    content = json.loads(path.read_text())
    content["keys"] = [one for one in content["keys"] if one["name"] != "pm"]
    path.write_text(json.dumps(content))
    assert ring.find(key) is None
    assert ring.find(other) is not None


def test_a_file_that_is_damaged_later_lets_nobody_in(
    guarded: Callable[..., LocalClient], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "_LOOK_S", 0.0)
    key = add_key(path, "pm", ["signals"])
    client = guarded()
    assert client.get("/v1/signals", headers=bearer(key)).status_code == 200
    path.write_text("{")
    for _ in range(2):  # not only at the first look
        assert code(client.get("/v1/signals", headers=bearer(key))) == (503, "keys_unreadable")
    path.unlink()
    assert code(client.get("/v1/signals", headers=bearer(key))) == (503, "keys_unreadable")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"keys": [{"name": "a", "sha256": "abc", "scopes": ["signals"]}]}',
        '{"keys": [{"name": "a b", "sha256": "' + "0" * 64 + '", "scopes": ["signals"]}]}',
        '{"keys": [{"name": "a", "sha256": "' + "0" * 64 + '", "scopes": []}]}',
        '{"keys": [{"name": "a", "sha256": "' + "0" * 64 + '", "scopes": ["everything"]}]}',
        '{"keys": [' + ", ".join(['{"name": "a", "sha256": "' + "0" * 64 + '", "scopes": ["risk"]}'] * 2) + "]}",
    ],
)
def test_a_file_that_is_not_one_of_keys_is_refused(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(SettingsError, match="API_KEYS_FILE"):
        KeyRing(path)


def test_without_keys_this_machine_alone_is_answered(home: Path, open_client: Open) -> None:
    installation = open_installation(load_settings(financial_assets_home=home))
    assert code(open_client(installation, client=ELSEWHERE).get("/v1/signals")) == (403, "only_this_machine")
    near = open_client(installation)
    assert near.get("/v1/signals").status_code == 200
    assert near.get("/readyz").json()["authentication"] == "this machine only"
    # A page that resolves its own name to this machine (DNS rebinding) is told by the name.
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8600", ""):
        assert code(near.get("/v1/signals", headers={"Host": host})) == (403, "only_this_machine")
    for host in ("localhost:8600", "127.0.0.1", "[::1]:8600"):
        assert near.get("/v1/signals", headers={"Host": host}).status_code == 200


def test_addresses_of_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.9.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "")))


def test_too_many_requests_are_told_when_to_come_again(guarded: Callable[..., LocalClient], path: Path) -> None:
    quick, slow = add_key(path, "quick", ["signals"]), add_key(path, "slow", ["signals"], requests_per_minute=1)
    client = guarded(api_requests_per_minute=60, api_burst=3)
    for _ in range(3):
        assert client.get("/v1/signals", headers=bearer(quick)).status_code == 200
    answers = [client.get("/v1/signals", headers=bearer(quick)) for _ in range(3)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused  # a second gives one request back, however slow this machine is
    assert refused[0].json()["error"]["code"] == "rate_limited"
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60
    # Keys do not share a bucket, and one may have a limit of its own.
    assert client.get("/v1/signals", headers=bearer(slow)).status_code == 200
    assert client.get("/v1/signals", headers=bearer(slow)).status_code == 429
    assert 'reason="rate"' in client.get("/metrics").text


def test_guessing_keys_is_limited(guarded: Callable[..., LocalClient], path: Path) -> None:
    key = add_key(path, "pm", ["signals"])
    client = guarded(api_requests_per_minute=1, api_burst=5)
    statuses = [client.get("/v1/signals", headers=bearer(f"guess{n}")).status_code for n in range(8)]
    assert statuses[:5] == [401] * 5
    assert statuses[-1] == 429
    assert client.get("/v1/signals", headers=bearer(key)).status_code == 200  # who knows a key is not locked out


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.integers(1, 1000), st.integers(1, 20))
def test_no_span_of_time_has_more_requests_than_the_bucket_gives(
    pauses: list[float], per_minute: int, burst: int
) -> None:
    now = 0.0
    limit = RateLimit(per_minute, burst, clock=lambda: now)
    admitted: list[float] = []
    for pause in pauses:
        now += pause
        wait = limit.take("caller")
        if wait == 0:
            admitted.append(now)
        else:
            assert 0 < wait <= 60 / per_minute + 1e-9
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            span = admitted[last] - admitted[first]
            assert last - first + 1 <= burst + span * per_minute / 60 + 1e-6


def test_whoever_waits_as_long_as_told_is_answered() -> None:
    now = 0.0
    limit = RateLimit(60, 2, clock=lambda: now)
    assert [limit.take("a"), limit.take("a")] == [0, 0]
    now += limit.take("a") + 1e-9
    assert limit.take("a") == 0


def test_inventing_callers_uses_no_more_memory() -> None:
    limit = RateLimit(60, 2)
    for number in range(30_000):
        limit.take(f"caller {number}")
    assert len(limit._buckets) <= 10_000
