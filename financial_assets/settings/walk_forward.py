"""How models are judged fold by fold on the past."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from financial_assets.settings.base import SettingsGroup


class WalkForwardSettings(SettingsGroup):
    """Folds of the walk-forward; the last one ends at the data cut-off."""

    walk_forward_splits: int = Field(default=5, ge=1, le=200)
    """Folds."""

    walk_forward_gap: int = Field(default=5, ge=0, le=250)
    """Sessions between the end of a fold's training and its first test session, on top of the purged labels."""

    walk_forward_test_sessions: int = Field(default=30, ge=1, le=1000)
    """Decision sessions on which each fold is judged."""

    walk_forward_window: Literal["expanding", "rolling"] = "expanding"
    """Whether training begins at the first session, or has ``WALK_FORWARD_WINDOW_SESSIONS`` of them."""

    walk_forward_window_sessions: int = Field(default=1000, ge=1)
    """Sessions of a rolling training span."""
