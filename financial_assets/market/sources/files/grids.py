"""Tables as they stand in a file: columns with their header cells, before anybody knows what they mean."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

from financial_assets.errors import SourceError
from financial_assets.market.sources.files.contents import Content, text_of
from financial_assets.market.sources.files.names import PRICE_FIELDS, field_of, fields_of
from financial_assets.market.sources.files.numbers import MISSING

_SEPARATORS = ",;\t|"
_SMALL = 4 << 20
"""Bytes that are read sooner than threads are started."""
_HEAD_LINES = 25
"""Lines among which the column names are looked for: some vendors write a few lines above them."""

_FOOT_LINES = 5
"""The same below the rows."""


class NoTableError(SourceError):
    """A text file without a line of column names."""


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes
    ----------
    origin
        The file, for messages.
    header
        Header cells of each column from the top; several for a frame with levels.
    load
        Reads columns by position: as numbers where they can be and ``typed`` asks for it, else as text or as stored.
    place
        Where a row stands, for messages: ``line 7``.
    separator
        What stands between the cells of text; empty for Parquet and Arrow.
    notes
        What was left out.
    """

    origin: str
    header: tuple[tuple[str, ...], ...]
    load: Callable[[Sequence[int], Sequence[int]], dict[int, pa.Array]]
    place: Callable[[int], str]
    separator: str = ""
    notes: tuple[str, ...] = field(default=())


def read_grid(content: Content) -> Grid:
    """The table of a file; its cells are read when they are asked for.

    Raises
    ------
    SourceError
        It is not a table.
    """
    if content.kind == "text":
        return _text_grid(content)
    try:
        table = _stored_table(content)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SourceError(f"{content.origin}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not table.num_rows:
        raise SourceError(f"{content.origin}: has no rows")
    header = tuple(_levels(name) for name in table.column_names)

    def load(columns: Sequence[int], typed: Sequence[int]) -> dict[int, pa.Array]:
        return {place: _whole(table.column(place)) for place in (*columns, *typed)}

    return Grid(content.origin, header, load, lambda row: f"row {row + 1}")


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
        is_text = column.type.value_type == pa.string() and not any(
            chunk.dictionary.null_count for chunk in column.chunks
        )
        column = column if is_text else column.cast(column.type.value_type)
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def _stored_table(content: Content) -> pa.Table:
    source = pa.BufferReader(content.data)
    if content.kind == "parquet":
        return _parquet_table(source)
    if content.kind == "arrow stream":
        return pyarrow.ipc.open_stream(source).read_all()
    return pyarrow.feather.read_table(source)


def _parquet_table(source: pa.NativeFile) -> pa.Table:
    """Text as codes and distinct texts: a universe has few tickers and many rows."""
    file = pyarrow.parquet.ParquetFile(source)
    texts = [column.name for column in file.schema_arrow if pa.types.is_string(column.type)]
    source.seek(0)
    return pyarrow.parquet.read_table(source, read_dictionary=texts)


def _levels(name: str) -> tuple[str, ...]:
    """``('Close', 'AAPL')``, pandas' spelling of a column with levels, as its parts; pandas' names of indexes away."""
    if re.fullmatch(r"\(\s*['\"].*['\"]\s*,?\s*\)", name):
        try:
            parts = ast.literal_eval(name)
        except (ValueError, SyntaxError):
            return (name,)
        return tuple(map(str, parts)) if isinstance(parts, tuple) else (name,)
    return ("",) if re.fullmatch(r"__index_level_\d+__", name) else (name,)


def _text_grid(content: Content) -> Grid:
    data = text_of(content)
    lines = _head(data)
    if not any(line.strip() for line in lines):
        raise SourceError(f"{content.origin}: is empty")
    separator, first, count = _find_header(content.origin, lines)
    offset = _offset(data, first + count)
    body, notes = _without_footer(data, offset, separator)
    rows = [_cells(line, separator) for line in lines[first : first + count]]
    width = len(rows[0])
    if (
        count == 1
        and not rows[0][-1]
        and len(_cells(lines[first + 1], separator) if first + 1 < len(lines) else []) < width
    ):
        width -= 1  # the names end with a separator, the rows do not
    header = tuple(tuple(row[place] if place < len(row) else "" for row in rows) for place in range(width))
    if count == 1:
        header = tuple(_levels(cells[0]) for cells in header)
    if not body.strip():
        raise SourceError(f"{content.origin}: has no rows")
    reader = _TextReader(content.origin, body, separator, width, first + count)
    return Grid(content.origin, header, reader.load, reader.place, separator, notes)


def _head(data: bytes) -> list[str]:
    text = data[: 1 << 20].decode(errors="replace")
    return (
        text.splitlines()[:_HEAD_LINES]
        if "\x0b" not in text and "\x0c" not in text
        else re.split(r"\r\n|\r|\n", text)[:_HEAD_LINES]
    )


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]


