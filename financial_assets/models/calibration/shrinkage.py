"""How far a quantile follows its network, and how far the calibrate block corrects it: as far as there is evidence.

Tickers that share a session move together, and outcomes over five sessions that start every session overlap. So the
evidence is counted in sessions: those of a block over the horizon, however many tickers traded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from financial_assets.models.calibration.rows import day_weights
from financial_assets.models.dataset import WindowDataset
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

_WEIGHT_DEVIATION = 0.5
"""Standard deviation of the prior on a network's weight, a normal one around zero: real daily quantiles in units of a
good volatility hardly vary, and what a network finds in them is mostly chance."""

_WEIGHT_TOLERANCE = 0.01


def constant_multiples(windows: WindowDataset) -> np.ndarray:
    """Quantiles of the windows' outcomes in units of their forecast volatility ``[horizon, level]``.

    What a network answers that knows nothing beyond the volatility: its own quantiles are shrunk towards these.

    Parameters
    ----------
    windows
        Of the fit block.
    """
    labels = windows.labels
    outcomes = np.hstack([labels.outcome.double().numpy(), labels.outcome_5d.double().numpy()])
    return np.quantile(outcomes / labels.volatility.double().numpy(), QUANTILE_LEVELS, axis=0).T


def independent_sessions(days: np.ndarray, horizon: int) -> float:
    """How many independent observations rows on these sessions are worth, for outcomes over ``horizon`` sessions."""
    return len(np.unique(days)) / horizon


def network_weights(
    multiples: np.ndarray, scaled_returns: np.ndarray, days: np.ndarray, constants: np.ndarray, horizon: int
) -> np.ndarray:
    """Weight of a network's quantile beside the constant one, by level ``[level]``; between 0 and 1.

    The weight that makes ``weight * multiple + (1 - weight) * constant``, shifted as is best for it, most probable. The
    pinball loss stands for the logarithm of the density (asymmetric Laplace, Yu & Moyeed 2001), its scale is that of
    the constant; the prior is ``N(0, 0.5)``, cut at 0 and 1. Without evidence the weight is near zero, and with a
    constant in place of a quantile nothing is lost but what the network knows.

    Parameters
    ----------
    multiples
        Predicted quantiles ``[n, level]`` in units of volatility.
    scaled_returns
        Returns ``[n]`` in the same unit.
    days
        ``[n]``, the decision session of each row.
    constants
        ``[level]``, from ``constant_multiples``.
    horizon
        Sessions over which the outcomes of neighbouring rows overlap.
    """
    per_row = day_weights(days)
    per_row *= independent_sessions(days, horizon) / per_row.sum()
    weights = np.zeros(len(QUANTILE_LEVELS))
    for column, level in enumerate(QUANTILE_LEVELS):
        error, variation = scaled_returns - constants[column], multiples[:, column] - constants[column]

        def loss(weight: float, level: float = level, error: np.ndarray = error, own: np.ndarray = variation) -> float:
            residual = error - weight * own
            residual = residual - np.quantile(residual, level)
            return float(per_row @ np.maximum(level * residual, (level - 1.0) * residual))

        scale = loss(0.0) / independent_sessions(days, horizon)
        if not scale > 0.0:
            continue  # The constant is exact.

        def objective(weight: float, of: float = scale) -> float:
            return loss(weight) / of + 0.5 * (weight / _WEIGHT_DEVIATION) ** 2

        options = {"xatol": _WEIGHT_TOLERANCE}
        found: Any = minimize_scalar(objective, bounds=(0.0, 1.0), method="bounded", options=options)
        if found.fun < objective(0.0):
            weights[column] = found.x
    return weights


def credibility(multiples: np.ndarray, scaled_returns: np.ndarray, days: np.ndarray, horizon: int) -> np.ndarray:
    """How far the rows' correction of each level is believed ``[level]``: 0 within chance, near 1 far beyond it.

    The share of outcomes at or below a quantile has an error, and a variance by chance. It is one minus the variance
    over the squared error: James and Stein's (1961) factor, cut at 0. Calm months in which no return fell below the 1 %
    quantile do not show that it lies too low.

    Parameters
    ----------
    multiples, scaled_returns, days, horizon
        As for ``network_weights``.
    """
    levels = np.asarray(QUANTILE_LEVELS)
    error = (scaled_returns[:, None] <= multiples).mean(axis=0) - levels
    chance = levels * (1.0 - levels) / independent_sessions(days, horizon)
    return 1.0 - chance / np.maximum(error**2, chance)
