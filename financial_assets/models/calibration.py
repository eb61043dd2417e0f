"""Calibration on a block the network never saw: Platt scaling of the logit, conformal shifts of the quantiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor, nn

from financial_assets.errors import TrainingError
from financial_assets.models.networks import QUANTILE_LEVELS

MINIMUM_CALIBRATION_ROWS = 100
"""With fewer rows than this the 1 % quantile has no conformal correction at all."""

_LOG_SCALE_DEVIATION = 1.0
"""Standard deviation of the log-normal prior on the Platt scale."""

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
        If there are too few rows, a logit is not finite, or only one class is present.
    """
    logits, up = np.asarray(logits, dtype=np.float64).ravel(), np.asarray(up, dtype=np.float64).ravel()
    _check_rows(logits)
    if up.min() == up.max():
        raise TrainingError("the calibrate block holds one direction only: a probability cannot be calibrated on it")

    # Rows of one day share a weight of one, however many tickers traded.
    _, day, rows = np.unique(np.asarray(days).ravel(), return_inverse=True, return_counts=True)
    weight = 1.0 / rows[day]

    def negative_log_likelihood(scale: float, bias: float) -> tuple[float, float, float]:
        z = scale * logits + bias
        residual = weight * (expit(z) - up)
        loss = float(weight @ (np.logaddexp(0.0, z) - up * z))
        return loss, float(residual @ logits), float(residual.sum())

    def guarded(point: np.ndarray) -> tuple[float, np.ndarray]:
        scale = float(np.exp(point[0]))
        loss, by_scale, by_bias = negative_log_likelihood(scale, float(point[1]))
        deviations = np.array([_LOG_SCALE_DEVIATION, _BIAS_DEVIATION])
        penalty = float(np.sum(point**2 / (2 * deviations**2)))
        return loss + penalty, np.array([by_scale * scale, by_bias]) + point / deviations**2

    def plain(point: np.ndarray) -> tuple[float, np.ndarray]:
        loss, by_scale, by_bias = negative_log_likelihood(float(point[0]), float(point[1]))
        return loss, np.array([by_scale, by_bias])

    # (0, 0) is the identity, scale exp(0) and no bias: without evidence the optimiser does not move away from it.
    log_scale, bias = minimize(guarded, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-8, 4), (None, None)]).x
    unconstrained = minimize(plain, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(-1e3, 1e3)] * 2).x[0]
    return PlattScaling(scale=float(np.exp(log_scale)), bias=float(bias), unconstrained_scale=float(unconstrained))


def conformal_shifts(multiples: np.ndarray, scaled_returns: np.ndarray) -> np.ndarray:
    """One additive correction per level: split conformal quantiles (Romano, Patterson & Candes 2019), one-sided.

    Under exchangeability a lower quantile is undercut with at most its level's probability, an upper one exceeded with
    at most one minus its level. Days are not exchangeable: coverage is measured, never promised.

    Parameters
    ----------
    multiples
        Predicted quantiles ``[n, 5]`` in units of volatility.
    scaled_returns
        Returns ``[n]`` in the same unit.

    Returns
    -------
    numpy.ndarray
        ``[5]``, to be added to the multiples.
    """
    _check_rows(multiples)
    count = len(multiples)
    residuals = np.sort(np.asarray(scaled_returns, dtype=np.float64).reshape(-1, 1) - multiples, axis=0)
    shifts = np.empty(len(QUANTILE_LEVELS))
    for column, level in enumerate(QUANTILE_LEVELS):
        if level == 0.5:
            shifts[column] = np.median(residuals[:, column])
            continue
        # n + 1, because the next residual takes any rank among n + 1 with equal chance. Rounding goes outwards, to the
        # side on which the promise holds; with too few rows the outermost residual is all there is.
        rank = np.floor((count + 1) * level) if level < 0.5 else np.ceil((count + 1) * level)
        shifts[column] = residuals[int(np.clip(rank, 1, count)) - 1, column]
    return shifts


def _check_rows(values: np.ndarray) -> None:
    if len(values) < MINIMUM_CALIBRATION_ROWS:
        raise TrainingError(
            f"the calibrate block has {len(values)} windows, {MINIMUM_CALIBRATION_ROWS} are needed: add TICKERS or set "
            "an earlier INGESTION_START_DATE"
        )
    if not np.isfinite(values).all():
        raise TrainingError("the network's answers on the calibrate block are not finite")


class Calibration(nn.Module):
    """The calibrated answer, part of the exported graph.

    Parameters
    ----------
    scale, bias
        Platt scaling.
    shifts
        ``[5]`` conformal shifts.
    """

    scale: Tensor
    bias: Tensor
    shifts: Tensor

    def __init__(self, scale: float = 1.0, bias: float = 0.0, shifts: np.ndarray | None = None) -> None:
        super().__init__()
        values = np.zeros(len(QUANTILE_LEVELS)) if shifts is None else np.asarray(shifts)
        self.register_buffer("scale", torch.tensor([scale], dtype=torch.float32))
        self.register_buffer("bias", torch.tensor([bias], dtype=torch.float32))
        self.register_buffer("shifts", torch.tensor(values, dtype=torch.float32))

    def forward(self, logit: Tensor, multiples: Tensor, volatility: Tensor) -> tuple[Tensor, Tensor]:
        """Probability of "up" ``[batch, 1]`` and ordered quantiles of the log return ``[batch, 5]``.

        Sorting repairs crossed quantiles and never makes them worse (Chernozhukov, Fernandez-Val & Galichon 2010).

        Parameters
        ----------
        logit
            ``[batch, 1]``.
        multiples
            ``[batch, 5]``.
        volatility
            ``[batch, 1]``.
        """
        probability = torch.sigmoid(self.scale * logit + self.bias)
        ordered = torch.sort(multiples + self.shifts, dim=-1).values
        return probability, ordered * volatility
