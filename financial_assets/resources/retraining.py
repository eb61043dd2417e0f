"""Retraining: where alerts are read, and when the sensors may request a retraining."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from financial_assets.monitoring.alerts import AlertmanagerClient
from financial_assets.monitoring.retraining import RetrainingPolicy


class Retraining(dg.ConfigurableResource):
    """Where alerts are read, and when the sensors may ask for a retraining."""

    alertmanager_url: str | None
    retrain_cooldown_hours: float
    retrain_max_attempts: int
    variants: list[str]

    def alertmanager(self) -> AlertmanagerClient | None:
        """The Alertmanager, ``None`` where none is configured."""
        return None if self.alertmanager_url is None else AlertmanagerClient(self.alertmanager_url)

    def policy(self) -> RetrainingPolicy:
        """How eager the sensors are."""
        return RetrainingPolicy(
            timedelta(hours=self.retrain_cooldown_hours), self.retrain_max_attempts, frozenset(self.variants)
        )
