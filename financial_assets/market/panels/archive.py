"""The files of a panel: the whole of it, and beside it the sessions that were laid out since it was written.

To write a large panel takes longer than to lay out a session. The tail names the whole that it belongs to, so that a
whole written anew makes it void, whenever the power fails.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from financial_assets.atomic import atomic_path

_BY_SESSION = ("days", "values", "valid", "adjusted", "belongs")
"""Arrays whose last axis are the sessions, and of which a tail holds the last ones."""

_LEVELS = "growth"
"""The last axis are the sessions, too, but a tail holds all of them: there are few bytes of it, and one restated ticker
changes the last digits of all. Earlier versions wrote the last ones."""

_RESTATED = "restated_"
"""Before the name of an array: rows of it that are not the whole's, of the sessions before the tail's."""

_SUMS = "sum_of_"
"""Before the name of an array: the array's checksum (``_sum``)."""

_ENTRY_LENGTHS = 26
_LONGEST_HEADER = 4096
"""Bytes: see the formats of ZIP and NPY."""


def write_whole(path: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write all arrays under a unique ``name``, atomically."""
    sums = {f"{_SUMS}{each}": _sum(arrays[each]) for each in _BY_SESSION if each in arrays}
    _write(path, {**arrays, **sums, "whole": np.array(name)})
    _tail(path).unlink(missing_ok=True)


def write_tail(
    path: Path,
    name: str,
    arrays: Mapping[str, np.ndarray],
    first: int,
    rows: np.ndarray,
    restated: Mapping[str, np.ndarray],
) -> None:
    """Write beside the whole of that ``name`` what has changed since, atomically.

    Parameters
    ----------
    arrays
        Those of all sessions from number ``first`` on.
    rows, restated
        Places on the first axis, and what the arrays have there before ``first``.
    """
    before = {f"{_RESTATED}{each}": values for each, values in restated.items()} if len(rows) else {}
    _write(_tail(path), {**arrays, **before, "whole": np.array(name), "first": np.array(first), "rows": rows})


@dataclass(frozen=True)
class Whole:
    """What is used of the whole: its name ("": it has none), its first sessions, and which rows it has no longer."""

    name: str
    unchanged: int
    rows: tuple[int, ...] = ()


def read_arrays(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> tuple[dict[str, np.ndarray], Whole]:
    """The arrays ``names``, with the tail.

    ``optional`` ones are there if the whole or the tail has them; they are not of sessions.

    Raises
    ------
    OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile
        A file is missing, damaged, or lacks an array.
    """
    parts, whole = read_parts(path, names, optional)
    return {name: joined(arrays) for name, arrays in parts.items()}, whole


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The parts one after the other along the sessions; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def read_parts(
    path: Path, names: Sequence[str], optional: Sequence[str] = (), mapped: Sequence[str] = ()
) -> tuple[dict[str, tuple[np.ndarray, ...]], Whole]:
    """The same with that of the whole and that of the tail apart: one array or two, one after the other.

    Those of the whole named in ``mapped`` stay in the file, which is read where they are (in any alignment; what is
    written into them is copied page by page, and the file stays as it is); their checksum was compared (a CRC where an
    earlier version has written them).

    Raises
    ------
    OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile
        See ``read_arrays``.
    """
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
        wanted = (*names, *(name for name in optional if name in held))
        parts: dict[str, tuple[np.ndarray, ...]]
        sums = {name: held[f"{_SUMS}{name}"] for name in mapped if f"{_SUMS}{name}" in held}
        parts = {
            name: (_mapped(stream, held.zip, name, sums.get(name)) if name in mapped else held[name],)
            for name in wanted
        }
        whole = str(held["whole"]) if "whole" in held else ""
        count = len(held["days"])
    if not whole or not _tail(path).exists():
        return parts, Whole(whole, count)
    with _tail(path).open("rb") as stream, np.load(stream, allow_pickle=False) as tail:
        if str(tail["whole"]) != whole:
            return parts, Whole(whole, count)
        first = int(tail["first"])
        rows = tail["rows"] if "rows" in tail else np.empty(0, dtype=np.intp)
        for name in (*names, *(name for name in optional if name in tail)):
            added = tail[name]
            is_last_alone = name in _BY_SESSION or (name == _LEVELS and len(added) < first + len(tail["days"]))
            kept = tuple(part[..., :first] for part in parts[name]) if is_last_alone else ()
            for part in kept if f"{_RESTATED}{name}" in tail else ():
                part[rows] = tail[f"{_RESTATED}{name}"]
            parts[name] = (*kept, added)
    return parts, Whole(whole, first, tuple(map(int, rows)))


def _sum(array: np.ndarray) -> np.ndarray:
    """Sum of an array's bytes, as numbers of 64 bits and modulo 2^64.

    Any single wrong word shows, and others but for one case in 2^64. It takes a fraction of the time of a CRC, and a
    large panel is looked through each day.
    """
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    words = len(content) // 8 * 8
    total = np.add.reduce(content[:words].view(np.uint64), dtype=np.uint64)
    return np.add(total, content[words:].sum(dtype=np.uint64))


def _mapped(stream: IO[bytes], archive: zipfile.ZipFile, name: str, expected: np.ndarray | None) -> np.ndarray:
    """An array of an archive that was written without compression, where it lies in the file."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    # The entry's own header: its name and further fields have the lengths that stand at 26 and 28.
    stream.seek(entry.header_offset + _ENTRY_LENGTHS)
    lengths = np.frombuffer(stream.read(4), dtype="<u2")
    start = entry.header_offset + _ENTRY_LENGTHS + 4 + int(lengths.sum())
    content = np.memmap(stream, dtype=np.uint8, mode="c", offset=start, shape=(entry.file_size,)).view(np.ndarray)
    header = BytesIO(content[:_LONGEST_HEADER].tobytes())
    version = np.lib.format.read_magic(header)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(header)
    if is_fortran or dtype.hasobject:
        raise ValueError(f"{name} is not laid out as it was written")
    values = content[header.tell() :]
    if (zlib.crc32(content.data) != entry.CRC) if expected is None else (_sum(values) != expected):
        raise zipfile.BadZipFile(f"the checksum of {name} is wrong")
    return values.view(dtype).reshape(shape)


def _tail(path: Path) -> Path:
    return path.with_name(f"{path.stem}.tail{path.suffix}")


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)
