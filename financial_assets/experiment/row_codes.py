"""Cells of many rows as numbers: they are compared and counted in a fraction of the time of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


class RowCodes:
    """Cells of rows as numbers, each column looked at once: requests are many, their models and statuses few.

    Parameters
    ----------
    rows
        With the columns that are asked for.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows
        self._known: dict[str, tuple[NDArray[np.intp], NDArray[Any]]] = {}

    def of(self, column: str) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Number of each row's value, -1 for none, and the values by number."""
        if column not in self._known:
            numbers, distinct = pd.factorize(self._rows[column].to_numpy())
            self._known[column] = numbers, np.asarray(distinct)
        return self._known[column]

    def are(self, column: str, *values: str) -> NDArray[np.bool_]:
        """Whether each row has one of these values."""
        numbers, distinct = self.of(column)
        return np.array([*(one in values for one in distinct), False])[numbers]  # -1, the last one, is nothing

    def together(self, *columns: str) -> tuple[NDArray[np.intp], list[tuple[Any, ...]]]:
        """Number of each row's values in some columns ``[row]``, and these values by number, as they came first."""
        codes = np.zeros(len(self._rows), np.intp)
        for column in columns:
            numbers, distinct = self.of(column)
            codes = codes * (len(distinct) + 1) + numbers + 1  # nothing has the number -1
        codes, distinct = pd.factorize(codes)
        first = np.empty(len(distinct), np.intp)
        first[codes[::-1]] = np.arange(len(codes))[::-1]  # in reverse: of what is written to a place, the last stays
        cells = [self._rows[column].to_numpy() for column in columns]
        return codes, [tuple(values[row] for values in cells) for row in first]
