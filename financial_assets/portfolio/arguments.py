"""Checks of panels ``[ticker, session]``: what is wrong with an argument is said under its name."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def matrix(name: str, values: ArrayLike) -> Floats:
    """``values`` as float64 ``[ticker, session]``, NaN allowed; ``ValueError`` when empty or of another form."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers: {error}") from None
    if array.ndim != 2:
        raise ValueError(f"{name} must be [ticker, session], not of shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty")
    return array


def finite_matrix(name: str, values: ArrayLike) -> Floats:
    """A ``matrix`` without NaN and infinite values."""
    array = matrix(name, values)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite{_first(~np.isfinite(array))}")
    return array


def gappy_matrix(name: str, values: ArrayLike) -> Floats:
    """A ``matrix`` that may hold NaN (not known), but nothing infinite."""
    array = matrix(name, values)
    if np.isinf(array).any():
        raise ValueError(f"{name} must be finite (or NaN){_first(np.isinf(array))}")
    return array


def mask(name: str, values: ArrayLike | None, shape: tuple[int, ...]) -> Mask:
    """Booleans of ``shape``; all true for ``None``. Numbers other than 0 and 1 are refused, NaN too."""
    if values is None:
        return np.ones(shape, dtype=bool)
    array = np.asarray(values)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold only booleans (or 0 and 1)")
    return array.astype(bool)


def broadcast(name: str, values: ArrayLike, shape: tuple[int, int]) -> Floats:
    """One number, ``[ticker, 1]`` or ``[ticker, session]`` as a view of ``shape``; NaN allowed, infinity not."""
    try:
        array = np.asarray(values, dtype=np.float64)
        whole = np.broadcast_to(array, shape)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be one number, [ticker, 1] or [ticker, session] of shape {shape}") from None
    if array.ndim == 1 and array.size > 1:
        raise ValueError(f"{name} must be one number, [ticker, 1] or [ticker, session], not {array.shape}")
    if np.isinf(array).any():
        raise ValueError(f"{name} must be finite (or NaN)")
    return whole


def at_least_zero(name: str, value: float) -> float:
    """``value`` when it is finite and at least 0."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be finite and at least 0, not {value}")
    return float(value)


def above_zero(name: str, value: float) -> float:
    """``value`` when it is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and above 0, not {value}")
    return float(value)


def _first(bad: Mask) -> str:
    ticker, session = np.argwhere(bad)[0]
    return f": {int(bad.sum())} values are not, the first of ticker {ticker} in session {session}"
