"""Notifications to people: what is said, and the channels that carry it.

A channel delivers or raises. Who calls keeps what was not delivered and tries again: a notification must not be lost
because a mail server was restarted.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from typing import Protocol
from urllib.parse import unquote, urlsplit

import httpx

from financial_assets.errors import NotificationError
from financial_assets.redaction import harmless, redact, reveal

TIMEOUT_S = 10.0
"""Longest wait for a chat, webhook or mail server."""

_MOST_SHOWN = 10
"""Notifications that one message spells out: after a bad night a chat must stay readable."""
_LONGEST_TEXT = 1500
_SMTP_PORT, _SMTPS_PORT = 587, 465


@dataclass(frozen=True)
class Notification:
    """One thing that somebody should know.

    Attributes
    ----------
    title
        One line: what happened, to what.
    text
        Why, and the way on.
    resolved
        Whether it tells of the end of an earlier one.
    link
        Where to look; ``None`` where there is no page.
    """

    title: str
    text: str
    resolved: bool = False
    link: str | None = None


class Channel(Protocol):
    """A way to reach people."""

    @property
    def setting(self) -> str:
        """Environment variable that configures it."""
        ...

    def send(self, notifications: Sequence[Notification]) -> None:
        """Deliver all of them in one message.

        Raises
        ------
        NotificationError
            They were not, or may not have been, delivered.
        """
        ...


@dataclass(frozen=True)
class Webhook:
    """A service that takes JSON: ``{"title", "notifications": [{"title", "text", "resolved", "link"}]}``.

    Attributes
    ----------
    url
        Address, as ``redaction.conceal`` shows it.
    """

    url: str
    setting: str = "NOTIFY_WEBHOOK_URL"

    def send(self, notifications: Sequence[Notification]) -> None:
        """See ``Channel``."""
        content = {"title": headline(notifications), "notifications": [asdict(_clean(each)) for each in notifications]}
        _post(self.url, content, self.setting)


@dataclass(frozen=True)
class Slack:
    """An incoming webhook of Slack, or of a chat that takes the same JSON.

    Attributes
    ----------
    url
        Address, as ``redaction.conceal`` shows it.
    """

    url: str
    setting: str = "NOTIFY_SLACK_URL"

    def send(self, notifications: Sequence[Notification]) -> None:
        """See ``Channel``."""
        _post(self.url, {"text": as_text(notifications)}, self.setting)


@dataclass(frozen=True)
class Email:
    """A mail to one or several people.

    Attributes
    ----------
    server
        ``smtp://`` or ``smtps://`` address, as ``redaction.conceal`` shows it.
    sender, recipients
        Mail addresses.
    """

    server: str
    sender: str
    recipients: tuple[str, ...]
    setting: str = "SMTP_URL"

    def send(self, notifications: Sequence[Notification]) -> None:
        """See ``Channel``."""
        message = EmailMessage()
        message["Subject"] = headline(notifications)
        message["From"], message["To"] = self.sender, ", ".join(self.recipients)
        message.set_content(as_text(notifications))
        server = MailServer.of(reveal(self.server))
        try:
            with server.connect() as connection:
                connection.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            raise NotificationError(
                f"no mail was sent by {server.host}:{server.port}: {error}. Check {self.setting} and NOTIFY_EMAIL_TO"
            ) from harmless(error)


@dataclass(frozen=True)
class MailServer:
    """What an address of a mail server says."""

    host: str
    port: int
    is_tls: bool
    user: str
    password: str

    @classmethod
    def of(cls, url: str) -> MailServer:
        """Read ``smtp://user:password@host:port``; the port is 587, that of ``smtps://`` 465, unless given."""
        parts = urlsplit(url)
        is_tls = parts.scheme == "smtps"
        port = parts.port or (_SMTPS_PORT if is_tls else _SMTP_PORT)
        user, password = (unquote(part or "") for part in (parts.username, parts.password))
        return cls(parts.hostname or "", port, is_tls, user, password)

    def connect(self) -> smtplib.SMTP:
        """A connection that is logged in; a password is only ever sent over TLS."""
        context = ssl.create_default_context()
        if self.is_tls:
            connection: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT_S, context=context)
        else:
            connection = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_S)
        try:
            if self.user:
                if not self.is_tls:
                    connection.starttls(context=context)
                connection.login(self.user, self.password)
        except BaseException:
            connection.close()
            raise
        return connection


def headline(notifications: Sequence[Notification]) -> str:
    """One line over all of them."""
    first = redact(notifications[0].title)
    return first if len(notifications) == 1 else f"{first}, and {len(notifications) - 1} more"


def as_text(notifications: Sequence[Notification]) -> str:
    """All of them as plain text, the first ten spelled out."""
    parts: list[str] = []
    for each in map(_clean, notifications[:_MOST_SHOWN]):
        parts.append("\n".join(part for part in (each.title, each.text, each.link) if part))
    further = notifications[_MOST_SHOWN:]
    if further:
        parts.append("\n".join([f"and {len(further)} more:", *(f"- {redact(each.title)}" for each in further)]))
    return "\n\n".join(parts)


def _clean(notification: Notification) -> Notification:
    """Without passwords, and short enough to be read."""
    text = redact(notification.text)
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT].rstrip() + " ... (the rest stands in the browser)"
    return Notification(redact(notification.title), text, notification.resolved, notification.link)


def _post(url: str, content: Mapping[str, object], setting: str) -> None:
    host = urlsplit(url).netloc
    try:
        answer = httpx.post(reveal(url), json=content, timeout=TIMEOUT_S, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotificationError(
            f"{host} was not reached: {error or type(error).__name__}. Check {setting}"
        ) from harmless(error)
    if not answer.is_success:
        said = redact(answer.text[:200].strip()) or "nothing"
        raise NotificationError(f"{host} answered {answer.status_code}: {said}. Check {setting}")
