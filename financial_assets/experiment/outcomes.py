"""Outcomes: what prices did after a prediction, as far as it is known. Joined from prices, never logged by a client."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from financial_assets.experiment.keyed_rows import places
from financial_assets.market.outcomes import next_session_return, return_ahead, traded_return
from financial_assets.market.panel import PricePanel
from financial_assets.serving.bar_rules import SESSIONS_5D


@dataclass(frozen=True, eq=False)
class KnownPrices:
    """What prices say as of a session: nothing later enters a decision.

    Attributes
    ----------
    as_of
        The market clock.
    panel
        Prices up to it.
    """

    as_of: pd.Timestamp
    panel: PricePanel

    @classmethod
    def of(cls, panel: PricePanel, as_of: pd.Timestamp) -> KnownPrices:
        """Those of a panel up to ``as_of``."""
        return cls(as_of, panel)

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """What they settle, see :func:`outcome_frame`; made when it is asked for, as it covers all sessions."""
        return outcome_frame(self.panel)


def outcome_frame(panel: PricePanel) -> pd.DataFrame:
    """One row for each session and ticker whose label is known.

    It covers the whole universe: build it once per evaluation and pass it on.

    Parameters
    ----------
    panel
        Prices up to the session that is evaluated: nothing later can enter the outcomes.

    Returns
    -------
    pandas.DataFrame
        ``session``, ``ticker``, ``log_return`` (adjusted close t to t+1), ``up`` (bool: it is positive),
        ``traded_return`` (simple return from the open of t+1 to the open of t+2; NaN while unknown) and ``outcome_5d``
        (log return of the adjusted close t to t+5; NaN until that session is over, or where the ticker did not trade).
    """
    labels = np.asarray(next_session_return(panel), dtype=np.float64)
    week = return_ahead(panel, SESSIONS_5D)
    traded = np.asarray(traded_return(panel), dtype=np.float64)
    # A label is NaN where the next session is missing or not over yet: such rows are not due.
    ticker, session = np.nonzero(np.isfinite(labels))
    return pd.DataFrame(
        {
            "session": panel.sessions[session],
            "ticker": np.array(panel.tickers, dtype=object)[ticker],
            "log_return": labels[ticker, session],
            "up": labels[ticker, session] > 0,
            "traded_return": traded[ticker, session],
            "outcome_5d": week[ticker, session],
        }
    )


def join_outcomes(predictions: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """The predictions whose outcome is due, with the columns of :func:`outcome_frame`.

    Parameters
    ----------
    predictions
        Frame with ``session`` and ``ticker``; every row keeps its other columns.
    outcomes
        See :func:`outcome_frame`.

    Raises
    ------
    ExperimentError
        ``outcomes`` hold a session and ticker twice.
    """
    place = places(predictions, outcomes)
    known = place >= 0
    joined = (predictions if known.all() else predictions[known]).reset_index(drop=True)
    settled = outcomes.columns.drop(["session", "ticker"])
    return joined.assign(**{name: outcomes[name].to_numpy()[place[known]] for name in settled})
