"""Whose prices a state folder holds: it belongs to one market, from the first prices on that are stored in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import SettingsError
from financial_assets.market.restatement import is_same_market
from financial_assets.market.store import PriceStore, StoredBars, UpsertReport
from financial_assets.settings.state_folder import RESOLVED, SETTINGS, marker_path, read_marker

COVARIATES = "COVARIATE_CHANNELS"
"""Key of the marker: names of the channels that COVARIATES, COVARIATE_FILES and SECTOR_INDEX give."""

_MADE_OF_CHANNELS = ("features", "models", "predictions.db")
"""Parts of a state folder, any of which binds it to its covariates."""


class OwnedPriceStore(PriceStore):
    """The price store of a state folder; refuses a folder that was filled from another market.

    A run that stores nothing binds the folder to nothing. A market is known by its source and its bars, not by the path
    of its files. Covariates bind it from its first features on.

    Parameters
    ----------
    folder
        The state folder.
    identity
        What makes prices of two runs the same market, by variable.
    remembered
        Settings, by variable, that the folder keeps for later commands.

    Raises
    ------
    SettingsError
        The folder holds the state of another market.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], remembered: Mapping[str, str]) -> None:
        super().__init__(folder / "prices")
        self._folder, self._identity, self._remembered = folder, identity, remembered
        marker = read_marker(folder)
        # Until there are features, nothing was learned from the channels: a mistake in their settings can be corrected.
        ignored = () if any((folder / name).exists() for name in _MADE_OF_CHANNELS) else (COVARIATES,)
        if marker is not None and _content(marker, *ignored) != _content(identity, *ignored):
            raise self._other_market(marker)

    def upsert(
        self, frame: pd.DataFrame, gone: pd.DataFrame | None = None, *, beside: StoredBars | None = None
    ) -> UpsertReport:
        """See ``PriceStore.upsert``; the folder is this market's before prices are stored, so that none lack an owner.

        Files are the same market wherever they lie: those of another path are compared with the stored bars.
        """
        marker, content = read_marker(self._folder), {**self._identity, SETTINGS: self._remembered}
        if marker != content:
            if marker is not None and not self._is_same_path(marker) and not is_same_market(self.read(), frame):
                raise self._other_market(marker)
            atomic_write_text(marker_path(self._folder), json.dumps(content))
        return super().upsert(frame, gone, beside=beside)

    def _is_same_path(self, marker: Mapping[str, Any]) -> bool:
        path = self._identity.get("PRICE_FILES")
        if path is None:
            return True
        # A relative path names other files in another folder. Earlier versions have kept nothing but what was set.
        is_as_set = (RESOLVED not in marker or Path(path).is_absolute()) and marker.get("PRICE_FILES") == path
        return is_as_set or marker.get(RESOLVED) == self._identity[RESOLVED]

    def _other_market(self, marker: Mapping[str, Any]) -> SettingsError:
        both = COVARIATES in marker or COVARIATES in self._identity
        held, asked = _described(marker, both), _described(self._identity, both)
        return SettingsError(
            f"FINANCIAL_ASSETS_HOME: {self._folder} holds the state of {held}, but the settings say {asked}; set these "
            "back, set FINANCIAL_ASSETS_HOME to another folder, or remove this one"
        )


def _content(identity: Mapping[str, Any], *ignored: str) -> dict[str, Any]:
    """What a market is known by before any bar is read: all but the path of its files."""
    return {
        name: value for name, value in identity.items() if name not in ("PRICE_FILES", RESOLVED, SETTINGS, *ignored)
    }


def _described(identity: Mapping[str, Any], with_covariates: bool) -> str:
    """``PRICE_SOURCE=files, PRICE_FILES=bars (/data/bars)``: a relative path means nothing by itself."""
    shown = {
        name: "(not set)" if value is None else value
        for name, value in identity.items()
        if name not in (RESOLVED, SETTINGS, COVARIATES)
    }
    if RESOLVED in identity and not Path(str(shown.get("PRICE_FILES"))).is_absolute():
        shown["PRICE_FILES"] = f"{shown.get('PRICE_FILES')} ({identity[RESOLVED]})"
    texts = [f"{name}={value}" for name, value in shown.items()]
    return ", ".join([*texts, _channels_of(identity)] if with_covariates else texts)


def _channels_of(identity: Mapping[str, Any]) -> str:
    channels = identity.get(COVARIATES)
    origin = "COVARIATES, COVARIATE_FILES and SECTOR_INDEX"
    return "no covariates" if channels is None else f"the channels {channels} of {origin}"
