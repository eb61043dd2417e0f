"""Files as bytes: what they are by their first bytes, unpacked, and text in any common encoding."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from financial_assets.errors import SourceError

TEXTS = (".csv", ".txt", ".tsv")
TABLES = (".parquet", ".pq", ".parq", ".feather", ".arrow", ".ipc")
COMPRESSIONS = (".gz", ".zip", ".bz2", ".xz", ".zst")

_LARGEST = 4 << 30
"""Bytes that one file may unpack to: a small archive can hold far more than the memory does."""

_MAGIC = (
    (b"\x1f\x8b", ".gz"),
    (b"PK\x03\x04", ".zip"),
    (b"PK\x05\x06", ".zip"),
    (b"BZh", ".bz2"),
    (b"\xfd7zXZ\x00", ".xz"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"FEA1", "feather 1"),
    (b"\xff\xff\xff\xff", "arrow stream"),
)
_WIDE_TEXT = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@dataclass(frozen=True)
class Content:
    """One table's worth of bytes.

    Attributes
    ----------
    origin
        The file, and the member of an archive, for messages.
    name
        Relative path, of which names of tickers and of hive partitions are read.
    data
        Unpacked bytes.
    kind
        ``text``, ``parquet``, ``arrow``, ``arrow stream`` or ``feather 1``.
    """

    origin: str
    name: PurePosixPath
    data: bytes
    kind: str


def is_readable_name(name: str) -> bool:
    """Whether a folder's file of this name is read: ``bars.csv``, ``bars.csv.gz``, ``part-0.parquet``."""
    lower = name.lower()
    for ending in COMPRESSIONS:
        lower = lower.removesuffix(ending)
    packed = lower != name.lower()
    return lower.endswith(TEXTS + TABLES) or (packed and "." not in lower) or name.lower().endswith(".zip")


def open_contents(path: Path, name: PurePosixPath) -> Iterator[Content]:
    """The tables of a file: one, or as many as an archive has members.

    Raises
    ------
    SourceError
        The file cannot be opened or unpacked.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    yield from _unpacked(str(path), name, data)


def _unpacked(origin: str, name: PurePosixPath, data: bytes, depth: int = 0) -> Iterator[Content]:
    kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), "text")
    suffix = name.suffix.lower()
    if suffix in COMPRESSIONS and kind != suffix:
        raise SourceError(f"{origin}: cannot be read: {'is empty' if not data else f'not a {suffix} file'}")
    if suffix in TABLES and kind in ("text", ".gz", ".zip"):
        raise SourceError(f"{origin}: cannot be read: {'is empty' if not data else 'not a Parquet or Arrow file'}")
    if kind not in COMPRESSIONS:
        yield Content(origin, name, data, kind)
        return
    if depth > 2:
        raise SourceError(f"{origin}: cannot be read: archives within archives; unpack it first")
    try:
        if kind == ".zip":
            yield from _members(origin, data, depth)
            return
        unpacked = _decompressed(kind, data)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        raise SourceError(f"{origin}: cannot be read: damaged {kind} file ({error})") from error
    yield from _unpacked(origin, name.with_suffix("") if suffix == kind else name, unpacked, depth + 1)


def _decompressed(kind: str, data: bytes) -> bytes:
    openers = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    if kind in openers:
        with openers[kind](io.BytesIO(data)) as stream:
            unpacked = stream.read(_LARGEST + 1)
    else:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            unpacked = stream.read(_LARGEST + 1)
    if len(unpacked) > _LARGEST:
        raise ValueError(f"it unpacks to more than {_LARGEST >> 30} GiB")
    return bytes(unpacked)


def _members(origin: str, data: bytes, depth: int) -> Iterator[Content]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if any(entry.filename in ("[Content_Types].xml", "mimetype") for entry in entries):
                raise SourceError(f"{origin}: is a spreadsheet; save it as CSV")
            entries = [entry for entry in entries if _is_member(PurePosixPath(entry.filename), len(entries))]
            if sum(entry.file_size for entry in entries) > _LARGEST:
                raise ValueError(f"it unpacks to more than {_LARGEST >> 30} GiB")
            if not entries:
                raise SourceError(f"{origin}: holds no file of prices")
            for entry in entries:
                yield from _unpacked(
                    f"{origin}/{entry.filename}", PurePosixPath(entry.filename), archive.read(entry), depth + 1
                )
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # RuntimeError: a password is needed
        raise SourceError(f"{origin}: cannot be read: {error}") from error


def _is_member(name: PurePosixPath, count: int) -> bool:
    # pandas calls the only member of bars.zip "bars" or "archive".
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
    return not hidden and (is_readable_name(name.name) or (count == 1 and not name.suffix))


def text_of(content: Content) -> bytes:
    """The content as UTF-8 without byte order mark.

    Raises
    ------
    SourceError
        It is not text.
    """
    data = content.data
    try:
        for mark, encoding in _WIDE_TEXT:
            if data.startswith(mark):
                return data.decode(encoding).removeprefix("\ufeff").encode()
        # UTF-16 without a mark: every other byte of ASCII is zero.
        if len(data) > 3 and data[1] == 0 and data[3] == 0 and data[0] and data[2]:
            return data.decode("utf-16-le").encode()
        if len(data) > 3 and data[0] == 0 and data[2] == 0 and data[1] and data[3]:
            return data.decode("utf-16-be").encode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{content.origin}: cannot be read: broken UTF-16 or UTF-32 text ({error.reason})") from error
    if b"\x00" in data:
        raise SourceError(f"{content.origin}: cannot be read: it holds zero bytes, so it is not text")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        data.decode()
    except UnicodeDecodeError:
        # Company names of western Europe; dates and numbers are ASCII in every encoding left.
        return data.decode("cp1252", errors="replace").encode()
    return data
