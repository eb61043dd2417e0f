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
    return return_ahead(panel, 1)


def return_ahead(panel: PricePanel, sessions: int) -> np.ndarray:
    """Log return of the adjusted close from each session to the one ``sessions`` sessions of the panel later.

    A ticker may miss sessions between the two: what it moved by meanwhile is part of the return.

    Returns
    -------
    np.ndarray
        float64 ``[ticker, session]``; NaN in the last ``sessions`` sessions and where the ticker did not trade at
        either end.
    """
    close = _channel(panel, "close")
    outcome = np.full(close.shape, np.nan)
    outcome[:, :-sessions] = np.log(close[:, sessions:]) - np.log(close[:, :-sessions])
    settled = np.zeros(close.shape, dtype=bool)
    settled[:, :-sessions] = panel.valid[:, :-sessions] & panel.valid[:, sessions:]
    return np.where(settled, outcome, np.nan)


def next_excess_return(panel: PricePanel) -> np.ndarray:
    """Log return from each session to the next minus that of the ``market`` channel.

    Returns
    -------
    np.ndarray
        float64 ``[ticker, session]``; NaN where ``next_session_return`` is.
    """
    market = np.log(_channel(panel, "market"))
    return next_session_return(panel) - np.diff(market, axis=1, append=np.nan)


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