def _find_header(origin: str, lines: Sequence[str]) -> tuple[str, int, int]:
    """Separator, first line of the header, and how many lines it has."""
    best: tuple[int, str, int] = (0, ",", 0)
    for place, line in enumerate(lines):
        for separator in _SEPARATORS:
            score = len(fields_of(_cells(line, separator)))
            if score > best[0]:
                best = (score, separator, place)
        if best[0] >= 4:
            break
    score, separator, place = best
    if score < 2:
        flat = max(_SEPARATORS, key=lambda sign: lines[0].count(sign))
        if "close" not in lines[0].lower():
            raise NoTableError(
                f"{origin}: no line with column names such as date, open, high, low, close, volume; it begins with "
                f"{lines[0][:60]!r}"
            )
        return flat, 0, 1
    return separator, *_header_lines(lines, separator, place)


def _header_lines(lines: Sequence[str], separator: str, place: int) -> tuple[int, int]:
    """First line and number of lines of a header whose fields stand in line ``place``.

    pandas writes a frame with levels (yfinance's downloads) as a line of fields, one of tickers, in either order, and
    one with the name of the index.
    """
    fields = _cells(lines[place], separator)
    prices = [at for at, cell in enumerate(fields) if field_of(cell) in PRICE_FIELDS and at > 0]

    def names_tickers(number: int) -> bool:
        if not 0 <= number < len(lines):
            return False
        cells = _cells(lines[number], separator)
        # Bars of a day without a trade are words, too: null,null,null behind a date.
        if not prices or len(cells) != len(fields) or any(sign.isdigit() for sign in cells[0]):
            return False
        names = [cells[at] for at in prices]
        return all(
            name not in MISSING and field_of(name) is None and re.search(r"[A-Za-z^]", name) is not None
            for name in names
        )

    def names_index(number: int) -> bool:
        cells = _cells(lines[number], separator) if number < len(lines) else []
        return bool(cells) and any(cells) and not any(cells[at] for at in prices if at < len(cells))

    first, count = (place - 1, 2) if names_tickers(place - 1) else (place, 2 if names_tickers(place + 1) else 1)
    return first, count + (count == 2 and names_index(first + 2))


def _offset(data: bytes, lines: int) -> int:
    """Where the line after the first ``lines`` begins."""
    place = 0
    for match in re.finditer(rb"\r\n|\r|\n", data):
        if not lines:
            return place
        lines, place = lines - 1, match.end()
        if not lines:
            return place
    return len(data) if lines else place


def _without_footer(data: bytes, offset: int, separator: str) -> tuple[bytes, tuple[str, ...]]:
    """The rows without last lines of prose: "Downloaded from ... as of ..."."""
    body = data[offset:]
    notes: list[str] = []
    while len(notes) < _FOOT_LINES:
        stripped = body.rstrip()
        start = max(stripped.rfind(b"\n"), stripped.rfind(b"\r")) + 1
        last = stripped[start:].decode(errors="replace")
        cells = [cell for cell in _cells(last, separator) if cell]
        # Prose has a cell of its own, and two words; the torn line of half a file has neither.
        if not start or len(cells) != 1 or not re.search(r"[A-Za-z]{2,}[:.]?\s+[A-Za-z]", cells[0]):
            break
        notes.append(f"left out the last line, {last[:60]!r}")
        body = body[:start]
    return body, tuple(notes)


