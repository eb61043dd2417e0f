"""The files of a panel: the whole of it, and beside it the sessions that were laid out since it was written.

To write a large panel takes longer than to lay out a session. The tail names the whole that it belongs to, so that a
whole written anew makes it void, whenever the power fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from financial_assets.atomic import atomic_path

_BY_SESSION = ("days", "values", "valid", "adjusted", "growth", "belongs")
"""Arrays whose last axis are the sessions."""


def write_whole(path: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write all arrays under a unique ``name``, atomically."""
    _write(path, {**arrays, "whole": np.array(name)})
    _tail(path).unlink(missing_ok=True)


def write_tail(path: Path, name: str, arrays: Mapping[str, np.ndarray], first: int) -> None:
    """Write beside the whole of that ``name`` what has changed since: all sessions from number ``first`` on."""
    cut = {key: array[..., first:] if key in _BY_SESSION else array for key, array in arrays.items()}
    _write(_tail(path), {**cut, "whole": np.array(name), "first": np.array(first)})


def read_arrays(
    path: Path, names: Sequence[str], optional: Sequence[str] = ()
) -> tuple[dict[str, np.ndarray], str, int]:
    """The arrays ``names``, with the tail; the name of the whole ("": it has none), and how much of it is unchanged.

    ``optional`` ones are there if the whole has them; they are not of sessions.

    Raises
    ------
    OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile
        A file is missing, damaged, or lacks an array.
    """
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
        arrays = {name: held[name] for name in (*names, *(name for name in optional if name in held))}
        whole = str(held["whole"]) if "whole" in held else ""
        count = len(held["days"])
    if not whole or not _tail(path).exists():
        return arrays, whole, count
    with _tail(path).open("rb") as stream, np.load(stream, allow_pickle=False) as tail:
        if str(tail["whole"]) != whole:
            return arrays, whole, count
        first = int(tail["first"])
        for name in names:
            is_joined = name in _BY_SESSION
            arrays[name] = np.concatenate([arrays[name][..., :first], tail[name]], axis=-1) if is_joined else tail[name]
    return arrays, whole, first


def _tail(path: Path) -> Path:
    return path.with_name(f"{path.stem}.tail{path.suffix}")


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)
