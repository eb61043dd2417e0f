"""Rows that are identified by session and ticker, found by what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from financial_assets.errors import ExperimentError

KeyedRows = Mapping[str, NDArray[Any]] | pd.DataFrame
"""``session`` and ``ticker`` of each ``[row]``."""


def places(rows: KeyedRows, among: KeyedRows) -> NDArray[np.intp]:
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
    own_ticker, tickers = pd.factorize(np.asarray(among["ticker"], object))
    own_session, sessions = pd.factorize(np.asarray(among["session"]))
    table = np.full(len(tickers) * len(sessions) + 1, -1)
    own = own_ticker * len(sessions) + own_session
    table[own] = np.arange(len(own))
    repeated = np.flatnonzero(table[own] != np.arange(len(own)))
    if repeated.size:
        first = int(repeated[0])
        session = pd.DatetimeIndex(sessions)[own_session[first]]
        raise ExperimentError(f"{tickers[own_ticker[first]]}, {session:%Y-%m-%d} occurs more than once")
    ticker = pd.Index(tickers).get_indexer(pd.Index(np.asarray(rows["ticker"], object)))
    session = pd.Index(sessions).get_indexer(pd.Index(np.asarray(rows["session"])))
    return table[np.where((ticker < 0) | (session < 0), -1, ticker * len(sessions) + session)]
