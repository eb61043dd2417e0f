"""Rows that are identified by session and ticker, found by what they are called."""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.errors import ExperimentError


def places(rows: pd.DataFrame, among: pd.DataFrame) -> np.ndarray:
    """Where each row's session and ticker are among others ``[row]``; -1 where they are not.

    A table of all pairs instead of a merge: universes are nearly complete, and there is nothing to sort.

    Parameters
    ----------
    rows
        ``session``, ``ticker``.
    among
        The same, each pair once.

    Raises
    ------
    ExperimentError
        ``among`` holds a session and ticker twice.
    """
    own_ticker, tickers = pd.factorize(among["ticker"])
    own_session, sessions = pd.factorize(among["session"])
    table = np.full(len(tickers) * len(sessions) + 1, -1)
    own = own_ticker * len(sessions) + own_session
    table[own] = np.arange(len(among))
    repeated = np.flatnonzero(table[own] != np.arange(len(among)))
    if repeated.size:
        first = among.iloc[repeated[0]]
        raise ExperimentError(f"{first['ticker']}, {first['session']:%Y-%m-%d} occurs more than once")
    ticker = pd.Index(tickers).get_indexer(pd.Index(rows["ticker"]))
    session = pd.Index(sessions).get_indexer(pd.Index(rows["session"]))
    return table[np.where((ticker < 0) | (session < 0), -1, ticker * len(sessions) + session)]
