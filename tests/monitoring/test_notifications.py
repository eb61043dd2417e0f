"""What people are sent, through which channel, and that no secret goes with it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from financial_assets.errors import NotificationError, SettingsError
from financial_assets.monitoring import local
from financial_assets.monitoring.notifications import Email, MailServer, Notification, Slack, Webhook, as_text
from financial_assets.monitoring.receivers import Receivers
from financial_assets.redaction import conceal, conceal_path, redact, reveal
from financial_assets.resources import make_resources
from financial_assets.settings import load_settings
from tests.monitoring.listeners import Chat, Mailbox, listening

NEWS = [Notification("failed: job daily", "raw_prices: the source is gone", link="http://dagster/runs/1")]
RECEIVERS = Receivers(
    webhook="https://pager.example.com/in?key=one",
    slack="https://hooks.slack.example/services/T/B/two",
    mail=MailServer.of("smtp://desk:three@mail.example.com"),
    sender="models@example.com",
    recipients="desk@example.com,oncall@example.com",
)


def template() -> str:
    return (local.configuration_folder() / "alertmanager.yml.j2").read_text()


def test_a_webhook_gets_json() -> None:
    with listening(Chat()) as chat:
        Webhook(chat.url + "/in").send(NEWS)
    assert chat.received == [
        (
            "/in",
            {
                "title": "failed: job daily",
                "notifications": [
                    {
                        "title": "failed: job daily",
                        "text": "raw_prices: the source is gone",
                        "resolved": False,
                        "link": "http://dagster/runs/1",
                    }
                ],
            },
        )
    ]


def test_a_chat_gets_one_text() -> None:
    with listening(Chat()) as chat:
        Slack(chat.url + "/services/x").send([*NEWS, Notification("passes again: fresh of raw_prices", "")])
    [(_, content)] = chat.received
    assert content == {
        "text": "failed: job daily\nraw_prices: the source is gone\nhttp://dagster/runs/1\n\n"
        "passes again: fresh of raw_prices"
    }


def test_a_mail_is_sent_to_everybody() -> None:
    with listening(Mailbox()) as server:
        Email(f"smtp://{server.address}", "models@example.com", ("desk@example.com", "risk@example.com")).send(NEWS)
    [mail] = server.mails
    assert "Subject: failed: job daily" in mail
    assert "To: desk@example.com, risk@example.com" in mail
    assert "the source is gone" in mail
    assert sum(line.startswith("rcpt TO:") for line in server.commands) == 2


def test_a_password_is_not_sent_without_tls() -> None:
    with listening(Mailbox()) as server, pytest.raises(NotificationError, match="SMTP_URL"):
        Email(conceal(f"smtp://desk:OpenSesame9@{server.address}"), "models@example.com", ("a@example.com",)).send(NEWS)
    assert not server.mails
    assert not any("auth" in command.lower() for command in server.commands)


@pytest.mark.parametrize("status", [301, 404, 500])
def test_an_answer_that_is_no_success_is_an_error_without_the_secret(status: int) -> None:
    with listening(Chat()) as chat:
        chat.status = status
        url = conceal_path(chat.url + "/services/T000/SuperSecretPath")
        with pytest.raises(NotificationError, match="NOTIFY_SLACK_URL") as caught:
            Slack(url).send(NEWS)
    assert str(status) in str(caught.value)
    assert "SuperSecretPath" not in str(caught.value)


def test_nobody_listens() -> None:
    with listening(Chat()) as chat:
        url = chat.url
    with pytest.raises(NotificationError, match="was not reached"):
        Webhook(url).send(NEWS)
    with pytest.raises(NotificationError, match="no mail was sent"):
        Email(url.replace("http", "smtp"), "models@example.com", ("a@example.com",)).send(NEWS)


def test_what_is_sent_holds_no_password_and_is_short_enough_to_be_read() -> None:
    conceal("postgresql://u:correcthorse@h/d")
    loud = Notification("failed: correcthorse", "no login with correcthorse; " + "more words " * 500)
    text = as_text([loud] * 12)
    assert "correcthorse" not in text
    assert len(text) < 20_000
    assert "and 2 more:" in text


def test_the_path_of_a_webhook_is_its_secret(tmp_path: Path) -> None:
    one = "https://hooks.slack.com/services/T0/B0/aVeryLongSecretPart"
    other = "https://hooks.slack.com/services/T0/B0/anotherVeryLongOne"
    settings = load_settings(financial_assets_home=tmp_path, notify_slack_url=one, notify_webhook_url=other)
    resource = make_resources(settings)["notifications"]
    shown = json.dumps(dict(resource))
    assert "aVeryLongSecretPart" not in shown
    assert "anotherVeryLongOne" not in shown
    assert "aVeryLongSecretPart" not in repr(settings)
    assert redact(f"POST {one} failed: /services/T0/B0/aVeryLongSecretPart") != redact(f"POST {other} failed")
    assert "aVeryLongSecretPart" not in redact(f"POST {one}; path /services/T0/B0/aVeryLongSecretPart")
    channels = resource.channels()
    assert [reveal(channels[name].url) for name in ("slack", "webhook")] == [one, other]


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("notify_webhook_url", "ftp://host/secretpart", "must start with"),
        ("notify_slack_url", "https:///secretpart", "names no host"),
        ("notify_email_to", "desk", "no mail address"),
        ("notify_email_to", "desk@example.com", "SMTP_URL: not set"),
        ("smtp_url", "smtp://user:secretpart@host:0", "names no host, or a port"),
    ],
)
def test_a_malformed_channel_is_refused_before_anything_runs(setting: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings(**{setting: value})
    assert "secretpart" not in str(caught.value)


def test_alerts_are_kept_where_nobody_is_named() -> None:
    content = yaml.safe_load(Receivers().render(template()))
    assert content["receivers"] == [{"name": "people"}]


def test_alerts_go_where_the_settings_say() -> None:
    content = yaml.safe_load(RECEIVERS.render(template()))
    [receiver] = content["receivers"]
    assert receiver["webhook_configs"][0]["url"] == RECEIVERS.webhook
    assert receiver["slack_configs"][0]["api_url"] == RECEIVERS.slack
    mail = receiver["email_configs"][0]
    assert (mail["smarthost"], mail["to"]) == ("mail.example.com:587", "desk@example.com,oncall@example.com")
    assert (mail["auth_username"], mail["auth_password"], mail["require_tls"]) == ("desk", "three", True)
    assert "three" not in repr(RECEIVERS)


@pytest.mark.parametrize("receivers", [Receivers(), RECEIVERS], ids=["nobody", "everybody"])
def test_alertmanager_takes_the_configuration(tmp_path: Path, receivers: Receivers) -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        pytest.skip("no amtool: install the Debian package prometheus-alertmanager")
    path = tmp_path / "alertmanager.yml"
    path.write_text(receivers.render(template()))
    done = subprocess.run([amtool, "check-config", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_inhibition_names_alerts_that_exist() -> None:
    rules: list[dict[str, Any]] = yaml.safe_load((local.configuration_folder() / "rules.yml").read_text())["groups"][0][
        "rules"
    ]
    known = {rule["alert"] for rule in rules}
    for inhibition in yaml.safe_load(Receivers().render(template()))["inhibit_rules"]:
        for matcher in (*inhibition["source_matchers"], *inhibition["target_matchers"]):
            assert set(matcher.split('"')[1].split("|")) <= known
