"""Records that only grow, each naming the digest of the one before: a hash chain in a file of JSON lines.

A line counts once it ends: what a writer that died left half written is cut off by the next one, and ignored until
then. Nobody can change, remove or exchange a line without breaking the chain behind it; that the end was cut off shows
only to who knows a later digest. Writers hold a lock; readers need none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from financial_assets.atomic import append_bytes
from financial_assets.disk import disk_errors
from financial_assets.errors import ChainError

GENESIS = "0" * 64
"""What the first record names as the one before."""


@dataclass(frozen=True)
class Link:
    """One record.

    Attributes
    ----------
    number
        Its place, from 1.
    digest
        SHA-256 of its line, without the line break.
    values
        What it says.
    """

    number: int
    digest: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class HashChain:
    """The chain at ``path``; a missing file is an empty one."""

    path: Path

    def read(self) -> tuple[Link, ...]:
        """All records, in order.

        Raises
        ------
        ChainError
            A line is no record, or does not follow the one before; names the line.
        StorageError
            The disk refuses.
        """
        return self._links(self._whole())

    def append(self, values: Mapping[str, Any]) -> Link:
        """Add a record; the caller holds the lock of the writers.

        Parameters
        ----------
        values
            JSON values; ``number`` and ``previous`` are the chain's own names.

        Raises
        ------
        ChainError
            The chain is broken: nothing is added to it.
        StorageError
            The disk refuses.
        """
        whole = self._whole()
        links = self._links(whole)
        number, previous = len(links) + 1, links[-1].digest if links else GENESIS
        line = canonical({**values, "number": number, "previous": previous}).encode()
        append_bytes(self.path, len(whole), line + b"\n")
        return Link(number, hashlib.sha256(line).hexdigest(), dict(values))

    def _whole(self) -> bytes:
        with disk_errors(self.path, "read"):
            try:
                content = self.path.read_bytes()
            except FileNotFoundError:
                return b""
        return content[: content.rfind(b"\n") + 1]

    def _links(self, whole: bytes) -> tuple[Link, ...]:
        links: list[Link] = []
        previous = GENESIS
        for number, line in enumerate(whole.splitlines(), 1):
            values = self._parsed(number, line)
            if values.pop("number", None) != number or values.pop("previous", None) != previous:
                raise ChainError(
                    f"line {number} of {self.path} does not follow the line before it: a line was edited, removed or "
                    "put in. Restore the file from a copy"
                )
            previous = hashlib.sha256(line).hexdigest()
            links.append(Link(number, previous, values))
        return tuple(links)

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            values = json.loads(line)
        except ValueError as error:
            raise ChainError(
                f"line {number} of {self.path} is not a record ({error}). Restore the file from a copy"
            ) from error
        if not isinstance(values, dict):
            raise ChainError(f"line {number} of {self.path} is not a record. Restore the file from a copy")
        return values


def canonical(values: Mapping[str, Any]) -> str:
    """JSON on one line with sorted keys and no blanks; doubles read back equal.

    Raises
    ------
    ValueError
        A number is NaN or infinite.
    """
    return json.dumps(values, allow_nan=False, sort_keys=True, separators=(",", ":"))
