"""Joint residuals: what each ticker's return was in units of the volatility known before it, session by session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from financial_assets.errors import PortfolioError
from financial_assets.features.bars import CAUSAL_VOLATILITY_LOOKBACK, causal_volatility, split_channels
from financial_assets.market.outcomes import return_ahead
from financial_assets.market.panel import CHANNELS, PricePanel

MOST_SCENARIOS = 1000
"""Latest sessions that are scenarios: four years, of which ten lie beyond the 99 % value at risk."""
FEWEST_SCENARIOS = 250
"""Sessions below which there is no answer: at 99 % fewer than three would lie beyond."""


@dataclass(frozen=True, eq=False)
class JointResiduals:
    """Residuals of a universe.

    Attributes
    ----------
    tickers
        Second axis of ``values``.
    sessions
        First axis: decision sessions, without gaps.
    horizon
        Sessions from the decision to the close at which a residual is known.
    values
        float64 ``[session, ticker]``: log return over the horizon divided by the daily volatility known at the decision
        (``features.bars.causal_volatility``); NaN where the return is not known, the ticker did not trade at either
        end, or it was listed for too short a time for its volatility to be an average.
    """

    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex
    horizon: int
    values: NDArray[np.float64]

    @classmethod
    def of(cls, panel: PricePanel, horizon: int = 1) -> JointResiduals:
        """Those of a panel: nothing later than its last session is in any of them."""
        volatility = causal_volatility(split_channels(torch.from_numpy(panel.values))).double().numpy()
        # Moves before a listing count as none: the first volatilities are far too small, and what is divided by them
        # would be the tail of every portfolio.
        listed = np.logical_or.accumulate(~np.isnan(panel.values[:, CHANNELS.index("close")]), axis=1)
        is_warm = np.cumsum(listed, axis=1) >= CAUSAL_VOLATILITY_LOOKBACK
        residuals = np.where(is_warm, return_ahead(panel, horizon) / volatility, np.nan)
        return cls(panel.tickers, panel.sessions, horizon, residuals.T)

    def known_at(
        self, session: pd.Timestamp, tickers: Sequence[str], *, most: int = MOST_SCENARIOS
    ) -> NDArray[np.float64]:
        """Scenarios ``[scenario, ticker]``: the latest sessions whose residual every ticker has, known at ``session``.

        Raises
        ------
        PortfolioError
            Fewer than ``FEWEST_SCENARIOS`` have one of all of them; names the tickers with the shortest history.
        """
        places = self._places(tickers)
        end = int(self.sessions.searchsorted(session, side="right")) - self.horizon
        past = self.values[: max(end, 0), places]
        complete = past[np.isfinite(past).all(axis=1)][-most:]
        if len(complete) < FEWEST_SCENARIOS:
            counts = np.isfinite(past).sum(axis=0)
            shortest = ", ".join(f"{tickers[place]} ({counts[place]})" for place in np.argsort(counts)[:3])
            raise PortfolioError(
                f"{len(complete)} sessions up to {session:%Y-%m-%d} have a return over {self.horizon} session(s) of "
                f"all {len(tickers)} tickers; {FEWEST_SCENARIOS} are needed. Shortest histories: {shortest}. Leave "
                "these out"
            )
        return complete

    def _places(self, tickers: Sequence[str]) -> NDArray[np.intp]:
        rows = {ticker: place for place, ticker in enumerate(self.tickers)}
        unknown = [ticker for ticker in tickers if ticker not in rows]
        if unknown:
            raise PortfolioError(f"no prices of {', '.join(unknown)}")
        return np.array([rows[ticker] for ticker in tickers], dtype=np.intp)
