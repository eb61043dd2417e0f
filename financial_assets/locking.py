"""One process at a time: a file lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from financial_assets.disk import disk_errors
from financial_assets.errors import FinancialAssetsError
from financial_assets.folders import make_folder


@contextmanager
def exclusive(
    path: Path, timeout_s: float, *, error: type[FinancialAssetsError], purpose: str, remedy: str = ""
) -> Generator[None]:
    """Hold the lock file ``path``, whose folder is made when missing.

    Parameters
    ----------
    path
        The lock file; it stays behind, unlocked.
    timeout_s
        Longest wait for another holder.
    error
        Raised if the wait was in vain.
    purpose
        What the lock is wanted for, e.g. ``applying manifests``.
    remedy
        What helps besides waiting.

    Raises
    ------
    FinancialAssetsError
        ``error``: somebody else held the lock for ``timeout_s``.
    StorageError
        The lock file cannot be made or opened.
    """
    lock = FileLock(path, timeout=timeout_s)
    try:
        with disk_errors(path, "locked"):
            make_folder(path.parent)
            lock.acquire()
    except Timeout:
        advice = remedy or f"`fuser {path}` names the process; end it, or wait until it is done"
        raise error(f"{path} was held by another process for {timeout_s:g} s; wanted for {purpose}; {advice}") from None
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file; nothing is taken away from anybody.

    The question itself takes the lock, shared and for an instant: two who ask at once do not see each other, and a
    process that wants the lock for itself at that moment must try again.
    """
    try:
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
