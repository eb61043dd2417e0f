"""The baselines' daily predictions for people and other programs: one Parquet file per month in one folder.

``pandas.read_parquet`` reads the folder as one table. Of a new session only its month is written again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.atomic import atomic_write_bytes, atomic_write_text

_WRITTEN = "_written.json"  # readers of the folder leave out names that begin so
_Written = Mapping[str, tuple[str, str]]


def write_by_month(folder: Path, rows: pd.DataFrame, tokens: Mapping[pd.Timestamp, str]) -> list[str]:
    """Make the folder hold ``rows``; the months that were written (``2024-11``).

    Parameters
    ----------
    folder
        Made when missing. Months that are not among ``rows`` are removed.
    rows
        Predictions with a column ``date``.
    tokens
        Session -> what changes whenever its rows may have. A month with a session that has none is written again, and
        so is one whose file is missing or not what was written.
    """
    codes, dates = pd.factorize(rows["date"])
    sessions = pd.DatetimeIndex(dates)
    names = np.array([f"{session:%Y-%m}" for session in sessions], dtype=object)
    before, now, written = _load(folder), dict[str, tuple[str, str]](), list[str]()
    for month in sorted(set(names)):
        inside = np.flatnonzero(names == month)
        key = _key([(session, tokens.get(session)) for session in sessions[inside]])
        path, (known, digest) = folder / f"{month}.parquet", before.get(month, ("", ""))
        if not key or known != key or _digest_of(path) != digest:
            stream = io.BytesIO()
            rows[np.isin(codes, inside)].to_parquet(stream, index=False)
            atomic_write_bytes(path, stream.getvalue())
            digest = hashlib.blake2b(stream.getbuffer()).hexdigest()
            written.append(month)
        now[month] = (key, digest)
    for path in folder.glob("*.parquet"):
        if path.stem not in now:
            path.unlink(missing_ok=True)
    atomic_write_text(folder / _WRITTEN, json.dumps(now))
    return written


def _key(days: list[tuple[pd.Timestamp, str | None]]) -> str:
    """Names the predictions of a month; empty where they may always have changed."""
    if any(token is None for _, token in days):
        return ""
    return hashlib.blake2b(repr([(day.isoformat(), token) for day, token in sorted(days)]).encode()).hexdigest()


def _digest_of(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def _load(folder: Path) -> _Written:
    """What is known of the files; nothing where that is missing or damaged: all are written again then."""
    try:
        found = json.loads((folder / _WRITTEN).read_text())
        return {month: (str(key), str(digest)) for month, (key, digest) in found.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return {}
