"""HAR inside the served graph: the volatility of the next session and of the next five, from bars alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from financial_assets.errors import TrainingError
from financial_assets.features.bars import HAR_WINDOWS, KNOWN_VARIANCES, VOLATILITY_FLOOR, split_channels
from financial_assets.models.heads import HORIZONS

if TYPE_CHECKING:
    from financial_assets.market.panel import PricePanel

VARIANCE_FLOOR = VOLATILITY_FLOOR**2
"""A session without a move has no logarithm."""

LONG_RUN = len(HAR_WINDOWS)
"""Place of the long-run variance among ``KNOWN_VARIANCES``."""

_TICKERS_AT_ONCE = 16
"""Some megabytes, which stay in the processor's cache from one operation to the next."""


class HarVolatility(nn.Module):
    """Heterogeneous autoregression of the log of the range-based variance, pooled over tickers.

    Per horizon, the log of the mean daily variance of the sessions ahead is linear in the logs of ``KNOWN_VARIANCES``:
    the mean range-based variances of the last 1, 5, 22 and 60 sessions, and the EWMA variance. Logs keep forecasts
    positive and wild days in bounds. No ticker has a coefficient of its own: the graph serves any ticker. The level
    that its volatility returns to is read from its last 60 sessions; without that term, tickers of very different
    levels pull the pooled slopes towards a random walk. What the logs and the range estimator leave out (the mean of a
    logarithm is below the logarithm of the mean) is put back by one factor per horizon.

    Parameters
    ----------
    intercept
        ``[horizon]``, of the log of the mean daily variance.
    slopes
        ``[variance, horizon]``.
    factor
        ``[horizon]``, positive: what the root of the variance is multiplied by.

    Source: Corsi (2009), A simple approximate long-memory model of realized volatility; in logs, pooled, and with a
    long-run variance as a regressor, Bollerslev, Hood, Huss and Pedersen (2018), Risk everywhere.
    """

    intercept: Tensor
    slopes: Tensor
    factor: Tensor

    def __init__(self, intercept: Tensor, slopes: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("intercept", intercept.float())
        self.register_buffer("slopes", slopes.float())
        self.register_buffer("factor", factor.float())

    @classmethod
    def random_walk(cls) -> HarVolatility:
        """The forecast that nothing was fitted for: the EWMA volatility, times the root of the horizon."""
        slopes = torch.zeros(len(KNOWN_VARIANCES), len(HORIZONS))
        slopes[-1] = 1.0
        return cls(torch.zeros(len(HORIZONS)), slopes, torch.ones(len(HORIZONS)))

    @classmethod
    def fit(cls, variances: np.ndarray, ahead: np.ndarray, outcomes: np.ndarray) -> HarVolatility:
        """Least squares on rows of the fit block, one regression per horizon.

        No slope is negative. A forecast that leans away from a ticker's own level is the chance of a fit block, and
        goes wrong for months after a jump; one that rises while prices stand still calls a halted stock wild, because
        the logarithm of a variance of nothing is far from all others.

        Parameters
        ----------
        variances
            ``[n, variance]``: the ``KNOWN_VARIANCES`` at the decision; floored.
        ahead
            ``[n, horizon]``: the mean range-based variance of the sessions ahead; floored.
        outcomes
            ``[n, horizon]``: log returns over these sessions. Measured by the forecast, their squares are 1 on average
            in these rows.

        Raises
        ------
        TrainingError
            There is no row, a number is not finite, or no price moves.
        """
        if not len(outcomes) or not all(np.isfinite(each).all() for each in (variances, ahead, outcomes)):
            raise TrainingError("the fit block has no row with finite variances: set an earlier INGESTION_START_DATE")
        logs = np.log(np.maximum(variances, VARIANCE_FLOOR))
        rows = np.column_stack([np.ones(len(logs)), logs])
        targets = np.log(np.maximum(ahead, VARIANCE_FLOOR))
        coefficients = np.linalg.lstsq(rows, targets, rcond=None)[0]
        for horizon in np.flatnonzero((coefficients[1:] < 0).any(axis=0)):
            coefficients[:, horizon] = _with_positive_slopes(logs, targets[:, horizon])
        per_session = np.exp(0.5 * (rows @ coefficients)) * np.sqrt(HORIZONS)
        factor = np.sqrt(np.mean((outcomes / per_session) ** 2, axis=0))
        if not (factor > 0).all():
            raise TrainingError("no price of the fit block moves: a volatility cannot be forecast")
        return cls(*(torch.from_numpy(each) for each in (coefficients[0], coefficients[1:], factor)))

    def forward(self, bars: Tensor, sessions: int | None = None) -> Tensor:
        """Forecasts ``[..., session, horizon]`` of the standard deviation of the log return over the sessions ahead.

        Each is known at the close of its session. At least ``VOLATILITY_FLOOR``.

        Parameters
        ----------
        bars
            ``[..., channel, session]``; channels as in ``PricePanel``.
        sessions
            How many of the last sessions are wanted; default: all.
        """
        return self.of_variances(known_variances(bars, sessions))

    def of_variances(self, variances: Tensor) -> Tensor:
        """Forecasts ``[..., horizon]`` for ``KNOWN_VARIANCES`` ``[..., variance]``."""
        logs = torch.log(variances.clamp(min=VARIANCE_FLOOR).contiguous())
        level, slopes = self.log_scale()
        # One after the other: a product with a matrix may round a row otherwise, depending on the rows around it.
        log_volatility = level
        for place in range(len(KNOWN_VARIANCES)):
            log_volatility = log_volatility + logs[..., place : place + 1] * slopes[place]
        return torch.exp(log_volatility.contiguous()).clamp(min=VOLATILITY_FLOOR)

    def log_scale(self) -> tuple[Tensor, Tensor]:
        """Level ``[horizon]`` and slopes ``[variance, horizon]`` of the log of the forecast standard deviation."""
        roots = torch.tensor([math.sqrt(horizon) for horizon in HORIZONS], device=self.factor.device)
        return 0.5 * self.intercept + torch.log(self.factor * roots), 0.5 * self.slopes

    def of_panel(self, panel: PricePanel) -> Tensor:
        """Forecasts of every ticker and session, float32 ``[ticker, session, horizon]``."""
        return self.of_variances(panel_variances(panel))


def _with_positive_slopes(logs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Intercept and slopes of least squares with no slope below zero ``[1 + variance]``.

    Of the centred rows only the triangle of their QR decomposition matters, whatever their number. Source: Lawson and
    Hanson (1974), Solving Least Squares Problems, chapter 23.
    """
    from scipy.optimize import nnls  # a part of a second, for the few fits that need it

    means, mean = logs.mean(axis=0), target.mean()
    triangle = np.asarray(np.linalg.qr(np.column_stack([logs - means, target - mean]), mode="r"))
    slopes, _ = nnls(triangle[:, :-1], triangle[:, -1])
    return np.concatenate([[mean - means @ slopes], slopes])


def known_variances(bars: Tensor, sessions: int | None = None) -> Tensor:
    """``KNOWN_VARIANCES`` ``[..., session, variance]`` of the last ``sessions`` of bars ``[..., channel, session]``."""
    channels = split_channels(bars)
    first = 0 if sessions is None else bars.shape[-1] - sessions
    return torch.stack([variance(channels)[..., first:] for variance in KNOWN_VARIANCES], dim=-1)


def panel_variances(panel: PricePanel) -> Tensor:
    """``KNOWN_VARIANCES`` of every ticker and session, float32 ``[ticker, session, variance]``."""
    values = torch.from_numpy(panel.values)
    variances = torch.empty((values.shape[0], values.shape[2], len(KNOWN_VARIANCES)))
    for start in range(0, len(values), _TICKERS_AT_ONCE):
        chunk = slice(start, start + _TICKERS_AT_ONCE)
        variances[chunk] = known_variances(values[chunk])
    return variances
