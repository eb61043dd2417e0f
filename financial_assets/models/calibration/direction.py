"""Platt scaling: from the logit of a network to a probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from financial_assets.errors import TrainingError
from financial_assets.models.calibration.rows import LOG_SCALE_DEVIATION, check_rows, day_weights

_BIAS_DEVIATION = 0.1
"""Standard deviation of the prior on the Platt bias: base rates of daily direction lie within 50 +- 5 %, and the share
of ups in some hundred days strays further than that by chance."""


@dataclass(frozen=True)
class PlattScaling:
    """``P(up) = sigmoid(scale * logit + bias)``.

    Attributes
    ----------
    scale, bias
        The map used; ``scale`` is positive.
    unconstrained_scale
        Maximum-likelihood scale without the guard. Near or below zero means that the network's ranking had no value on
        this block.
    """

    scale: float
    bias: float
    unconstrained_scale: float


def fit_platt(logits: np.ndarray, up: np.ndarray, days: np.ndarray) -> PlattScaling:
    """Platt scaling (Platt 1999) with a positive scale, each day counted once.

    The scale is ``exp(a)`` with ``a ~ N(0, 1)``: on a block without evidence it stays near the identity, and it can
    neither turn a ranking round nor flatten it to a constant, which on some hundred noisy days the plain maximum of the
    likelihood readily does. The bias is ``N(0, 0.1)`` beforehand. Stocks move together, so the rows of one day share
    the weight of one observation; otherwise a hundred tickers in one bear market would teach every model to answer
    "down".

    Parameters
    ----------
    logits
        ``[n]``, uncalibrated.
    up
        ``[n]``, 0 or 1.
    days
        ``[n]``, the decision session of each row.

    Raises
    ------
    TrainingError
        If there are too few rows or sessions, a logit is not finite, or only one class is present.
    """
    logits, up = np.asarray(logits, dtype=np.float64).ravel(), np.asarray(up, dtype=np.float64).ravel()
    check_rows(logits, days)
    if up.min() == up.max():
        raise TrainingError("the calibrate block holds one direction only: a probability cannot be calibrated on it")

    weight = day_weights(days)

    def negative_log_likelihood(scale: float, bias: float) -> tuple[float, float, float]:
        z = scale * logits + bias
        residual = weight * (expit(z) - up)
        loss = float(weight @ (np.logaddexp(0.0, z) - up * z))
        return loss, float(residual @ logits), float(residual.sum())

    def guarded(point: np.ndarray) -> tuple[float, np.ndarray]:
        scale = float(np.exp(point[0]))
        loss, by_scale, by_bias = negative_log_likelihood(scale, float(point[1]))
        deviations = np.array([LOG_SCALE_DEVIATION, _BIAS_DEVIATION])
        penalty = float(np.sum(point**2 / (2 * deviations**2)))
        return loss + penalty, np.array([by_scale * scale, by_bias]) + point / deviations**2

    def plain(point: np.ndarray) -> tuple[float, np.ndarray]:
        loss, by_scale, by_bias = negative_log_likelihood(float(point[0]), float(point[1]))
        return loss, np.array([by_scale, by_bias])

    # (0, 0) is the identity, scale exp(0) and no bias: without evidence the optimiser does not move away from it.
    log_scale, bias = minimize(guarded, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-8, 4), (None, None)]).x
    unconstrained = minimize(plain, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(-1e3, 1e3)] * 2).x[0]
    return PlattScaling(scale=float(np.exp(log_scale)), bias=float(bias), unconstrained_scale=float(unconstrained))
