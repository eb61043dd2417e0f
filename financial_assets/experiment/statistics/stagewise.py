"""The Z statistic of a planned look, from daily differences whose variance is estimated."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from financial_assets.errors import ExperimentError

__all__ = ["daily_z", "z_of_t"]


def daily_z(differences: ArrayLike, margin: float = 0.0) -> float:
    """Standardised mean of daily differences less ``margin``: the normal deviate with the p-value of Student's t.

    The significance-level approach of Jennison and Turnbull (2000, section 3.8): boundaries that were made for a known
    variance are kept honest with few days.

    Raises
    ------
    ExperimentError
        With fewer than two days, or days that do not vary.
    """
    days = np.asarray(differences, np.float64)
    if days.ndim != 1 or days.size < 2 or not np.isfinite(days).all():
        raise ExperimentError("a look needs at least two finite daily differences")
    deviation = float(days.std(ddof=1))
    if deviation == 0:
        raise ExperimentError("the daily differences do not vary: both arms answer alike, there is nothing to test")
    return float(z_of_t((float(days.mean()) - margin) / (deviation / math.sqrt(days.size)), days.size - 1))


def z_of_t(t: ArrayLike, freedom: ArrayLike) -> NDArray[np.float64]:
    """Normal deviates with the p-values of Student's t."""
    tail = special.stdtr(freedom, -np.abs(np.asarray(t, np.float64)))  # the small tail: exact far out
    return np.copysign(-special.ndtri(tail), t)
