"""What the forecasters of risk read: returns and variances of the sessions, each known at its close."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from financial_assets.errors import TrainingError
from financial_assets.features.bars import CAUSAL_VOLATILITY_LOOKBACK
from financial_assets.market.outcomes import next_session_return
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.models.baselines.trailing import session_returns
from financial_assets.models.training_data import panel_volatility
from financial_assets.scoring.volatility import garman_klass_variance

HORIZONS = (1, 5)
"""Sessions ahead: the next one, and a week of trading."""


@dataclass(frozen=True, eq=False)
class RiskBars:
    """Daily risk of a universe; all matrices are float64 ``[ticker, session]``.

    Attributes
    ----------
    tickers, sessions
        Axes, those of the panel.
    returns
        Log return of the session itself; NaN where the ticker did not trade.
    variance
        Range-based variance of the session, close to close: the squared gap from the last close to the open and Garman
        and Klass's estimate of the hours after it. NaN where the ticker did not trade.
    ewma
        RiskMetrics volatility after the close, ``features.bars.causal_volatility``; NaN until it no longer depends on
        where it started.
    next_return
        Log return of the next session, ``market.outcomes.next_session_return``.
    """

    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex
    returns: np.ndarray
    variance: np.ndarray
    ewma: np.ndarray
    next_return: np.ndarray

    @classmethod
    def of(cls, panel: PricePanel) -> RiskBars:
        """From adjusted prices, so that neither splits nor dividends are moves."""
        prices = {name: panel.values[:, CHANNELS.index(name)].astype(np.float64) for name in CHANNELS[:4]}
        opening, high, low, close = (prices[name] for name in ("open", "high", "low", "close"))
        gap = np.full(close.shape, np.nan)
        gap[:, 1:] = np.log(opening[:, 1:] / close[:, :-1])
        variance = gap**2 + garman_klass_variance(opening, high, low, close)
        returns = session_returns(panel)
        warm = np.isfinite(returns).cumsum(axis=1) >= CAUSAL_VOLATILITY_LOOKBACK - 1
        return cls(
            tickers=panel.tickers,
            sessions=panel.sessions,
            returns=returns,
            variance=np.where(panel.valid, variance, np.nan),
            ewma=np.where(warm, panel_volatility(panel).double().numpy(), np.nan),
            next_return=next_session_return(panel),
        )

    def until(self, cutoff: pd.Timestamp) -> RiskBars:
        """What is known at the close of ``cutoff``; the outcome of that session is not.

        Raises
        ------
        TrainingError
            If the cut-off is not a session.
        """
        count = self.position(cutoff) + 1
        matrices = {name: getattr(self, name)[:, :count] for name in ("returns", "variance", "ewma")}
        outcome = self.next_return[:, :count].copy()
        outcome[:, -1] = np.nan
        return replace(self, sessions=self.sessions[:count], next_return=outcome, **matrices)

    def position(self, session: pd.Timestamp) -> int:
        """Place of a session; ``TrainingError`` if it is not one."""
        if session not in self.sessions:
            raise TrainingError(f"the cut-off {session:%Y-%m-%d} is not a session of these prices")
        return int(self.sessions.get_indexer(pd.DatetimeIndex([session]))[0])

    def outcomes(self, horizon: int) -> np.ndarray:
        """Log return over the next ``horizon`` sessions; NaN unless all of them are known and traded."""
        return following_sums(self.next_return, horizon)

    def following_variance(self, horizon: int) -> np.ndarray:
        """Sum of the range-based variances of the next ``horizon`` sessions; NaN unless all are known."""
        following = np.full(self.variance.shape, np.nan)
        following[:, :-1] = self.variance[:, 1:]
        return following_sums(following, horizon)


def following_sums(values: np.ndarray, count: int) -> np.ndarray:
    """Sum of each session's value and the ``count - 1`` after it; NaN where one is missing or beyond the end."""
    padded = np.pad(values, ((0, 0), (0, count - 1)), constant_values=np.nan)
    return np.lib.stride_tricks.sliding_window_view(padded, count, axis=1).sum(axis=-1)


def trailing_mean(values: np.ndarray, count: int) -> np.ndarray:
    """Mean of each session's value and the ``count - 1`` before it; a missing one counts as the last that is known.

    NaN before ``count`` sessions from the first known one on.
    """
    known = pd.DataFrame(values.T).ffill().to_numpy().T
    total = np.zeros(known.shape)
    # Added one by one, the newest first: a sum that slides keeps rounding errors of long ago, so that it would depend
    # on where a panel begins.
    for back in range(count):
        total[:, back:] += known[:, : known.shape[1] - back]
    total[:, : count - 1] = np.nan
    return total / count
