"""When the sensors may ask for a retraining."""

from __future__ import annotations

import dagster as dg

__all__ = ["Retraining"]


class Retraining(dg.ConfigurableResource):
    """When the sensors may ask for a retraining."""

    alertmanager_url: str | None
    cooldown_hours: float
    max_attempts: int
    sensor_interval_s: int
