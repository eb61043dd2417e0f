"""Asking whether a process holds a lock file, without taking it from anybody."""

from __future__ import annotations

import fcntl
from pathlib import Path

__all__ = ["is_held"]


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file; two who ask at once do not see each other."""
    try:
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
