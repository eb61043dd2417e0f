"""The experiment: its log, its policy, its replay."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from financial_assets.settings.base import LocalPath, SettingsGroup, check_database, has_scheme

_LogAddress = Annotated[str, has_scheme("sqlite", "postgresql"), AfterValidator(check_database)]


class ExperimentSettings(SettingsGroup):
    """Prediction log, rollout policy and replay."""

    prediction_log_url: _LogAddress | None = Field(default=None, repr=False)
    """Database of the prediction log, e.g. ``postgresql://user:password@host/database`` (the installed driver is
    found); default: SQLite in ``FINANCIAL_ASSETS_HOME``."""

    rollout_policy: LocalPath | None = None
    """YAML file with champion, challengers, their weights at the experiment's start, and all rules of the test;
    default: the packaged ``financial_assets/experiment/plan/policy.yaml``."""

    signing_key: LocalPath | None = None
    """File of a secret key without a password, as ``financial-assets signing-key`` or ``minisign -G -W`` makes it (mode
    0600): decisions, approvals and weights are signed with it when they are recorded; unset: they are not."""

    model_owner: str | None = None
    """Who answers for the models, as their model-risk documents name it; unset: they say that nobody is named."""

    replay_sessions: int = Field(default=500, ge=0)
    """Sessions that ``full_pipeline`` replays through the gateway; the rest is left to ``daily``; 0: all."""

    replay_workers: int = Field(default=4, ge=1, le=64)
    """Requests that a replay has in flight at most."""

    routed_per_session: int = Field(default=50, ge=0)
    """Tickers of a session that are sent as routed requests: of a larger universe a sample, drawn by ``SEED``; 0: all.
    Pairs, by which skill is judged, are always of all tickers."""

    cost_bps: float = Field(default=5.0, ge=0, le=1000)
    """Trading cost per side, in basis points of the traded notional."""
