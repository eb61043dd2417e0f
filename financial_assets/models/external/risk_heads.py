"""Models of risk whose formula is known, as modules to write external models from: to see what a judge makes of them.

They answer the same direction, so that two of them differ in risk alone. They are also an example of how to write a
graph of one's own: bars in, four heads out, everything that was fitted inside.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from financial_assets.errors import ExternalModelError
from financial_assets.features.bars import HAR_WINDOWS, VOLATILITY_FLOOR
from financial_assets.market.outcomes import return_ahead
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.external.windows import WINDOWS_AT_ONCE, complete_windows, windows_at
from financial_assets.models.heads import HORIZONS
from financial_assets.scoring.quantiles import QUANTILE_LEVELS

_OPEN, _HIGH, _LOW, _CLOSE = (CHANNELS.index(name) for name in ("open", "high", "low", "close"))
_MOST_WINDOWS = 40_000
_FEWEST_WINDOWS = 500
_MOMENTUM = 0.05
"""Of the logit per unit of the month's move: direction is not what these models are about, but must not be constant."""


class Volatility(nn.Module, ABC):
    """A forecast of the daily volatility from a window."""

    @abstractmethod
    def forward(self, bars: Tensor) -> Tensor:
        """From bars ``[batch, 256, channel]`` to the daily volatility over ``HORIZONS``: ``[batch, horizon]``."""


class WeightedVolatility(Volatility):
    """Root of a weighted mean of the last squared daily log returns, the same over every horizon.

    Parameters
    ----------
    weights
        ``[sessions]``, oldest first, positive; scaled to add up to 1.
    """

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", (weights / weights.sum()).float())

    @classmethod
    def rolling(cls, sessions: int) -> WeightedVolatility:
        """All of the last ``sessions`` count alike."""
        return cls(torch.ones(sessions))

    @classmethod
    def drawn(cls, sessions: int, seed: int) -> WeightedVolatility:
        """Weights drawn between 0.2 and 1.8: two seeds know the same and say it differently, as two trainings do."""
        return cls(torch.from_numpy(np.random.default_rng(seed).uniform(0.2, 1.8, sessions)))

    def forward(self, bars: Tensor) -> Tensor:
        """See the base class."""
        count = self.weights.shape[0]
        moves = torch.log(bars[:, -count:, _CLOSE] / bars[:, -count - 1 : -1, _CLOSE])
        variance = (moves * moves * self.weights).sum(dim=1, keepdim=True)
        return torch.sqrt(variance).expand(-1, len(HORIZONS))


class ConstantVolatility(Volatility):
    """The same for every ticker on every day: it does not know that large moves follow large ones.

    Parameters
    ----------
    level
        Daily volatility.
    """

    level: Tensor

    def __init__(self, level: float) -> None:
        super().__init__()
        self.register_buffer("level", torch.full((1, len(HORIZONS)), level))

    def forward(self, bars: Tensor) -> Tensor:
        """See the base class."""
        # From the bars as many rows, and nothing else.
        return self.level * (bars[:, -1:, _CLOSE] / bars[:, -1:, _CLOSE])


class HarTerms(Volatility):
    """Heterogeneous autoregression of the log variance on those of the last day, week and month.

    Daily variances are range-based: the gap overnight squared plus Garman and Klass's estimate (1980).

    Parameters
    ----------
    coefficients
        ``[1 + term, horizon]``: intercept and slopes of the log of the mean daily variance ahead.

    Source: Corsi (2009), A simple approximate long-memory model of realized volatility.
    """

    coefficients: Tensor

    def __init__(self, coefficients: Tensor) -> None:
        super().__init__()
        self.register_buffer("coefficients", coefficients.float())

    @classmethod
    def fitted(cls, panel: PricePanel, cutoff: pd.Timestamp) -> HarTerms:
        """Least squares on the windows up to ``cutoff`` whose sessions ahead are over by then."""
        ticker, session = _windows_until(panel, cutoff)
        logs = _in_parts(panel, ticker, session, _log_variances)
        variance = np.full((len(panel.tickers), len(panel.sessions)), np.nan)
        variance[ticker, session] = np.exp(logs[:, 0])
        ahead = np.stack([_mean_ahead(variance, horizon)[ticker, session] for horizon in HORIZONS], axis=1)
        known = np.isfinite(ahead).all(axis=1)
        rows = np.column_stack([np.ones(known.sum()), logs[known]])
        return cls(torch.from_numpy(np.linalg.lstsq(rows, np.log(ahead[known]), rcond=None)[0]))

    def forward(self, bars: Tensor) -> Tensor:
        """See the base class."""
        logs = _log_variances(bars)
        log_variance = self.coefficients[0]
        # One after the other: a product with a matrix may round a row otherwise, depending on the rows around it.
        for place in range(len(HAR_WINDOWS)):
            log_variance = log_variance + logs[:, place : place + 1] * self.coefficients[place + 1]
        return torch.exp(0.5 * log_variance)


