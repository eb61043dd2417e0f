"""The experiment: its log, its policy, its replay."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from financial_assets.settings.base import SettingsGroup

__all__ = ["ExperimentSettings"]


class ExperimentSettings(SettingsGroup):
    """Prediction log, rollout policy and replay."""

    prediction_log_url: str | None = None
    """SQLAlchemy URL of the prediction log; default: SQLite in ``FINANCIAL_ASSETS_HOME``."""

    rollout_policy: Path | None = None
    """YAML file of arms and weights; default: the packaged ``financial_assets/experiment/policy.yaml``."""

    replay_sessions: int = Field(default=500, ge=0)
    """Sessions that ``full_pipeline`` replays through the gateway, the rest is left to ``daily``; 0: all."""

    replay_workers: int = Field(default=4, ge=1, le=64)
    """Concurrent requests of a replay."""

    cost_bps: float = Field(default=5.0, ge=0, le=1000)
    """Trading cost a side, in basis points of the traded notional."""
