"""From the score that ranks tickers to an expected excess return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from financial_assets.models.calibration.rows import LOG_SCALE_DEVIATION, check_rows, day_weights

_HUBER_DELTA = 1.0
"""Residuals of the score are squared up to this size, in units of volatility: one wild day decides nothing."""


@dataclass(frozen=True)
class ScoreSlope:
    """``excess_return = slope * score``.

    Attributes
    ----------
    slope
        The factor used; positive.
    unconstrained_slope
        The best factor without the guard. Near or below zero means that the score had no value on this block.
    """

    slope: float
    unconstrained_slope: float


def fit_slope(scores: np.ndarray, excess: np.ndarray, days: np.ndarray) -> ScoreSlope:
    """The factor that turns scores into expected excess returns, each day counted once.

    It is ``exp(a)`` with ``a ~ N(0, 1)``, for the reasons given in ``fit_platt``: a ranking is never turned round. The
    deviations from what is expected are measured by Huber's loss, whose unit is the volatility; it stands for the
    logarithm of their density.

    Parameters
    ----------
    scores, excess
        ``[n]``, in units of the causal volatility.
    days
        ``[n]``, the decision session of each row.

    Raises
    ------
    TrainingError
        If there are too few rows or sessions, or a score is not finite.
    """
    scores, excess = (np.asarray(values, dtype=np.float64).ravel() for values in (scores, excess))
    check_rows(scores, days)
    weight = day_weights(days)

    def loss(slope: float) -> tuple[float, float]:
        error = excess - slope * scores
        within = np.clip(error, -_HUBER_DELTA, _HUBER_DELTA)
        return float(weight @ (within * (error - 0.5 * within))), -float(weight @ (within * scores))

    def guarded(point: np.ndarray) -> tuple[float, np.ndarray]:
        slope = float(np.exp(point[0]))
        value, gradient = loss(slope)
        return value + float(point[0] ** 2) / (2 * LOG_SCALE_DEVIATION**2), np.array(
            [gradient * slope + float(point[0]) / LOG_SCALE_DEVIATION**2]
        )

    def plain(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(float(point[0]))
        return value, np.array([gradient])

    log_slope = minimize(guarded, np.zeros(1), jac=True, method="L-BFGS-B", bounds=[(-8, 4)]).x[0]
    unconstrained = minimize(plain, np.ones(1), jac=True, method="L-BFGS-B", bounds=[(-1e3, 1e3)]).x[0]
    return ScoreSlope(float(np.exp(log_slope)), float(unconstrained))
