"""What an expanded program is made of: tasks on rows, and the matrices that rows are multiplied by."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
"""What a product multiplies a series by: ``[sessions in, sessions out]``."""


@dataclass(frozen=True)
class Kind:
    """What must be equal for tasks to be computed together: operation, length, and which operands are numbers."""

    name: str
    length: int
    is_constant: tuple[bool, ...] = ()
    detail: Hashable = None


@dataclass(frozen=True, eq=False)
class Task:
    """One row of ``kind.length`` numbers.

    Attributes
    ----------
    kind
        The operation.
    operands
        Rows or numbers; rows have the length of the result, but for a product, a take, a maximum or an age.
    result
        Number of the row.
    matrix
        Of a product.
    """

    kind: Kind
    operands: tuple[int | float, ...]
    result: int
    matrix: Matrix | None = None


def band(weights: NDArray[np.float64], size: int, length: int) -> NDArray[np.float64]:
    """Weights, newest session first, for each of the last ``length`` of ``size`` sessions."""
    places = np.arange(size - length, size)[:, None] - np.arange(len(weights))
    return scattered(places, weights, size)


def scattered(places: NDArray[np.int64], weights: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """A matrix of ``size`` rows with the weights at ``places[column]``."""
    matrix = np.zeros((size, len(places)))
    matrix[places, np.arange(len(places))[:, None]] = weights
    return matrix


def blocks(count: int, width: int) -> NDArray[np.float64]:
    """Sums of ``count`` blocks of ``width`` numbers."""
    return np.repeat(np.eye(count), width, axis=0)