class RiskHead(nn.Module):
    """Quantiles as multiples of a volatility, with a direction that hardly says anything.

    Parameters
    ----------
    volatility
        The forecast.
    multiples
        ``[horizon, level]``: of the volatility times the root of the horizon, rising.
    """

    multiples: Tensor

    def __init__(self, volatility: Volatility, multiples: Tensor) -> None:
        super().__init__()
        self.volatility = volatility
        self.register_buffer("multiples", multiples.float())

    @classmethod
    def fitted(cls, volatility: Volatility, panel: PricePanel, cutoff: pd.Timestamp) -> RiskHead:
        """Multiples as the past's outcomes had them, in units of the forecast, all tickers pooled.

        Nothing after ``cutoff`` is read: this is the data cut-off of the model.

        Raises
        ------
        ExternalModelError
            There are too few windows up to the cut-off.
        """
        ticker, session = _windows_until(panel, cutoff)
        forecasts = _in_parts(panel, ticker, session, lambda bars: volatility(bars).clamp(min=VOLATILITY_FLOOR))
        known = panel.until(cutoff)
        multiples = [
            np.nanquantile(
                return_ahead(known, horizon)[ticker, session] / (forecasts[:, place] * math.sqrt(horizon)),
                QUANTILE_LEVELS,
            )
            for place, horizon in enumerate(HORIZONS)
        ]
        return cls(volatility, torch.from_numpy(np.stack(multiples)))

    def narrowed(self, factor: float) -> RiskHead:
        """The same with ``factor`` times its multiples: below 1, it says that it knows more than it does."""
        return RiskHead(self.volatility, factor * self.multiples)

    def forward(self, bars: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The served answer to bars ``[batch, 256, channel]``."""
        forecast = self.volatility(bars).clamp(min=VOLATILITY_FLOOR)
        quantiles = [
            forecast[:, place : place + 1] * math.sqrt(horizon) * self.multiples[place : place + 1]
            for place, horizon in enumerate(HORIZONS)
        ]
        moves = torch.log(bars[:, -21:, _CLOSE] / bars[:, -22:-1, _CLOSE])
        scale = torch.sqrt((moves * moves).mean(dim=1, keepdim=True)).clamp(min=VOLATILITY_FLOOR)
        momentum = torch.tanh(moves.mean(dim=1, keepdim=True) / scale)
        return torch.sigmoid(_MOMENTUM * momentum), quantiles[0], quantiles[1], _MOMENTUM * momentum


def _log_variances(bars: Tensor) -> Tensor:
    """Logs of the mean range-based variances of the last ``HAR_WINDOWS`` sessions: ``[batch, term]``."""
    longest = max(HAR_WINDOWS)
    recent, before = bars[:, -longest:], bars[:, -longest - 1 : -1]
    gap = torch.log(recent[:, :, _OPEN] / before[:, :, _CLOSE])
    span = torch.log(recent[:, :, _HIGH] / recent[:, :, _LOW])
    body = torch.log(recent[:, :, _CLOSE] / recent[:, :, _OPEN])
    variance = gap * gap + 0.5 * span * span - (2.0 * math.log(2.0) - 1.0) * body * body
    means = [variance[:, -window:].mean(dim=1, keepdim=True) for window in HAR_WINDOWS]
    return torch.log(torch.cat(means, dim=1).clamp(min=VOLATILITY_FLOOR**2))


def _windows_until(panel: PricePanel, cutoff: pd.Timestamp) -> tuple[np.ndarray, np.ndarray]:
    """The latest complete windows up to ``cutoff``, all tickers of a session together."""
    ticker, session = complete_windows(panel)
    last = int(panel.sessions.searchsorted(cutoff, side="right"))
    ticker, session = ticker[session < last][-_MOST_WINDOWS:], session[session < last][-_MOST_WINDOWS:]
    if len(ticker) < _FEWEST_WINDOWS:
        raise ExternalModelError(
            f"{len(ticker)} windows up to {cutoff:%Y-%m-%d} are too few to fit a risk head; {_FEWEST_WINDOWS} are "
            "needed: choose a later cut-off, or take earlier prices"
        )
    return ticker, session


def _in_parts(
    panel: PricePanel, ticker: np.ndarray, session: np.ndarray, function: Callable[[Tensor], Tensor]
) -> np.ndarray:
    """``function`` of the windows, float64 ``[window, ...]``."""
    parts: list[np.ndarray] = []
    for first in range(0, len(ticker), WINDOWS_AT_ONCE):
        chunk = slice(first, first + WINDOWS_AT_ONCE)
        with torch.no_grad():
            parts.append(function(torch.from_numpy(windows_at(panel, ticker[chunk], session[chunk]))).double().numpy())
    return np.concatenate(parts)


def _mean_ahead(variance: np.ndarray, horizon: int) -> np.ndarray:
    """Mean of the next ``horizon`` sessions ``[ticker, session]``; NaN where one is not known."""
    ahead = np.full(variance.shape, np.nan)
    if variance.shape[1] > horizon:
        following = np.lib.stride_tricks.sliding_window_view(variance[:, 1:], horizon, axis=1)
        ahead[:, : following.shape[1]] = following.mean(axis=-1)
    return ahead
