"""The mean of days that move together: its long-run variance (Newey and West 1987), at least that of white noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.scoring.arguments import levels, vector
from financial_assets.scoring.distributions import student_t_quantile
from financial_assets.scoring.intervals import Interval


def autocorrelation_effect(daily: ArrayLike, lags: int) -> float:
    """Variance of the mean of correlated days over that of independent ones, at least 1.

    ``1 + 2 sum (1 - k / (lags + 1)) r_k`` with Bartlett's weights (Newey and West 1987). Below 1 it is not believed: a
    plan does not count on luck.

    Parameters
    ----------
    daily
        One value per day.
    lags
        Days after which no correlation is left; 0 gives 1.

    Raises
    ------
    ValueError
        With days that do not vary, or not more than ``lags``.
    """
    values = vector("daily", daily)
    if lags < 0 or values.size <= lags + 1 or not np.std(values) > 0:
        raise ValueError(f"the autocorrelation of {values.size} days up to lag {lags} cannot be estimated")
    # Autocovariances are divided by all days, not by the pairs of each lag: so Bartlett's sum cannot become negative.
    off = values - np.mean(values)
    total = float(off @ off)
    weighted = (1 - lag / (lags + 1) for lag in range(1, lags + 1))
    factor = 1 + 2 * sum(w * float(off[lag:] @ off[:-lag]) / total for lag, w in enumerate(weighted, 1))
    return max(factor, 1.0)


def automatic_lags(days: int) -> int:
    """Lags of Bartlett's weights: ``4 (days / 100) ** (2 / 9)``, rounded down, at most ``days - 2``.

    Source: Newey and West (1994), Automatic lag selection in covariance matrix estimation.
    """
    return max(min(int(4 * (days / 100) ** (2 / 9)), days - 2), 0)


def hac_mean(daily: ArrayLike, level: float = 0.95) -> tuple[Interval, int]:
    """Mean of daily values with an interval that allows for days that move together.

    Parameters
    ----------
    daily
        One value per day, in order.
    level
        Confidence.

    Returns
    -------
    tuple
        The estimate, and the lags of :func:`automatic_lags`.

    Raises
    ------
    ValueError
        Bad arguments, or fewer than two days.
    """
    values = vector("daily", daily)
    days = values.size
    if days < 2:
        raise ValueError("daily must hold at least two days: a mean of one has no interval")
    half = hac_half_width(values, level)
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half, days, days, level), automatic_lags(days)


def hac_half_width(values: NDArray[np.float64], level: float) -> float:
    """Half the width of the mean's interval, by Student's t; 0 for values that do not vary."""
    days, spread = values.size, float(values.std(ddof=1))
    if not spread > 0:
        return 0.0
    error = spread * math.sqrt(autocorrelation_effect(values, automatic_lags(days)) / days)
    return student_t_quantile(0.5 + levels("level", level) / 2, days - 1) * error
