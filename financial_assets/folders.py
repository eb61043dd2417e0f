"""Folders of state, private to their owner."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_SHARED = stat.S_ISGID | stat.S_ISVTX | stat.S_IWGRP | stat.S_IWOTH
"""Somebody has made the folder writable for several users on purpose; that is kept."""


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing; what is made is private to its owner (0700).

    Files keep their usual mode: the folder above them decides who reaches them.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=stat.S_IRWXU, exist_ok=True)
    folder.mkdir(exist_ok=True)  # an error if it is a file


def is_open_to_others(folder: Path) -> bool:
    """Whether other users than the owner may do anything in a folder."""
    return bool(folder.stat().st_mode & _OTHERS)


def tighten(folder: Path) -> str | None:
    """Make a folder private that an earlier version has made open to others.

    Returns
    -------
    str | None
        What was done; ``None`` if nothing had to be done, or may be: the folder belongs to somebody else, or is shared
        by a group.
    """
    if not folder.is_dir():
        return None
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & _SHARED or not status.st_mode & _OTHERS:
        return None
    folder.chmod(stat.S_IRWXU)
    return f"{folder} could be read by other users (mode {stat.S_IMODE(status.st_mode):04o}); it is private now (0700)"
