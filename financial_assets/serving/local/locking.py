"""A lock between processes that a crash cannot leave behind."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from financial_assets.errors import NotReadyError

__all__ = ["exclusive", "is_held"]


@contextmanager
def exclusive(path: Path, timeout_s: float, purpose: str) -> Generator[None]:
    """Hold the lock file ``path``; the kernel lets it go when the holder dies.

    Raises
    ------
    NotReadyError
        Somebody else held it for ``timeout_s``; ``purpose`` says what for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise NotReadyError(
                        f"{path} was held by another process for {timeout_s:g} s; wanted for {purpose}"
                    ) from None
                time.sleep(0.02)
        yield


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
