"""Linear regressions whose strength of regularisation the stop block chooses: logistic, quantile and ridge."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from financial_assets.errors import TrainingError

__all__ = ["Block", "Linear", "fit_logistic", "fit_quantiles", "fit_ridge"]

_LOGISTIC_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""scikit-learn's ``C``."""

_PENALTIES = (10.0, 1.0, 1e-1, 1e-2)
"""Of half the squared coefficients, beside the mean loss of a row; the strongest first, as the next starts from it."""

_TOLERANCE = 1e-5
"""Largest entry of the gradient of the mean loss at which a regression counts as solved."""

_BANDWIDTH = 0.1
"""Width over which the kink of the pinball loss is rounded, in standard deviations of the outcome."""

_STEPS = 500


class Linear(NamedTuple):
    """A fitted regression: ``inputs @ coefficients + intercepts``.

    Attributes
    ----------
    coefficients
        ``[feature, output]``.
    intercepts
        ``[output]``.
    strength
        The regularisation that does best on the stop block.
    """

    coefficients: np.ndarray
    intercepts: np.ndarray
    strength: float

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """``[n, output]`` for ``[n, feature]``."""
        return inputs @ self.coefficients + self.intercepts


Block = tuple[np.ndarray, np.ndarray]
"""Inputs ``[n, feature]`` and outcomes ``[n]``."""


def fit_logistic(fit: Block, stop: Block) -> Linear:
    """Logistic regression of a direction with an L2 penalty.

    Solved by Newton's method: with a hundred features and many rows it needs a few steps, where a quasi-Newton method
    needs a hundred and stops farther from the solution. float32 is as exact as the features are.

    Raises
    ------
    TrainingError
        If a block holds one direction only.
    """
    if min(len(np.unique(up)) for _, up in (fit, stop)) < 2:
        raise TrainingError("the fit or the stop block holds one direction only: set an earlier INGESTION_START_DATE")
    best: tuple[float, LogisticRegression, float] | None = None
    for strength in _LOGISTIC_STRENGTHS:
        model = LogisticRegression(C=strength, solver="newton-cholesky", tol=_TOLERANCE).fit(*fit)
        loss = float(log_loss(stop[1], model.predict_proba(stop[0])[:, 1]))
        if best is None or loss < best[0]:
            best = loss, model, strength
    assert best is not None
    model = best[1]
    return Linear(np.asarray(model.coef_, np.float64).T, np.asarray(model.intercept_, np.float64), best[2])


def fit_quantiles(fit: Block, stop: Block, levels: tuple[float, ...]) -> Linear:
    """Linear quantile regressions (Koenker & Bassett 1978) with an L2 penalty, one output a level.

    The kink of the pinball loss is rounded by a logistic kernel, which makes it convex and smooth, so that L-BFGS finds
    *the* solution (Fernandes, Guerre & Horta 2021, "Smoothing quantile regressions"). What rounding moves, the
    intercepts put back: on the fit block each quantile is undercut exactly as often as its level says.
    """
    rows, outcome = fit[0].astype(np.float64), fit[1]
    taus = np.asarray(levels)
    start = np.vstack([np.zeros((rows.shape[1], len(levels))), np.quantile(outcome, taus)])
    width = _BANDWIDTH * float(outcome.std())
    best: tuple[float, Linear] | None = None
    for penalty in _PENALTIES:
        start = _smoothed_quantiles(rows, outcome, taus, width, penalty, start)
        coefficients = start[:-1]
        residuals = outcome[:, None] - rows @ coefficients
        intercepts = np.array([np.quantile(residuals[:, place], tau) for place, tau in enumerate(taus)])
        model = Linear(coefficients, intercepts, penalty)
        loss = _pinball(stop[1], model.predict(stop[0].astype(np.float64)), taus)
        if best is None or loss < best[0]:
            best = loss, model
    assert best is not None
    return best[1]


def fit_ridge(fit: Block, stop: Block) -> Linear:
    """Least squares with an L2 penalty (Hoerl & Kennard 1970), in closed form."""
    rows, outcome = fit[0].astype(np.float64), fit[1]
    middle, level = rows.mean(axis=0), float(outcome.mean())
    centred = rows - middle
    gram, moment = centred.T @ centred / len(rows), centred.T @ (outcome - level) / len(rows)
    best: tuple[float, Linear] | None = None
    for penalty in _PENALTIES:
        slopes = np.linalg.solve(gram + penalty * np.eye(len(gram)), moment)
        model = Linear(slopes[:, None], np.array([level - middle @ slopes]), penalty)
        loss = float(np.mean((stop[1] - model.predict(stop[0].astype(np.float64))[:, 0]) ** 2))
        if best is None or loss < best[0]:
            best = loss, model
    assert best is not None
    return best[1]


def _smoothed_quantiles(
    rows: np.ndarray, outcome: np.ndarray, taus: np.ndarray, width: float, penalty: float, start: np.ndarray
) -> np.ndarray:
    """Coefficients, and below them intercepts, ``[feature + 1, level]``."""

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        point = flat.reshape(start.shape)
        error = outcome[:, None] - (rows @ point[:-1] + point[-1])
        # tau * e + width * log(1 + exp(-e / width)): the pinball loss, its kink at zero rounded.
        loss = float((taus * error + width * np.logaddexp(0.0, -error / width)).mean(axis=0).sum())
        slope = (expit(-error / width) - taus) / len(rows)
        gradient = np.vstack([rows.T @ slope + penalty * point[:-1], slope.sum(axis=0)])
        return loss + 0.5 * penalty * float((point[:-1] ** 2).sum()), gradient.ravel()

    options = {"maxiter": _STEPS, "gtol": _TOLERANCE, "ftol": 0.0}
    return minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(start.shape)


def _pinball(outcome: np.ndarray, quantiles: np.ndarray, taus: np.ndarray) -> float:
    error = outcome[:, None] - quantiles
    return float(np.maximum(taus * error, (taus - 1.0) * error).mean())
