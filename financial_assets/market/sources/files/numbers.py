"""Numbers as files write them: points or commas, thousands, currency signs, 68.9M.

What a point and a comma mean is decided for all columns of a file together, because one price with two decimals settles
what a volume of three digits after a point is. Where nothing settles it, nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from financial_assets.market.sources.files.cells import BadCellsError, ColumnError

MISSING = ("", "-", "--", "NaN", "nan", "NA", "N/A", "n/a", "#N/A", "null", "NULL", "None", "none", ".")
"""Cells without a value: they go on to the checks of prices."""

_CURRENCY = "$€£¥"
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9}
_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_GROUPED = {mark: re.compile(rf"[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+") for mark in ".,"}
_INDIAN = re.compile(r"[1-9]\d?(?:,\d{2})+,\d{3}")
"""Lakhs and crores: 1,23,45,678."""
_SPACED = re.compile(r"(?<=\d)[ \u00a0\u202f'\u2019](?=\d{3}(?!\d))")


def is_text(column: pa.Array) -> bool:
    """Whether the cells are text, so that ``read_numbers`` has to find out what points and commas mean."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def read_numbers(columns: Mapping[str, pa.Array], mark: str | None, *, separator: str) -> dict[str, np.ndarray]:
    """Float64 values of a file's columns, by name; NaN where a cell is empty.

    Parameters
    ----------
    mark
        Decimal mark of text, ``.`` or ``,``; ``None``: the one that all cells allow.
    separator
        What stands between the file's cells: between commas a point is the decimal mark.

    Raises
    ------
    BadCellsError
        Some cells are not numbers.
    ColumnError
        Text can be read with a decimal point and with a decimal comma.
    """
    texts = {name: _distinct(column) for name, column in columns.items() if is_text(column)}
    if mark is None:
        mark = _decimal_mark([cell for cells, _ in texts.values() for cell in cells], separator)
    return {
        name: _from_text(name, columns[name], *texts[name], mark) if name in texts else _from_numbers(column)
        for name, column in columns.items()
    }


def _distinct(column: pa.Array) -> tuple[list[str], np.ndarray]:
    """Distinct cells, bare, with an empty one at the end, and for each row the place of its cell."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    encoded = column.cast(pa.string()).dictionary_encode()
    cells = [_bare(cell) for cell in encoded.dictionary.to_pylist()]
    return [*cells, ""], encoded.indices.fill_null(len(cells)).to_numpy(zero_copy_only=False).astype("int64")


def _bare(cell: str) -> str:
    text = cell.strip().strip('"').strip()
    if text in MISSING:
        return ""
    sign = text[:1] if text[:1] in "+-" else ""
    return sign + _SPACED.sub("", text[len(sign) :].lstrip(_CURRENCY).rstrip(_CURRENCY).strip())


def _decimal_mark(cells: Iterable[str], separator: str) -> str:
    """The mark that stands before decimals in these cells."""
    witness: dict[str, str] = {}
    doubtful: dict[str, str] = {}
    for cell in cells:
        body = cell.lstrip("+-").rstrip("KMBkmb ")
        marks = [sign for sign in ".," if sign in body]
        if not marks:
            continue
        last = max(marks, key=body.rfind)
        if len(marks) == 2:
            witness.setdefault(last, cell)
        elif body.count(last) > 1:
            witness.setdefault("," if last == "." else ".", cell)
        elif not _GROUPED[last].fullmatch(body):
            witness.setdefault(last, cell)
        else:
            doubtful.setdefault(last, cell)
    if len(witness) == 2:
        raise ColumnError(
            f"its columns of prices mix a decimal point ({witness['.']}) with a decimal comma ({witness[',']})"
        )
    if witness:
        return next(iter(witness))
    if "," in doubtful or ("." in doubtful and separator != ","):
        sign, cell = next(iter(doubtful.items())) if len(doubtful) == 1 else (",", doubtful[","])
        digits = cell.replace(sign, "")
        raise ColumnError(
            f"its columns of prices are ambiguous: {cell!r} is {digits} or {cell.replace(sign, '.')}, and no cell "
            "decides; set DECIMAL_MARK=point or comma"
        )
    return "."


def _from_text(name: str, column: pa.Array, cells: Sequence[str], codes: np.ndarray, mark: str) -> np.ndarray:
    values = np.array([_number(cell, mark, name) for cell in cells], dtype="float64")
    bad = np.array([bool(cell) and np.isnan(value) for cell, value in zip(cells, values, strict=True)])[codes]
    if bad.any():
        raise BadCellsError(bad, column, "is not a number", name)
    return values[codes]


def _number(cell: str, mark: str, name: str) -> float:
    """The value of a bare cell; NaN if it is none."""
    factor = _UNITS.get(cell[-1:].upper(), 1.0) if name == "volume" else 1.0
    body = cell[:-1].strip() if factor > 1.0 else cell
    thousands = "," if mark == "." else "."
    whole, point, decimals = body.partition(mark)
    if thousands in whole:
        sign = whole[:1] if whole[:1] in "+-" else ""
        grouped = whole[len(sign) :]
        if not (_GROUPED[thousands].fullmatch(grouped) or (mark == "." and _INDIAN.fullmatch(grouped))):
            return float("nan")
        whole = whole.replace(thousands, "")
    text = whole + ("." if point else "") + decimals
    return float(text) * factor if _PLAIN.fullmatch(text) else float("nan")


def _from_numbers(column: pa.Array) -> np.ndarray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        raise ColumnError(f"its columns of prices are of type {kind}, which holds no numbers")
    values = column.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy(zero_copy_only=False)
    return np.array(values, dtype="float64")
