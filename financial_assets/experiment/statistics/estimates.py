"""The mean of daily values, with an interval for days that are correlated."""

from __future__ import annotations

import math

import numpy as np

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.power import autocorrelation_effect
from financial_assets.scoring.distributions import student_t_quantile
from financial_assets.scoring.intervals import Interval

__all__ = ["hac_mean"]


def hac_mean(daily: np.ndarray, level: float = 0.95) -> tuple[Interval, int]:
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
        The estimate, and the lags of Bartlett's weights: ``4 (days / 100) ** (2 / 9)``, rounded down (Newey and West
        1994, Automatic lag selection in covariance matrix estimation).
    """
    values = np.asarray(daily, np.float64)
    days = values.size
    if days < 2:
        raise ExperimentError("a mean with an interval needs at least two days")
    lags = min(int(4 * (days / 100) ** (2 / 9)), days - 2)
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    half = 0.0
    if spread > 0:
        error = spread * math.sqrt(autocorrelation_effect(values, lags) / days)
        half = student_t_quantile(0.5 + level / 2, days - 1) * error
    return Interval(mean, mean - half, mean + half, days, days, level), lags
