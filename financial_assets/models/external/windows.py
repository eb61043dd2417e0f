"""Windows of a panel as a served graph is asked about them, many sessions at once."""

from __future__ import annotations

import numpy as np

from financial_assets.errors import ExternalModelError
from financial_assets.market.panel import PricePanel
from financial_assets.models.request_shape import SERVED_LOOKBACK

WINDOWS_AT_ONCE = 512
"""Some megabytes of bars: a universe has millions of windows."""


def complete_windows(panel: PricePanel) -> tuple[np.ndarray, np.ndarray]:
    """Places of tickers and sessions ``[window]`` that traded and have a whole window, by session.

    Raises
    ------
    ExternalModelError
        There is none.
    """
    session, ticker = np.nonzero((panel.valid & (panel.listed_bars() >= SERVED_LOOKBACK)).T)
    if not len(ticker):
        raise ExternalModelError(
            f"no ticker has {SERVED_LOOKBACK} bars: no model can be asked; set an earlier INGESTION_START_DATE"
        )
    return ticker, session


def windows_at(panel: PricePanel, ticker: np.ndarray, session: np.ndarray) -> np.ndarray:
    """Windows ``[window, 256, channel]``, oldest bar first, of tickers that end at sessions; both are places."""
    steps = np.arange(1 - SERVED_LOOKBACK, 1)
    return np.ascontiguousarray(panel.values.transpose(0, 2, 1)[ticker[:, None], session[:, None] + steps])
