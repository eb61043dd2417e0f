"""Stored features, read with all that was appended, or the last sessions alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from financial_assets.features.graph import FeaturePanel
from financial_assets.features.stored.parts import (
    arrays_of,
    damaged,
    days_of,
    part_path,
    parts_of,
    read_ends,
    sessions_of,
    token_of,
)


def load_features(path: Path) -> FeaturePanel:
    """The stored features with all that was appended.

    Raises
    ------
    FeatureError
        A file is missing, damaged or holds something else.
    """
    base = FeaturePanel.load(path)
    parts = parts_of(path, token_of(path))
    if not parts:
        return base
    try:
        sessions = sessions_of([base.sessions, *(days_of(part["sessions"]) for part in parts)])
        values = np.empty((len(base.tickers), len(base.names), len(sessions)), dtype=np.float32)
        valid = np.empty((len(base.tickers), len(sessions)), dtype=bool)
        end = len(base.sessions)
        values[:, :, :end], valid[:, :end] = base.values, base.valid
        for part in parts:
            days = days_of(part["sessions"])
            first = int(sessions.searchsorted(days[0]))
            end = first + len(days)
            values[:, :, first:end], valid[:, first:end] = part["values"], part["valid"]
            if "rows" in part:
                values[part["rows"], :, :end], valid[part["rows"], :end] = part["row_values"], part["row_valid"]
    except (KeyError, ValueError, IndexError) as error:
        raise damaged(path, error) from error
    return FeaturePanel(base.names, base.tickers, sessions, values, valid)


def recent_features(path: Path, count: int, panel: str) -> FeaturePanel | None:
    """The last ``count`` sessions of the stored features, from what was appended alone.

    ``None`` where they are not of the panel's state ``panel`` (``Lineage.name``), or some of them are not in a part.

    Raises
    ------
    FeatureError
        A file is damaged.
    """
    stored = read_ends(path)
    if stored is None or not stored.number or not 0 < count <= len(stored.sessions) or stored.panel != panel:
        return None
    wanted = stored.sessions[len(stored.sessions) - count :]
    if wanted[0] < min(span[0] for span in stored.spans[1:]):
        return None
    values = np.empty((len(stored.tickers), len(stored.names), count), dtype=np.float32)
    valid = np.empty((len(stored.tickers), count), dtype=bool)
    for number, span in enumerate(stored.spans[1:], start=1):
        places = wanted.get_indexer(span)
        inside = places >= 0
        part = arrays_of(part_path(path, number), ("values", "valid", "rows") if inside.any() else ("rows",))
        if "rows" in part:  # tickers computed anew over all sessions
            return None
        if inside.any():
            values[:, :, places[inside]] = part["values"][:, :, inside]
            valid[:, places[inside]] = part["valid"][:, inside]
    return FeaturePanel(stored.names, stored.tickers, wanted, values, valid)
