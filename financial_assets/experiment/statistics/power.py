"""The mean of daily values: the smallest that given days can show, and the days for a given one.

The usual normal approximation for a mean of independent days: Lachin, "Introduction to sample size determination and
power analysis for clinical trials", Controlled Clinical Trials 2 (1981).
"""

from __future__ import annotations

import math

import numpy as np

from financial_assets.scoring.distributions import normal_quantile


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


def _spread(daily: np.ndarray) -> float | None:
    if len(daily) < 2:
        return None
    spread = float(np.std(daily, ddof=1))
    return spread if spread > 0 else None


def _factor(level: float, power: float) -> float:
    """Deviations of the mean between "no effect" and an effect that a test at this level finds with this power."""
    return normal_quantile(0.5 + level / 2) + normal_quantile(power)
