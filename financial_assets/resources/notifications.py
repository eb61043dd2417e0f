"""Notifications: the channels that the settings name."""

from __future__ import annotations

import dagster as dg

from financial_assets.monitoring.notifications import Channel, Email, Slack, Webhook


class Notifications(dg.ConfigurableResource):
    """Who is told of failed runs and failed checks."""

    notify_webhook_url: str | None
    notify_slack_url: str | None
    notify_email_to: str | None
    notify_email_from: str | None
    smtp_url: str | None
    dagster_ui_url: str | None

    def channels(self) -> dict[str, Channel]:
        """The configured ones by name: ``webhook``, ``slack``, ``email``."""
        found: dict[str, Channel] = {}
        if self.notify_webhook_url:
            found["webhook"] = Webhook(self.notify_webhook_url)
        if self.notify_slack_url:
            found["slack"] = Slack(self.notify_slack_url)
        if self.notify_email_to and self.smtp_url:
            recipients = tuple(self.notify_email_to.split(","))
            found["email"] = Email(self.smtp_url, self.notify_email_from or recipients[0], recipients)
        return found
