"""Asymptotic confidence sequence: for scores without a bound (log loss, pinball, P&L), and labelled as such.

Log and pinball losses and returns have no bound that could be bet against. Two honest ways are left: clip the daily
difference at a size named in the plan, and test the mean of the *clipped* difference with :mod:`.betting`; or this
sequence, whose promise holds only in the limit of many days, as that of the usual t interval does, but for all looks at
once (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Time-uniform central limit theory and asymptotic confidence
sequences, Ann. Stat. 52, arXiv 2103.06476, theorem 2.2). It asks for days that are independent, or differences that
are unpredictable, and of finite variance.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from financial_assets.errors import ExperimentError


def clipped(differences: ArrayLike, limit: float) -> NDArray[np.float64]:
    """Daily differences after the pre-registered clipping to ``[-limit, limit]``.

    What is tested afterwards is the mean of the clipped difference, which is not the mean of the difference: say so
    beside the result. An infinite loss is clipped like a large one.

    Raises
    ------
    ExperimentError
        For NaN, or a limit that is not positive and finite.
    """
    days = np.asarray(differences, np.float64)
    if not 0 < limit < math.inf:
        raise ExperimentError(f"the clipping limit must be positive and finite, not {limit}")
    if np.isnan(days).any():
        raise ExperimentError("a missing daily difference cannot be clipped")
    return np.clip(days, -limit, limit)


def precision_for(days: float, alpha: float) -> float:
    """The tuning ``rho`` with which a two-sided sequence is narrowest about this many days (ibid., appendix B.2)."""
    if not (days > 0 and 0 < alpha < 1):
        raise ExperimentError(f"need days > 0 and alpha in (0, 1): {days}, {alpha}")
    twice = -2 * math.log(alpha)
    return math.sqrt((twice + math.log(twice + 1)) / days)


def asymptotic_radius(days: ArrayLike, alpha: float, rho: float) -> NDArray[np.float64]:
    """Half width of the two-sided sequence in standard deviations of a day.

    Parameters
    ----------
    days
        Days seen, any shape.
    alpha
        Error rate over all looks.
    rho
        Tuning, see :func:`precision_for`.
    """
    if not (0 < alpha < 1 and rho > 0):
        raise ExperimentError(f"need alpha in (0, 1) and rho > 0: {alpha}, {rho}")
    t = np.asarray(days, np.float64)
    # Theorem 2.2: the boundary that Robbins' normal mixture gives a Brownian motion, over t for the mean. It grows as
    # sqrt(log t / t), a little faster than a t interval shrinks; that is the price of looking every day.
    growth = t * rho**2 + 1
    return np.sqrt(2 * growth / (t * rho) ** 2 * np.log(np.sqrt(growth) / alpha))


def asymptotic_interval(differences: ArrayLike, alpha: float, rho: float, *, fewest: int = 50) -> tuple[float, float]:
    """Two-sided confidence sequence of the mean on the last of the days.

    Parameters
    ----------
    differences
        Daily differences ``[days]``.
    alpha
        Error rate over all looks.
    rho
        Tuning, named in the plan: :func:`precision_for` of the planned horizon.
    fewest
        Days before which nothing is concluded: the interval is infinite.
    """
    days = np.asarray(differences, np.float64)
    if not np.isfinite(days).all():
        raise ExperimentError("daily differences must be finite")
    if days.size < max(fewest, 2):
        return -math.inf, math.inf
    mean, half = float(days.mean()), float(days.std(ddof=1) * asymptotic_radius(days.size, alpha, rho))
    return mean - half, mean + half
