"""The files of stored features: a base, and the parts that were appended to it.

Beside ``features.npz`` lie up to ``MOST_PARTS`` parts ``features.<number>.npz``, each with the sessions from one on,
which it replaces. A part names the base that it belongs to: a base written anew makes its parts void, whenever the
power fails.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.errors import FeatureError

MOST_PARTS = 21
"""Parts, after which the whole is written anew: a month of sessions."""

UNSETTLED = 11
"""Sessions at the end that may still be corrected: what a live source is asked for again (fifteen calendar days)."""

_SETTLED = "last"
"""The last settled session, which is all that earlier versions kept of the base."""

NEWEST_OF_ROWS = "row_newest"
"""The last sessions of restated tickers: the next append looks at one of them, and not at all of their sessions."""

_DAMAGED = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Ends:
    """What an append needs to know of the stored files: ``spans`` has the sessions of the base and of each part."""

    code: str
    names: tuple[str, ...]
    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex
    spans: tuple[pd.DatetimeIndex, ...]
    digests: np.ndarray
    base: str
    panel: str
    holds_last_sessions: bool

    @property
    def number(self) -> int:
        """Of the last part."""
        return len(self.spans) - 1

    @property
    def cut(self) -> int:
        """Number of settled sessions."""
        return settled(self.sessions)


def last_name(back: int) -> str:
    """Name of the array of one of the last sessions: 1 for the last one."""
    return f"last_{back}"


def newest_of(values: np.ndarray) -> np.ndarray:
    """The unsettled sessions and the one before of ``[ticker, feature, session]``: ``[session, ticker, feature]``."""
    return np.ascontiguousarray(np.moveaxis(values[:, :, -1 - UNSETTLED :], -1, 0))


def settled(sessions: pd.DatetimeIndex) -> int:
    """How many of the first sessions are no longer corrected."""
    return max(0, len(sessions) - UNSETTLED)


def sessions_of(spans: Sequence[pd.DatetimeIndex]) -> pd.DatetimeIndex:
    """All sessions of a base and its parts, each of which begins again somewhere in what came before."""
    return pd.DatetimeIndex(np.unique(np.concatenate([span.to_numpy() for span in spans])))


def read_ends(path: Path) -> Ends | None:
    """``None`` without a file, or with one of an earlier version, which cannot be appended to."""
    if not path.exists():
        return None
    token = token_of(path)
    if not token:
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as base:
            wanted = ("names", "tickers", "sessions", "digests", "panel", "code")
            held: dict[str, Any] = {name: base[name] for name in wanted if name in base}
            is_of_this_version = last_name(1) in base
    except _DAMAGED as error:
        raise damaged(path, error) from error
    wanted = ("base", "sessions", "digests", "panel")
    parts = parts_of(path, token, wanted)
    spans = (days_of(held["sessions"]), *(days_of(part["sessions"]) for part in parts))
    newest = parts[-1] if parts else held
    return Ends(
        code=str(held.get("code", "")),
        names=tuple(map(str, held["names"])),
        tickers=tuple(map(str, held["tickers"])),
        sessions=sessions_of(spans),
        spans=spans,
        digests=newest["digests"],
        base=token,
        panel=str(newest.get("panel", "")),
        # Of an earlier version's files, the parts begin with the unsettled sessions.
        holds_last_sessions=is_of_this_version or bool(parts),
    )


def stored_values(path: Path, stored: Ends, session: int) -> np.ndarray:
    """Features ``[ticker, feature]`` of session number ``session``, one of the last that are stored."""
    day = stored.sessions[session]
    spans = stored.spans
    # The first session of a part is one that it replaces, if there was one.
    number = next((at for at in range(len(spans) - 1, 0, -1) if spans[at][0] <= day), 0)
    if number:
        values = arrays_of(part_path(path, number), ("values",))["values"][:, :, spans[number].searchsorted(day)]
    else:
        back = len(spans[0]) - session
        held = arrays_of(path, (last_name(back), _SETTLED))
        values = held[last_name(back)] if last_name(back) in held else held[_SETTLED]
    values = values.copy()
    for later in range(max(number, 1), len(spans)):
        rows = arrays_of(part_path(path, later), ("rows", NEWEST_OF_ROWS))
        if NEWEST_OF_ROWS in rows:
            end = int(stored.sessions.searchsorted(spans[later][-1])) + 1
            values[rows["rows"]] = rows[NEWEST_OF_ROWS][session - end]
        elif rows:  # an earlier version's
            values[rows["rows"]] = arrays_of(part_path(path, later), ("row_values",))["row_values"][:, :, session]
    return values


def arrays_of(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Those of the named arrays that a file has.

    Raises
    ------
    FeatureError
        It is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            return {name: held[name] for name in names if name in held}
    except _DAMAGED as error:
        raise damaged(path, error) from error


def token_of(path: Path) -> str:
    """The token of a base, which its parts name; empty in one of an earlier version.

    Raises
    ------
    FeatureError
        It is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as base:
            return str(base["base"]) if "base" in base else ""
    except _DAMAGED as error:
        raise damaged(path, error) from error


def parts_of(path: Path, token: str, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The parts that belong to the base, in order."""
    parts: list[dict[str, Any]] = []
    for number in range(1, MOST_PARTS + 1):
        file = part_path(path, number)
        if not token or not file.exists():
            break
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as part:
                if str(part["base"]) != token:
                    break
                parts.append({name: part[name] for name in part.files if names is None or name in names})
        except _DAMAGED as error:
            raise damaged(file, error) from error
    return parts


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write a base or a part, atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def part_path(path: Path, number: int) -> Path:
    """Where the part of a number lies beside the base."""
    return path.with_name(f"{path.stem}.{number:03d}{path.suffix}")


def days_of(days: np.ndarray) -> pd.DatetimeIndex:
    """The sessions that a file names."""
    return pd.DatetimeIndex(days.astype("datetime64[ns]"))


def damaged(path: Path, error: Exception) -> FeatureError:
    """What to raise where a file cannot be read."""
    return FeatureError(f"{path} is not a readable feature panel ({error}): materialise `features`")
