"""When a degraded model is retrained without being asked."""

from __future__ import annotations

from pydantic import Field, field_validator

from financial_assets.settings.base import SettingsGroup, check_scheme, check_server

__all__ = ["RetrainingSettings"]


class RetrainingSettings(SettingsGroup):
    """Alerts, sensors and their limits."""

    alertmanager_url: str | None = Field(default=None, repr=False)
    """Alertmanager's base URL, e.g. http://127.0.0.1:9093; unset: no alerts are read."""

    retrain_cooldown_hours: float = Field(default=168.0, ge=0, le=8760)
    """Hours since the last retraining, whatever its cause, before another may start."""

    retrain_max_attempts: int = Field(default=2, ge=1, le=10)
    """How many attempts an incident gets, failed and cancelled runs included."""

    sensor_interval: int = Field(default=60, ge=5, le=86400)
    """Seconds between two looks of a sensor."""

    @field_validator("alertmanager_url")
    @classmethod
    def _check_alertmanager(cls, value: str | None) -> str | None:
        return None if check_scheme(value, ("http", "https")) is None else check_server(str(value))
