"""Daily feature means, kept on disk: of a new session only that session's features are read.

A mean stays true as long as no earlier bar has changed, which the panel's lineage says; otherwise all features are read
again, with the same result to the last bit. The file can be made anew: one that is missing, damaged or of other code
costs time only.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.features.graph import FeaturePanel
from financial_assets.features.stored.reading import recent_features
from financial_assets.kept import code_digest
from financial_assets.market.panels.lineage import Lineage
from financial_assets.models.artifacts.fingerprint import code_version
from financial_assets.monitoring.drift import streams
from financial_assets.monitoring.drift.streams import feature_means


@dataclass(frozen=True, eq=False)
class _Kept:
    """Means as of a state of the panel with so many sessions, and the code that they are of."""

    of: str
    panel: str
    sessions: int
    means: pd.DataFrame


def kept_feature_means(
    path: Path, features_path: Path, sessions: pd.DatetimeIndex, lineage: Lineage, load: Callable[[], FeaturePanel]
) -> pd.DataFrame:
    """``feature_means`` of the stored features.

    Parameters
    ----------
    path
        Where means are kept (NumPy archive).
    features_path
        The stored features; see ``features.stored``.
    sessions, lineage
        Of the panel of now.
    load
        Gives all features of the panel, where what is kept is of no use.
    """
    of, kept = f"{code_version()} {code_digest((streams,), (np,))}", _load(path)
    ancestor = None if kept is None or kept.of != of else lineage.since(kept.panel, kept.sessions)
    means = None
    if kept is not None and ancestor is not None and not ancestor.apart:
        means = _continued(kept, min(ancestor.kept, kept.sessions), features_path, sessions, lineage)
    if means is None:
        means = feature_means(load())
    _save(path, _Kept(of, lineage.name, len(sessions), means))
    return means


def _continued(
    kept: _Kept, count: int, features_path: Path, sessions: pd.DatetimeIndex, lineage: Lineage
) -> pd.DataFrame | None:
    """The means of the first ``count`` sessions, which are kept, and of the later ones; ``None`` without features."""
    if count == len(sessions):
        return kept.means
    recent = recent_features(features_path, len(sessions) - count, lineage.name)
    if recent is None or not recent.sessions.equals(sessions[count:]) or [*recent.names] != [*kept.means.columns]:
        return None
    return pd.concat([kept.means[kept.means.index < sessions[count]], feature_means(recent)])


def _load(path: Path) -> _Kept | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            days = pd.DatetimeIndex(held["days"].astype("datetime64[ns]"))
            means = pd.DataFrame(held["means"], index=days, columns=[str(name) for name in held["names"]])
            return _Kept(str(held["of"]), str(held["panel"]), int(held["sessions"]), means)
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _save(path: Path, kept: _Kept) -> None:
    arrays = {
        "of": np.array(kept.of),
        "panel": np.array(kept.panel),
        "sessions": np.array(kept.sessions),
        "days": pd.DatetimeIndex(kept.means.index).to_numpy("datetime64[D]"),
        "names": np.array(list(kept.means.columns), dtype=np.str_),
        "means": kept.means.to_numpy(np.float64),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
