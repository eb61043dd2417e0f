"""Checks shared by all scores: what is wrong with an argument is said under its name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def vector(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """``values`` as float64 ``[n]``; ``ValueError`` naming the argument when empty, not 1-dimensional or not finite."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers: {error}") from None
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, not of shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name} holds {bad.size} values that are NaN or infinite, the first at position {bad[0]}")
    return array


def probabilities(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """A ``vector`` whose values lie in [0, 1]."""
    array = vector(name, values)
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"{name} must lie in [0, 1], found {array.min():g} to {array.max():g}")
    return array


def outcomes(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    """A ``vector`` of zeros and ones (or booleans), as booleans ``[n]``."""
    array = vector(name, values)
    if not np.isin(array, (0.0, 1.0)).all():
        raise ValueError(f"{name} must hold only 0 and 1 (or booleans)")
    return array == 1.0


def levels(name: str, value: float) -> float:
    """``value`` when it lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, not {value}")
    return float(value)


def same_shape(**arrays: NDArray[Any]) -> None:
    """``ValueError`` naming the arguments unless all have the same shape."""
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes differ: {shapes}")
