"""The mean of daily values: its interval, the smallest that given days can show, and the days for a given one.

The usual normal approximation for a mean of independent days: Lachin, "Introduction to sample size determination and
power analysis for clinical trials", Controlled Clinical Trials 2 (1981).
"""

from __future__ import annotations

import math

import numpy as np

from financial_assets.errors import ExperimentError
from financial_assets.scoring.distributions import normal_quantile, student_t_quantile
from financial_assets.scoring.intervals import Interval


def minimum_detectable_effect(daily: np.ndarray, *, level: float = 0.95, power: float = 0.8) -> float | None:
    """The smallest true mean that a two-sided test of the daily values' mean finds.

    Parameters
    ----------
    daily
        One value per day.
    level
        1 minus the two-sided error rate of the test.
    power
        Probability of finding it.

    Returns
    -------
    float or None
        In units of ``daily``; ``None`` with fewer than 2 days or values that do not vary.
    """
    spread = _spread(daily)
    return None if spread is None else _factor(level, power) * spread / math.sqrt(len(daily))


def days_needed(daily: np.ndarray, effect: float, *, level: float = 0.95, power: float = 0.8) -> int | None:
    """Days of such values after which a true mean of ``effect`` is found; see :func:`minimum_detectable_effect`."""
    spread = _spread(daily)
    return None if spread is None else math.ceil((_factor(level, power) * spread / effect) ** 2)


def autocorrelation_effect(daily: np.ndarray, lags: int) -> float:
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
    ExperimentError
        With days that do not vary, or not more than ``lags``.
    """
    if lags < 0 or len(daily) <= lags + 1 or _spread(daily) is None:
        raise ExperimentError(f"the autocorrelation of {len(daily)} days up to lag {lags} cannot be estimated")
    # Autocovariances are divided by all days, not by the pairs of each lag: so Bartlett's sum cannot become negative.
    off = daily - np.mean(daily)
    total = float(off @ off)
    weighted = (1 - lag / (lags + 1) for lag in range(1, lags + 1))
    factor = 1 + 2 * sum(w * float(off[lag:] @ off[:-lag]) / total for lag, w in enumerate(weighted, 1))
    return max(factor, 1.0)


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


def _spread(daily: np.ndarray) -> float | None:
    if len(daily) < 2:
        return None
    spread = float(np.std(daily, ddof=1))
    return spread if spread > 0 else None


def _factor(level: float, power: float) -> float:
    """Deviations of the mean between "no effect" and an effect that a test at this level finds with this power."""
    return normal_quantile(0.5 + level / 2) + normal_quantile(power)