@dataclass(frozen=True)
class _TextReader:
    origin: str
    body: bytes
    separator: str
    width: int
    header_lines: int

    def load(self, columns: Sequence[int], typed: Sequence[int]) -> dict[int, pa.Array]:
        """See ``Grid.load``."""
        # Between semicolons a point may separate thousands: what it means is decided on the text.
        attempts = [True, False] if self.separator == "," else [False]
        body = self.body
        for is_typed in attempts:
            try:
                try:
                    table = self._parse(body, [*columns, *typed], typed if is_typed else ())
                except pa.ArrowInvalid as error:
                    if "columns, got" not in str(error) or body is not self.body:
                        raise
                    body = self._squared(error)
                    table = self._parse(body, [*columns, *typed], typed if is_typed else ())
            except pa.ArrowInvalid as error:
                if not (is_typed and "conversion error to double" in str(error)):
                    raise self._explained(error) from error
            else:
                return {place: _whole(table.column(f"c{place}")) for place in (*columns, *typed)}
        raise AssertionError("the last attempt returns or raises")

    def _squared(self, error: pa.ArrowInvalid) -> bytes:
        """The rows with as many cells as there are column names, where only empty cells are too many.

        Some programs end the rows, but not the names, with a separator.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self.separator, lineterminator="\n")
        for _, cells in self._rows():
            if len(cells) < self.width or any(cell.strip() for cell in cells[self.width :]):
                raise self._explained(error) from error
            writer.writerow(cells[: self.width])
        return text.getvalue().encode()

    def _parse(self, body: bytes, columns: Sequence[int], typed: Sequence[int]) -> pa.Table:
        names = [f"c{place}" for place in range(self.width)]
        kinds = {f"c{place}": pa.float64() if place in typed else pa.string() for place in columns}
        return pyarrow.csv.read_csv(
            pa.BufferReader(body),
            read_options=pyarrow.csv.ReadOptions(column_names=names, use_threads=len(body) > _SMALL),
            parse_options=pyarrow.csv.ParseOptions(delimiter=self.separator, newlines_in_values=b'"' in body),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=kinds,
                include_columns=[f"c{place}" for place in columns],
                null_values=list(MISSING),
                strings_can_be_null=False,
            ),
        )

    def place(self, row: int) -> str:
        """See ``Grid.place``."""
        for number, (line, _) in enumerate(self._rows()):
            if number == row:
                return f"line {line}"
        return f"row {row + 1}"

    def _rows(self) -> list[tuple[int, list[str]]]:
        """Line numbers and cells, as ``csv`` reads them: for messages only."""
        reader = csv.reader(io.StringIO(self.body.decode(errors="replace"), newline=""), delimiter=self.separator)
        rows: list[tuple[int, list[str]]] = []
        try:
            before = 0
            for cells in reader:
                if len(cells) > 1 or (cells and cells[0].strip() and not cells[0].startswith("#")):
                    rows.append((self.header_lines + before + 1, cells))
                before = reader.line_num
        except csv.Error:
            pass  # the rows up to here can be named
        return rows

    def _explained(self, error: pa.ArrowInvalid) -> SourceError:
        for line, cells in self._rows():
            if len(cells) < self.width or any(cell.strip() for cell in cells[self.width :]):
                return SourceError(
                    f"{self.origin}: cannot be read: line {line} has {len(cells)} cells, the line of column names has "
                    f"{self.width}"
                )
        return SourceError(f"{self.origin}: cannot be read: {' '.join(str(error).split())[:200]}")
