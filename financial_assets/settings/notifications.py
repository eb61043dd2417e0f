"""Who is told when a run or a check fails, or an alert fires."""

from __future__ import annotations

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from financial_assets.settings.base import SettingsGroup, has_scheme

_MAILBOX = re.compile(r"[^@\s<>,]+@[^@\s<>,]+")


def _check_host(value: str) -> str:
    parts = urlsplit(value)
    try:
        is_whole = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole = False
    if not is_whole or len(value.split()) > 1:
        raise ValueError("names no host, or a port that is not a number from 1 to 65535")
    return value


def _check_mailboxes(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    wrong = [name for name in names if not _MAILBOX.fullmatch(name)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no mail address; give name@example.com, several with commas between them")
    return ",".join(names)


Webhook = Annotated[str, has_scheme("http", "https"), AfterValidator(_check_host)]
"""An address whose path and query may be the secret."""


class NotificationSettings(SettingsGroup):
    """Channels of notifications: each one that is set gets failed runs, failed checks and alerts."""

    notify_webhook_url: Webhook | None = Field(default=None, repr=False)
    """Gets each notification as JSON (POST), and alerts as Alertmanager writes them; unset: none is sent there."""

    notify_slack_url: Webhook | None = Field(default=None, repr=False)
    """Incoming webhook of Slack, or of a chat that takes the same JSON, such as Mattermost; unset: none is sent
    there."""

    notify_email_to: Annotated[str, AfterValidator(_check_mailboxes)] | None = None
    """Mail addresses, with commas between them; needs ``SMTP_URL``; unset: no mail is sent."""

    notify_email_from: Annotated[str, AfterValidator(_check_mailboxes)] | None = None
    """Sender of the mails; default: the first of ``NOTIFY_EMAIL_TO``."""

    smtp_url: Annotated[str, has_scheme("smtp", "smtps"), AfterValidator(_check_host)] | None = Field(
        default=None, repr=False
    )
    """Mail server, e.g. ``smtp://user:password@mail.example.com:587``: with a password the connection must turn to TLS
    (STARTTLS); ``smtps://`` speaks TLS from the first byte."""

    @model_validator(mode="after")
    def _check_mail_server(self) -> Self:
        if self.notify_email_to and not self.smtp_url:
            raise ValueError("SMTP_URL: not set; NOTIFY_EMAIL_TO needs the mail server that sends")
        return self
