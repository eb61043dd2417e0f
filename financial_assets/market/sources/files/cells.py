"""What is wrong with a column: some of its cells, or all of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa


class ColumnError(Exception):
    """A column cannot be read as a whole; the text continues ``column date ...``."""


class BadCellsError(Exception):
    """Some cells cannot be read.

    Attributes
    ----------
    bad
        Which, one bool per row.
    column
        The cells as they were.
    problem
        What is wrong with them; continues the cell's text.
    name
        Column of a price frame.
    """

    def __init__(self, bad: np.ndarray, column: pa.Array, problem: str, name: str = "date") -> None:
        super().__init__(problem)
        self.bad = bad
        self.column = column
        self.problem = problem
        self.name = name


def distinct(column: pa.Array) -> pa.DictionaryArray:
    """A column as distinct texts, and for each row the place of its text."""
    return column if pa.types.is_dictionary(column.type) else column.cast(pa.string()).dictionary_encode()


def cells_where(column: pa.Array, test: Callable[[str], bool]) -> np.ndarray:
    """Which cells of a column of text pass a test; each distinct text is tested once, and an empty cell never is."""
    encoded = distinct(column)
    passed = [*(test(text) for text in encoded.dictionary.to_pylist()), False]
    codes = encoded.indices.fill_null(len(passed) - 1).to_numpy(zero_copy_only=False)
    return np.array(passed, dtype=bool)[codes]
