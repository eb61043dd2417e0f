"""What a state folder remembers of the settings that it was made with, so that they need not be repeated.

``market.json`` names the market that the prices belong to, and under ``settings`` the text of each remembered variable
as the environment would hold it. Folders of earlier versions have the market alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic_settings import BaseSettings, InitSettingsSource

from financial_assets.errors import SettingsError
from financial_assets.settings.market import MarketSettings

REMEMBERED = (
    *MarketSettings.model_fields,
    "variants",
    "external_models",
    "seed",
    "sequence_length",
    "max_epochs",
    "hyperparameters",
    "rollout_policy",
)
"""Settings that say what a state folder holds. Addresses are not among them: they may contain passwords."""

RESOLVED = "resolved"
"""Key of the marker: ``PRICE_FILES`` may be relative, this one is not."""

SETTINGS = "settings"
"""Key of the marker: the text of each remembered variable."""


def marker_path(home: Path) -> Path:
    """Where a state folder says what it was made from."""
    return home / "market.json"


def read_marker(home: Path) -> dict[str, Any] | None:
    """What the state folder was made from; ``None`` while it holds no state.

    Raises
    ------
    SettingsError
        The marker is damaged.
    """
    marker = marker_path(home)
    # Earlier versions, and a run that was killed just before it stored, leave a marker without any state.
    if not marker.exists() or not ((home / "prices" / "prices.parquet").exists() or (home / "training.json").exists()):
        return None
    try:
        content = json.loads(marker.read_text())
        if not isinstance(content, dict) or "PRICE_SOURCE" not in content:
            raise ValueError("it names no PRICE_SOURCE")
    except ValueError as error:
        raise SettingsError(
            f"FINANCIAL_ASSETS_HOME: {marker} is damaged ({error}); remove it if the folder's prices come from the "
            "configured source"
        ) from error
    return cast("dict[str, Any]", content)


def recorded(home: Path) -> dict[str, str]:
    """The settings that the state folder remembers, by field name; none where there is no state.

    A damaged marker counts as none here: the price store refuses it, and the doctor has to get that far.
    """
    try:
        marker = read_marker(home)
    except (SettingsError, OSError):
        marker = None
    if marker is None:
        return {}
    market = {name: value for name, value in marker.items() if name not in (RESOLVED, SETTINGS)}
    if RESOLVED in marker:
        market["PRICE_FILES"] = marker[RESOLVED]  # the current folder may be another one today
    texts: Mapping[str, Any] = marker[SETTINGS] if isinstance(marker.get(SETTINGS), dict) else {}
    values = {name.lower(): value for name, value in (market | dict(texts)).items()}
    return {name: str(values[name]) for name in REMEMBERED if values.get(name) is not None}


class StateFolderSource(InitSettingsSource):
    """The source of settings with the least say: what the environment, ``.env`` and the caller leave open."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, {})

    def __call__(self) -> dict[str, Any]:
        """Remembered values by field name."""
        given = self.current_state
        default = self.settings_cls.model_fields["financial_assets_home"].default
        remembered = recorded(Path(given.get("financial_assets_home", default)).expanduser())
        if given.get("price_source", remembered.get("price_source")) != remembered.get("price_source"):
            # Another market. Half of the remembered settings would make a mixture of both; the price store refuses the
            # folder and names the two.
            return {}
        # An empty variable is an unset one, but for an optional setting that is the only way to say "none any more".
        empty = {name.lower() for name, value in os.environ.items() if not value}
        fields = self.settings_cls.model_fields
        cleared = {name for name in empty & set(REMEMBERED) if fields[name].default in (None, ())}
        return {name: value for name, value in remembered.items() if name not in cleared}
