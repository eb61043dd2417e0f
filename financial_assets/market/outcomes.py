"""What became of a session: realised returns, known only after the fact."""

from __future__ import annotations

import numpy as np

from financial_assets.market.panel import CHANNELS, PricePanel


def next_session_return(panel: PricePanel) -> np.ndarray:
    """Log return of the adjusted close from each session to the next: what the label and the quantiles are about.

    Returns
    -------
    np.ndarray
        float64 ``[ticker, session]``; NaN in the last session and where the ticker did not trade on either side.
    """
    close = _channel(panel, "close")
    outcome = np.full(close.shape, np.nan)
    outcome[:, :-1] = np.log(close[:, 1:]) - np.log(close[:, :-1])
    settled = np.zeros(close.shape, dtype=bool)
    settled[:, :-1] = panel.valid[:, :-1] & panel.valid[:, 1:]
    return np.where(settled, outcome, np.nan)


def traded_return(panel: PricePanel) -> np.ndarray:
    """Simple return that a decision taken after the close of session t can earn: open of t+1 to open of t+2.

    Returns
    -------
    np.ndarray
        float64 ``[ticker, session]``, before costs; NaN where t+2 is not known or the ticker did not trade on one of
        the three sessions.
    """
    opening = _channel(panel, "open")
    outcome = np.full(opening.shape, np.nan)
    outcome[:, :-2] = opening[:, 2:] / opening[:, 1:-1] - 1.0
    settled = np.zeros(opening.shape, dtype=bool)
    settled[:, :-2] = panel.valid[:, :-2] & panel.valid[:, 1:-1] & panel.valid[:, 2:]
    return np.where(settled, outcome, np.nan)


def _channel(panel: PricePanel, name: str) -> np.ndarray:
    return panel.values[:, CHANNELS.index(name)].astype(np.float64)
