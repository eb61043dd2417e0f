"""What Alertmanager answers, in order and out of order. The real one is asked in the integration tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from financial_assets.errors import AlertsError, MonitoringError
from financial_assets.monitoring.alerts import AlertmanagerClient
from financial_assets.redaction import conceal
from tests.monitoring.faulty_alertmanager import FaultyAlertmanager, faulty_alertmanager, row


@pytest.fixture
def alertmanager() -> Iterator[FaultyAlertmanager]:
    with faulty_alertmanager() as server:
        yield server


def test_active_alerts_only_are_asked_for_and_read(alertmanager: FaultyAlertmanager) -> None:
    alertmanager.answer([row()])
    (alert,) = AlertmanagerClient(alertmanager.url + "/").active()
    assert (alert.name, alert.model, alert.labels["experiment"]) == (
        "ModelAccuracyDegraded",
        "baseline-predictor-v1",
        "ab",
    )
    assert alert.starts_at == datetime(2026, 11, 19, 1, 56, 54, 123456, UTC)
    assert alert.fingerprint == "0000000000000001"
    (asked,) = alertmanager.asked
    assert urlsplit(asked).path == "/api/v2/alerts"
    assert parse_qs(urlsplit(asked).query) == {"active": ["true"], "silenced": ["false"], "inhibited": ["false"]}


def muted(number: int, *intervals: str) -> dict[str, Any]:
    """One alert as version 0.28 writes it."""
    return row(number, status={"inhibitedBy": [], "silencedBy": [], "mutedBy": list(intervals), "state": "active"})


def test_an_alert_that_a_time_interval_mutes_is_not_active(alertmanager: FaultyAlertmanager) -> None:
    alertmanager.answer([muted(1), muted(2, "nights", "weekends"), muted(3)])
    client = AlertmanagerClient(alertmanager.url)
    found = client.active()
    assert [int(alert.fingerprint) for alert in found] == [1, 3]
    assert client.unseen_mutes(found) is None
    assert len(alertmanager.asked) == 1  # it has told already: nothing more to ask
    alertmanager.answer([row(1, status={"mutedBy": "nights"})])
    with pytest.raises(AlertsError, match="mutedBy"):
        client.active()


@pytest.mark.parametrize(
    ("configuration", "doubts"),
    [
        ("route:\n  receiver: kept\n  routes:\n  - mute_time_intervals:\n    - nights\n", True),
        ("route:\n  receiver: kept\n  active_time_intervals:\n  - days\n", True),
        ("route:\n  receiver: kept\ntime_intervals:\n- name: nights\n", False),
        ("route:\n  receiver: kept\nmute_time_intervals:\n- name: nights\n", False),
    ],
)
def test_an_alertmanager_that_does_not_tell_mutes_is_doubted_where_it_has_some(
    alertmanager: FaultyAlertmanager, configuration: str, doubts: bool
) -> None:
    alertmanager.answer([row()])
    client = AlertmanagerClient(alertmanager.url)
    found = client.active()
    assert len(found) == 1
    alertmanager.answer({"versionInfo": {"version": "0.25.0"}, "config": {"original": configuration}})
    said = client.unseen_mutes(found)
    assert (said is not None) == doubts
    if doubts:
        assert "muted by a time interval counts as active" in str(said)
        assert "Alertmanager 0.25.0 does not tell" in str(said)
    alertmanager.status = 403
    assert "it answered 403" in str(client.unseen_mutes(found))  # not known, and said so
    assert client.unseen_mutes([]) is None


def test_a_password_is_sent_and_shown_nowhere(
    alertmanager: FaultyAlertmanager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    client = AlertmanagerClient(conceal(alertmanager.url.replace("//", "//someone:open%40sesame@")))
    assert client.active() == ()
    assert alertmanager.logins == [f"Basic {base64.b64encode(b'someone:open@sesame').decode()}"]
    assert "sesame" not in caplog.text + repr(client)


def test_a_route_prefix_is_kept(alertmanager: FaultyAlertmanager) -> None:
    AlertmanagerClient(f"{alertmanager.url}/alertmanager").active()
    assert urlsplit(alertmanager.asked[0]).path == "/alertmanager/api/v2/alerts"


def test_no_alert_is_an_answer(alertmanager: FaultyAlertmanager) -> None:
    assert AlertmanagerClient(alertmanager.url).active() == ()


def test_repeated_alerts_collapse_and_their_order_does_not_matter(alertmanager: FaultyAlertmanager) -> None:
    rows = [row(3), row(1), row(2), row(3), row(1)]
    alertmanager.answer(rows)
    found = AlertmanagerClient(alertmanager.url).active()
    assert [int(alert.fingerprint, 16) for alert in found] == [1, 2, 3]
    alertmanager.answer(rows[::-1])
    assert AlertmanagerClient(alertmanager.url).active() == found


def test_ten_thousand_alerts(alertmanager: FaultyAlertmanager) -> None:
    alertmanager.answer([row(number) for number in range(10_000)])
    assert len(AlertmanagerClient(alertmanager.url).active()) == 10_000


def test_alerts_without_model_or_name_are_alerts_all_the_same(alertmanager: FaultyAlertmanager) -> None:
    alertmanager.answer([row(1, labels={}), row(2, labels={"alertname": "ExporterDown"})])
    assert [(alert.name, alert.model) for alert in AlertmanagerClient(alertmanager.url).active()] == [
        ("", ""),
        ("ExporterDown", ""),
    ]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-19T03:56:54+02:00", datetime(2026, 11, 19, 1, 56, 54, tzinfo=UTC)),
        ("2999-01-01T00:00:00Z", datetime(2999, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
    ids=["another zone", "in the future", "the zero of Go"],
)
def test_instants_are_utc(alertmanager: FaultyAlertmanager, text: str, instant: datetime) -> None:
    alertmanager.answer([row(startsAt=text)])
    (alert,) = AlertmanagerClient(alertmanager.url).active()
    assert alert.starts_at == instant
    assert alert.starts_at.utcoffset() == timedelta(0)


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in row().items() if name != field}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<html>gateway timeout</html>",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b'{"status": "success", "data": []}',
        *(
            json.dumps(rows).encode()
            for rows in (
                [1],
                [None],
                [[]],
                [{}],
                [row(), without("labels")],
                [without("startsAt")],
                [without("fingerprint")],
                [row(labels=None)],
                [row(labels=[])],
                [row(labels={"alertname": 7})],
                [row(fingerprint="")],
                [row(fingerprint=None)],
                [row(startsAt="yesterday")],
                [row(startsAt="2026-11-19T01:56:54")],
                [row(startsAt=1_763_000_000)],
                [row(startsAt="0001-01-01T00:00:00+14:00")],
                [row(startsAt="2026-13-45T99:99:99Z")],
            )
        ),
    ],
)
def test_what_is_no_list_of_alerts_is_refused(alertmanager: FaultyAlertmanager, body: bytes) -> None:
    alertmanager.body = body
    with pytest.raises(AlertsError, match=r"ALERTMANAGER_URL") as caught:
        AlertmanagerClient(alertmanager.url).active()
    assert alertmanager.url in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert isinstance(caught.value, MonitoringError)


@pytest.mark.parametrize("status", [204, 302, 400, 401, 404, 500, 503])
def test_another_status_is_no_answer(alertmanager: FaultyAlertmanager, status: int) -> None:
    alertmanager.status, alertmanager.body = status, b""
    with pytest.raises(AlertsError, match=rf"it answered {status}.*ALERTMANAGER_URL"):
        AlertmanagerClient(alertmanager.url).active()


def test_a_server_that_is_down_is_named(alertmanager: FaultyAlertmanager) -> None:
    url = alertmanager.url
    alertmanager.socket.close()
    with pytest.raises(AlertsError, match=rf"{url}.*ALERTMANAGER_URL"):
        AlertmanagerClient(url).active()


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:99999"])
def test_a_url_that_leads_nowhere_is_named(url: str) -> None:
    with pytest.raises(AlertsError, match="ALERTMANAGER_URL"):
        AlertmanagerClient(url, timeout_s=2).active()


def test_a_server_that_hangs_is_given_up(alertmanager: FaultyAlertmanager) -> None:
    alertmanager.drips, alertmanager.body = True, b" " * 10_000
    with pytest.raises(AlertsError, match=r"within 0\.3 s.*ALERTMANAGER_URL"):
        AlertmanagerClient(alertmanager.url, timeout_s=0.3).active()


def test_a_server_that_says_nothing_is_given_up(alertmanager: FaultyAlertmanager) -> None:
    alertmanager.says_nothing = True
    with pytest.raises(AlertsError, match=r"no answer within 0\.2 s"):
        AlertmanagerClient(alertmanager.url, timeout_s=0.2).active()


def test_an_endless_answer_is_cut_off(alertmanager: FaultyAlertmanager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("financial_assets.monitoring.own_service._MOST_BYTES", 1000)
    alertmanager.answer([row(number) for number in range(10)])
    with pytest.raises(AlertsError, match="longer than 1,000 bytes"):
        AlertmanagerClient(alertmanager.url).active()


def test_no_proxy_of_the_shell_comes_between(alertmanager: FaultyAlertmanager, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert AlertmanagerClient(alertmanager.url).active() == ()
