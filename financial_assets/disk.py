"""Refusals of a disk as errors that name the path, what is needed and what helps."""

from __future__ import annotations

import errno
import getpass
import os
import shutil
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from financial_assets.errors import StorageError

_ELSEWHERE = "or choose another folder (FINANCIAL_ASSETS_HOME)"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LEAST_BYTES = 1 << 20  # SQLite needs room for its journal before it can say that there is none
_OF_DISKS = {
    *(errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP),
    *_FULL,
}


@contextmanager
def disk_errors(path: Path, purpose: str, *, needed: int | None = None) -> Generator[None, None, None]:
    """Turn what the operating system refuses in the block into a ``StorageError``.

    Parameters
    ----------
    path
        The file or folder that the block is about.
    purpose
        What the block does with it, as a participle: ``written``, ``read``, ``locked``.
    needed
        Bytes that the block writes, when known.

    Raises
    ------
    StorageError
        It also is an ``OSError``, so that a caller that lives with a refusal need not tell the two apart.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        # Without a number a library complains about content; with another file's name, the error is about that file.
        if error.errno is None or not _concerns(error, path):
            raise
        raise storage_error(error, path, purpose, needed=needed) from error


def storage_error(error: OSError, path: Path, purpose: str, *, needed: int | None = None) -> StorageError:
    """``error`` as a ``StorageError`` that names ``path``, what is needed and what helps."""
    refusal = StorageError(f"{path} cannot be {purpose}: {_reason(error, path, needed)}")
    refusal.errno = error.errno
    return refusal


def explain(error: BaseException, home: Path) -> str | None:
    """The text for an unexpected error; ``None`` unless a disk, or a database on one, is behind it.

    Parameters
    ----------
    error
        It, or one of its causes, is asked.
    home
        Named where the error itself names no path.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        if isinstance(cause, StorageError):
            return str(cause)
        if isinstance(cause, sqlite3.Error):
            remedy = database_remedy(home, str(cause))
            return f"a database reports: {cause}; {remedy}" if remedy else None
        if isinstance(cause, OSError) and (cause.errno in _OF_DISKS or (cause.filename and cause.errno)):
            named = cause.filename
            path = Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else home
            return str(storage_error(cause, path, "used"))
        cause = getattr(cause, "orig", None) or cause.__cause__ or cause.__context__
    return None


def database_remedy(path: Path, message: str) -> str:
    """What helps with SQLite's ``message`` about the database in ``path``; empty if it is not about the disk."""
    message = message.lower()
    if "disk is full" in message:
        return f"no space left: {_room(path, None)}"
    if "locked" in message:
        return f"another process holds it: `fuser {path}` names it; end that process, or wait until it is done"
    if any(text in message for text in ("readonly database", "unable to open database file", "disk i/o error")):
        obstacle = _obstacle(path)
        if obstacle is not None:
            return obstacle
        if path.is_dir():
            return f"{path} is a folder where a file is needed: move it away"
        return state_of_disk(path)
    if "not a database" in message or "malformed" in message:
        return f"put {path} back from a copy, or move it away to begin with an empty one"
    return ""


def _concerns(error: OSError, path: Path) -> bool:
    """Whether ``error`` names ``path``, a file beside it, a folder on the way to it, or nothing."""
    if not isinstance(error.filename, (str, bytes)):
        return True
    named, place = Path(os.fsdecode(error.filename)).absolute(), path.absolute()
    return named.parent == place.parent or named in place.parents or place in named.parents


def _reason(error: OSError, path: Path, needed: int | None) -> str:
    code = error.errno
    if code in _FULL:
        return f"no space left: {_room(path, needed)}"
    if code == errno.EFBIG:
        size = "" if needed is None else f" ({needed:,} bytes)"
        return f"the file would be larger than this process may write{size}: raise `ulimit -f`"
    if code == errno.EROFS:
        return f"{_existing(path)} is on a read-only file system: mount it for writing, {_ELSEWHERE}"
    obstacle = _obstacle(path)
    if obstacle is not None:
        return obstacle
    if code in (errno.EACCES, errno.EPERM):
        return _permission(path)
    if code == errno.EISDIR:
        return f"{path} is a folder where a file is needed: move it away"
    return f"{error.strerror or error}; make sure that {path.parent} is a folder on a healthy disk, {_ELSEWHERE}"


def state_of_disk(path: Path) -> str:
    """Why nothing can be written to ``path``, and what helps; SQLite itself does not say."""
    folder = _existing(path)
    file_system = os.statvfs(folder)
    if file_system.f_flag & os.ST_RDONLY:
        return f"{folder} is on a read-only file system: mount it for writing, {_ELSEWHERE}"
    if file_system.f_bavail * file_system.f_frsize < _LEAST_BYTES:
        return f"no space left: {_room(path, None)}"
    return _permission(path)


def _room(path: Path, needed: int | None) -> str:
    folder = _existing(path)
    free = shutil.disk_usage(folder).free
    need = "" if needed is None else f", {needed:,} are needed"
    return f"the disk of {folder} has {free:,} bytes free{need}; make room there, {_ELSEWHERE}"


def _permission(path: Path) -> str:
    folder, user = _existing(path), _user()
    try:
        owner = folder.owner()
    except (KeyError, OSError):
        owner = "unknown"
    mode = f"{folder.stat().st_mode & 0o777:04o}"
    advice = f"`chown -R {user} {folder}`" if owner != user else f"`chmod -R u+rwX {folder}`, or `lsattr -d {folder}`"
    return f"{user} may not write to {folder} (owner {owner}, mode {mode}): {advice}, {_ELSEWHERE}"


def _obstacle(path: Path) -> str | None:
    """A file or a dangling link where a folder is needed on the way to ``path``, or a dangling link in its place."""
    for folder in (path, *path.parents):
        if folder.is_symlink() and not folder.exists():
            target = os.readlink(folder)
            return (
                f"{folder} is a symbolic link to {target}, which does not exist: make {target} (is its disk mounted?), "
                f"or remove the link: `rm {folder}`"
            )
        if folder != path and folder.exists() and not folder.is_dir():
            return f"{folder} is a file where a folder is needed: move it away, {_ELSEWHERE}"
    return None


def _existing(path: Path) -> Path:
    """The nearest folder on the way to ``path`` that exists."""
    return next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return str(os.getuid())
