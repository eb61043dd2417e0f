"""Atomic file writes: a reader sees the old file or the new one, never half of one, even across a power cut."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from financial_assets.disk import disk_errors
from financial_assets.folders import make_folder


@contextmanager
def atomic_path(path: Path, *, needed: int | None = None) -> Generator[Path, None, None]:
    """A temporary path beside ``path`` that replaces it when the block ends well.

    Parameters
    ----------
    path
        The file to write; its folder is made when missing, private to its owner.
    needed
        Its bytes, when known: named if the disk is full.

    Yields
    ------
    Path
        Where to write. It is flushed to disk and renamed onto ``path`` at the end, and removed if the block raises.

    Raises
    ------
    StorageError
        The disk refuses: full, read-only, not permitted, or something in the way.
    """
    with disk_errors(path, "written", needed=needed):
        make_folder(path.parent)
        remove_abandoned(path)
        descriptor, temporary = _claimed_temporary(path)
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
            sync(path.parent)
        finally:
            with suppress(OSError):  # a disk that has become read-only: what went wrong before matters more
                temporary.unlink(missing_ok=True)
            os.close(descriptor)


def remove_abandoned(path: Path) -> None:
    """Remove temporary files of ``path`` whose writer was killed: nobody else would, and each kill leaves one more.

    A writer locks its file until it is renamed, and the kernel ends the lock with the process. Where the file system
    has no locks, nothing is removed.
    """
    named_as_ours = re.compile(rf"{re.escape(f'.{path.name}.')}[a-z0-9_]{{8}}{re.escape(path.suffix)}")
    for abandoned in path.parent.glob(f"{glob.escape(f'.{path.name}.')}*"):
        if named_as_ours.fullmatch(abandoned.name) is None:
            continue
        with suppress(OSError):  # another process works on it, has removed it, or owns it
            descriptor = os.open(abandoned, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                abandoned.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def _claimed_temporary(path: Path) -> tuple[int, Path]:
    """An empty file beside ``path`` that nobody takes for abandoned while its descriptor is open."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        with suppress(OSError):  # no locks: nobody can take one away, either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)  # another process found it between its making and its lock


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path, needed=len(data)) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    atomic_write_bytes(path, text.encode())


def append_bytes(path: Path, end: int, data: bytes) -> None:
    """Put ``data`` behind the first ``end`` bytes of ``path``, and wait until it is on the disk.

    For files of lines that only grow: what a writer that died has left behind ``end``, half a line, never counted and
    is cut off. Writers hold a lock of their own.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    with disk_errors(path, "written", needed=len(data)):
        make_folder(path.parent)
        is_new = not path.exists()
        with path.open("ab") as stream:
            os.ftruncate(stream.fileno(), end)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
