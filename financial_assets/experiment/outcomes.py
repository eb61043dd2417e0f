"""Outcomes: what prices did after a prediction, as far as it is known. Joined from prices, never logged by a client."""

from __future__ import annotations

import numpy as np
import pandas as pd

from financial_assets.market.outcomes import next_session_return, traded_return
from financial_assets.market.panel import PricePanel

__all__ = ["join_outcomes", "outcome_frame"]


def outcome_frame(panel: PricePanel, as_of: pd.Timestamp | None = None) -> pd.DataFrame:
    """One row for each session and ticker whose label is known.

    Parameters
    ----------
    panel
        Prices.
    as_of
        Nothing after this session is used; default the panel's last.

    Returns
    -------
    pandas.DataFrame
        ``session``, ``ticker``, ``log_return`` (adjusted close t to t+1), ``up`` (bool: it is positive) and
        ``traded_return`` (simple return from the open of t+1 to the open of t+2; NaN while unknown).
    """
    visible = panel if as_of is None else panel.until(as_of)
    labels = np.asarray(next_session_return(visible), dtype=np.float64)
    traded = np.asarray(traded_return(visible), dtype=np.float64)
    ticker, session = np.nonzero(np.isfinite(labels))
    return pd.DataFrame(
        {
            "session": visible.sessions[session],
            "ticker": np.array(visible.tickers, dtype=object)[ticker],
            "log_return": labels[ticker, session],
            "up": labels[ticker, session] > 0,
            "traded_return": traded[ticker, session],
        }
    )


def join_outcomes(predictions: pd.DataFrame, panel: PricePanel, as_of: pd.Timestamp | None = None) -> pd.DataFrame:
    """The predictions whose outcome is due, with the columns of :func:`outcome_frame`.

    Parameters
    ----------
    predictions
        Frame with ``session`` and ``ticker``; every row keeps its other columns.
    panel, as_of
        See :func:`outcome_frame`.
    """
    return predictions.merge(outcome_frame(panel, as_of), on=["session", "ticker"], how="inner", validate="m:1")
