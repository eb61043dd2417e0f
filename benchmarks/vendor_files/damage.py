"""Damage to files of prices after which the right answer is still known: the true bars, or a refusal.

No damage here turns one sensible number into another: nobody could notice that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["BINARY_DAMAGE", "PACKED_DAMAGE", "TEXT_DAMAGE", "Damage"]

Change = Callable[[bytes, np.random.Generator], bytes]
_SENSELESS = (
    "abc",
    "1.2.3",
    "12,3,4",
    "--5",
    "0x1F",
    "1e",
    "1_000",
    "TRUE",
    "=A1+B1",
    "#REF!",
    "\u0663",
    "5 5",
    "$",
    "%",
)
_MISSING = ("", "N/A", "null", "NaN", "-")
_HARMLESS = "xyzqw$%#@!~'\" \t\u00e9\u20ac"


@dataclass(frozen=True)
class Damage:
    """A kind of damage.

    Attributes
    ----------
    name
        For the table.
    change
        Bytes to damaged bytes.
    loses_rows
        Whether rows may be missing afterwards.
    """

    name: str
    change: Change
    loses_rows: bool = False


def _separator(text: str) -> str:
    head = next(
        (line for line in text.splitlines() if line.count(",") + line.count(";") + line.count("\t") > 3), text[:80]
    )
    return max(",;\t|", key=head.count)


def _on_text(change: Callable[[str, np.random.Generator], str]) -> Change:
    def changed(data: bytes, rng: np.random.Generator) -> bytes:
        encoding = (
            "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-16-le" if b"\x00" in data[:4] else "utf-8-sig"
        )
        return change(data.decode(encoding), rng).encode(encoding)

    return changed


def _on_lines(change: Callable[[list[str], np.random.Generator], list[str]]) -> Change:
    return _on_text(lambda text, rng: "\n".join(change(text.splitlines(), rng)) + "\n")


def _at(text: str, rng: np.random.Generator, pattern: str) -> tuple[int, int] | None:
    places = [match.span() for match in re.finditer(pattern, text)]
    return places[int(rng.integers(len(places)))] if places else None


def _without_separator(text: str, rng: np.random.Generator) -> str:
    place = _at(text, rng, re.escape(_separator(text)))
    return text if place is None else text[: place[0]] + text[place[1] :]


def _inserted(what: Callable[[str, np.random.Generator], str]) -> Callable[[str, np.random.Generator], str]:
    def change(text: str, rng: np.random.Generator) -> str:
        place = int(rng.integers(len(text) + 1))
        return text[:place] + what(text, rng) + text[place:]

    return change


def _cut(text: str, rng: np.random.Generator) -> str:
    # A number cut in its middle is another number: cut behind a separator or a line.
    place = _at(text, rng, re.escape(_separator(text)) + r"|\n")
    return text if place is None else text[: place[1]]


def _cell(value: Callable[[str, np.random.Generator], str], *, header: bool = False) -> Change:
    """Another value in one cell that is not quoted."""

    def change(lines: list[str], rng: np.random.Generator) -> list[str]:
        separator = _separator("\n".join(lines))
        chosen = (
            int(rng.integers(0, min(3, len(lines))))
            if header
            else int(rng.integers(min(3, len(lines) - 1), len(lines)))
        )
        if '"' in lines[chosen]:
            return lines
        cells = lines[chosen].split(separator)
        at = int(rng.integers(len(cells)))
        cells[at] = value(cells[at], rng)
        return [*lines[:chosen], separator.join(cells), *lines[chosen + 1 :]]

    return _on_lines(change)


def _pick(*values: str) -> Callable[[str, np.random.Generator], str]:
    return lambda _, rng: values[int(rng.integers(len(values)))]


def _repeat_line(lines: list[str], rng: np.random.Generator) -> list[str]:
    source, target = rng.integers(len(lines), size=2)
    return [*lines[:target], lines[source], *lines[target:]]


def _drop_line(lines: list[str], rng: np.random.Generator) -> list[str]:
    at = int(rng.integers(len(lines)))
    return [*lines[:at], *lines[at + 1 :]]


def _shuffle(lines: list[str], rng: np.random.Generator) -> list[str]:
    first = min(3, len(lines))
    return [*lines[:first], *(lines[first + at] for at in rng.permutation(len(lines) - first))]


def _other_date(cell: str, rng: np.random.Generator) -> str:
    """The same day written otherwise, if the cell is a day."""
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", cell)
    if match is None:
        return cell
    year, month, day = match.groups()
    styles = (
        f"{month}/{day}/{year}",
        f"{day}/{month}/{year}",
        f"{year}{month}{day}",
        f"{day}.{month}.{year}",
        f"{year}-{day}-{month}x",
    )
    return styles[int(rng.integers(len(styles)))]


def _dates_in_one_style(text: str, rng: np.random.Generator) -> str:
    style = (r"\2/\3/\1", r"\3/\2/\1", r"\3-\2-\1", r"\2-\3-\1", r"\3.\2.\1")[int(rng.integers(5))]
    return re.sub(r"\b(20\d\d)-(\d\d)-(\d\d)\b", style, text)


def _mixed_marks(cell: str, rng: np.random.Generator) -> str:
    return '"' + cell.replace(".", ",") + '"' if re.fullmatch(r"\d+\.\d{1,2}", cell) else cell


def _endings(text: str, rng: np.random.Generator) -> str:
    ends = ("\n", "\r\n", "\n\n", "\r\n\r\n", " \n")
    return "".join(line + ends[int(rng.integers(len(ends)))] for line in text.splitlines())


def _surplus(lines: list[str], rng: np.random.Generator) -> list[str]:
    separator = _separator("\n".join(lines))
    return [line + separator * int(rng.integers(3)) for line in lines]


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(len(data), size=int(rng.integers(1, 4))):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


TEXT_DAMAGE = (
    Damage("none", lambda data, rng: data),
    Damage("a separator less", _on_text(_without_separator), loses_rows=True),
    Damage("a separator more", _on_text(_inserted(lambda text, rng: _separator(text))), loses_rows=True),
    Damage("a quote more", _on_text(_inserted(lambda text, rng: '"')), loses_rows=True),
    Damage(
        "a character more",
        _on_text(_inserted(lambda text, rng: _HARMLESS[int(rng.integers(len(_HARMLESS)))])),
        loses_rows=True,
    ),
    Damage("a line break more", _on_text(_inserted(lambda text, rng: "\n")), loses_rows=True),
    Damage("cut", _on_text(_cut), loses_rows=True),
    Damage("a senseless cell", _cell(_pick(*_SENSELESS)), loses_rows=True),
    Damage("a missing cell", _cell(_pick(*_MISSING)), loses_rows=True),
    Damage(
        "a name unknown or missing",
        _cell(_pick("", "x", "Unnamed: 0", "close", "date", "ticker"), header=True),
        loses_rows=True,
    ),
    Damage("a line twice", _on_lines(_repeat_line)),
    Damage("a line less", _on_lines(_drop_line), loses_rows=True),
    Damage("lines in disorder", _on_lines(_shuffle)),
    Damage("one date in another style", _cell(_other_date), loses_rows=True),
    Damage("all dates in another style", _on_text(_dates_in_one_style), loses_rows=True),
    Damage("one decimal comma", _cell(_mixed_marks), loses_rows=True),
    Damage("line endings mixed", _on_text(_endings), loses_rows=True),
    Damage("cells too many", _on_lines(_surplus), loses_rows=True),
    Damage("UTF-16", lambda data, rng: data.decode("utf-8", "replace").encode("utf-16"), loses_rows=True),
    Damage(
        "UTF-16, a byte less", lambda data, rng: data.decode("utf-8", "replace").encode("utf-16")[:-1], loses_rows=True
    ),
    Damage(
        "zero bytes", lambda data, rng: data[: len(data) // 2] + b"\x00\x00" + data[len(data) // 2 :], loses_rows=True
    ),
    Damage("bytes in front", lambda data, rng: bytes(rng.integers(256, size=9, dtype="uint8")) + data, loses_rows=True),
    Damage("empty", lambda data, rng: b"", loses_rows=True),
    Damage("noise", lambda data, rng: bytes(rng.integers(256, size=len(data), dtype="uint8")), loses_rows=True),
)
PACKED_DAMAGE = (
    Damage("none", lambda data, rng: data),
    Damage("bits flipped", _flip, loses_rows=True),
    Damage("cut", _truncated, loses_rows=True),
    Damage("noise", lambda data, rng: bytes(rng.integers(256, size=len(data), dtype="uint8")), loses_rows=True),
)
"""For files with check sums of their content."""
BINARY_DAMAGE = tuple(damage for damage in PACKED_DAMAGE if damage.name != "bits flipped")
"""Parquet and Arrow have none: a flipped bit there is another number."""
