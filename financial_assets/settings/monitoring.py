"""Where metrics are read."""

from __future__ import annotations

from pydantic import Field

from financial_assets.settings.base import HttpAddress, SettingsGroup


class MonitoringSettings(SettingsGroup):
    """The Prometheus that has the metrics."""

    prometheus_url: HttpAddress | None = Field(default=None, repr=False)
    """Base URL of the Prometheus that ``financial-assets dashboard`` asks, e.g. ``http://127.0.0.1:9090``; default: the
    one that ``financial-assets serve --with-monitoring`` has started for this state folder."""
