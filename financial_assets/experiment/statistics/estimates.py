"""A number with its interval, and the one for days that move together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from financial_assets.errors import ExperimentError
from financial_assets.experiment.statistics.power import autocorrelation_effect
from financial_assets.scoring.distributions import student_t_quantile

__all__ = ["Estimate", "hac_mean"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, or another figure, with its confidence interval; days are the independent units."""

    estimate: float
    low: float
    high: float
    days: int
    observations: int
    level: float

    @property
    def spans_zero(self) -> bool:
        """Whether zero cannot be excluded."""
        return self.low <= 0 <= self.high

    def times(self, factor: float) -> Estimate:
        """The same in another unit; a negative factor turns the interval round."""
        low, high = sorted((factor * self.low, factor * self.high))
        return Estimate(factor * self.estimate, low, high, self.days, self.observations, self.level)


def hac_mean(daily: np.ndarray, level: float = 0.95) -> tuple[Estimate, int]:
    """Mean of daily values with an interval that allows for days that move together.

    Parameters
    ----------
    daily
        One value a day, in order.
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
    return Estimate(mean, mean - half, mean + half, days, days, level), lags
