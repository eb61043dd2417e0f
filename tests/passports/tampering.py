"""What may be done to a file of records: a byte or value changed, a part deleted, two exchanged, the end lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Content = bytes | None
"""``None``: there is no such file."""


def edit_byte(content: bytes, rng: np.random.Generator) -> Content:
    place = int(rng.integers(len(content)))
    return content[:place] + bytes([(content[place] + int(rng.integers(1, 256))) % 256]) + content[place + 1 :]


def edit_value(content: bytes, rng: np.random.Generator) -> Content:
    """A number or text of one record is another one, written as the program writes it."""
    lines = content.decode().split("\n")
    candidates = [place for place, line in enumerate(lines) if line[:1] in ("{", "[")]
    if not candidates:
        return edit_byte(content, rng)
    place = int(rng.choice(candidates))
    document = json.loads(lines[place])
    leaves = [*_leaves(document)]
    holder, key = leaves[int(rng.integers(len(leaves)))]
    value = holder[key]
    if isinstance(value, bool) or value is None:
        holder[key] = not value
    elif isinstance(value, int | float):
        holder[key] = value + (1 if isinstance(value, int) else 1e-6 * max(1.0, abs(value)))
    else:
        holder[key] = f"{value}x"
    lines[place] = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return "\n".join(lines).encode()


def _leaves(document: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in [*document.items()] if isinstance(document, dict) else [*enumerate(document)]:
        if isinstance(value, dict | list) and value:
            yield from _leaves(value)
        else:
            yield document, key


def delete(content: bytes, rng: np.random.Generator) -> Content:
    lines = content.splitlines(keepends=True)
    if len(lines) < 2:
        return None
    del lines[int(rng.integers(len(lines)))]
    return b"".join(lines)


def reorder(content: bytes, rng: np.random.Generator) -> Content:
    lines = content.splitlines(keepends=True)
    if len({*lines}) < 2:
        half = 1 + int(rng.integers(max(len(content) - 1, 1)))
        moved = content[half:] + content[:half]
        return moved if moved != content else None
    while True:
        first, second = rng.choice(len(lines), 2, replace=False)
        if lines[first] != lines[second]:
            lines[first], lines[second] = lines[second], lines[first]
            return b"".join(lines)


def truncate(content: bytes, rng: np.random.Generator) -> Content:
    lines = content.splitlines(keepends=True)
    if len(lines) > 1 and rng.random() < 0.5:  # whole records of the end: what is left is in order by itself
        return b"".join(lines[: int(rng.integers(len(lines)))])
    return content[: int(rng.integers(len(content)))]


KINDS: Mapping[str, Callable[[bytes, np.random.Generator], Content]] = {
    "edit a byte": edit_byte,
    "edit a value": edit_value,
    "delete": delete,
    "reorder": reorder,
    "truncate": truncate,
}


def checksums(folder: Path) -> None:
    """What a forger who knows the format does afterwards: the list of digests fits again."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    names = {path.relative_to(folder).as_posix(): path for path in files}
    lines = (f"{hashlib.sha256(names[name].read_bytes()).hexdigest()}  {name}\n" for name in sorted(names))
    (folder / "SHA256SUMS").write_text("".join(lines))


def tamper(
    verifier: ModuleType, folder: Path, rng: np.random.Generator, *, key: str | None = None, forge: bool = False
) -> tuple[str, str, bool]:
    """Tamper with one file of a passport, verify, and put it back.

    Parameters
    ----------
    verifier, folder
        The verifier, and a whole passport.
    rng
        Draws file, kind and place.
    key
        The owner's, if it is known.
    forge
        Whether the list of digests is made to fit.

    Returns
    -------
    tuple
        File, kind, and whether it was found.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not (forge and path.name == "SHA256SUMS"))
    path, kind = paths[int(rng.integers(len(paths)))], [*KINDS][int(rng.integers(len(KINDS)))]
    whole, sums = path.read_bytes(), (folder / "SHA256SUMS").read_bytes()
    changed = KINDS[kind](whole, rng)
    assert changed != whole
    try:
        path.unlink() if changed is None else path.write_bytes(changed)
        if forge:
            checksums(folder)
        status = verifier.verify(folder, key)[1]
    finally:
        path.write_bytes(whole)
        (folder / "SHA256SUMS").write_bytes(sums)
    return path.relative_to(folder).as_posix(), kind, status != 0
