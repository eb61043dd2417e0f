"""When a degraded model is retrained without being asked."""

from __future__ import annotations

from pydantic import Field

from financial_assets.settings.base import HttpAddress, SettingsGroup


class RetrainingSettings(SettingsGroup):
    """Alerts, sensors and their limits."""

    alertmanager_url: HttpAddress | None = Field(default=None, repr=False)
    """Alertmanager's base URL, which ``retrain_on_alert`` reads, e.g. ``http://127.0.0.1:9093``; unset: no alerts are
    read."""

    retrain_cooldown_hours: float = Field(default=168.0, ge=0, le=8760)
    """Hours from the end of a retraining to the next request, whatever the incident; a killed retraining does not
    count."""

    retrain_max_attempts: int = Field(default=2, ge=1, le=10)
    """Attempts per incident, failed and cancelled runs included."""

    sensor_interval: int = Field(default=60, ge=5, le=86400)
    """Seconds between two evaluations of a sensor."""
