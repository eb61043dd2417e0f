"""Alertmanager's configuration: its receivers are the channels of the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

import jinja2

from financial_assets.monitoring.notifications import MailServer


@dataclass(frozen=True)
class Receivers:
    """Where Alertmanager sends alerts; nowhere by default: they are then kept for the sensors and for whoever looks.

    Attributes
    ----------
    webhook, slack
        Addresses with their secrets.
    mail
        Mail server with its password; needed by ``recipients``.
    sender, recipients
        Mail addresses, of recipients several with commas between them.
    """

    webhook: str | None = field(default=None, repr=False)
    slack: str | None = field(default=None, repr=False)
    mail: MailServer | None = field(default=None, repr=False)
    sender: str = ""
    recipients: str = ""

    def render(self, template: str) -> str:
        """``alertmanager.yml`` from its template; holds passwords."""
        return jinja2.Template(template, undefined=jinja2.StrictUndefined).render(
            webhook=self.webhook,
            slack=self.slack,
            mail=self.mail,
            sender=self.sender,
            recipients=self.recipients,
        )
