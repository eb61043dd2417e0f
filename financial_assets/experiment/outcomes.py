"""Outcomes: what prices did after a prediction, as far as it is known. Joined from prices, never logged by a client."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from financial_assets.experiment.keyed_rows import places
from financial_assets.market.outcomes import (
    next_excess_return,
    next_session_return,
    return_ahead,
    traded_return,
)
from financial_assets.market.panel import CHANNELS, PricePanel
from financial_assets.scoring.volatility import garman_klass_variance
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

    @cached_property
    def scaled_outcomes(self) -> pd.DataFrame:
        """The same with what :func:`outcome_frame` adds for metrics in units of the volatility."""
        return outcome_frame(self.panel, scaled=True)


def next_range_variance(panel: PricePanel) -> np.ndarray:
    """Variance of the next session from its bar: the squared gap before it, and Garman and Klass's of its hours.

    What it is expected to be is that of the squared log return from close to close, and its noise is a fraction.

    Returns
    -------
    np.ndarray
        float64 ``[ticker, session]``; NaN where ``next_session_return`` is.
    """
    opening, high, low, close = (
        panel.values[:, CHANNELS.index(name)].astype(np.float64) for name in ("open", "high", "low", "close")
    )
    variance = np.full(close.shape, np.nan)
    gap = np.log(opening[:, 1:]) - np.log(close[:, :-1])
    variance[:, :-1] = gap**2 + garman_klass_variance(*(prices[:, 1:] for prices in (opening, high, low, close)))
    return np.where(np.isnan(next_session_return(panel)), np.nan, variance)


_OUTCOMES = ("log_return", "traded_return", "outcome_5d")
SCALED = ("volatility", "excess", "range_variance", "previous")
"""What is added to outcomes for metrics in units of the volatility, and of it."""


def outcome_matrices(panel: PricePanel, names: Collection[str]) -> dict[str, np.ndarray]:
    """Outcomes by name, float64 ``[ticker, session]``, NaN while unknown: see :func:`outcome_frame`.

    Parameters
    ----------
    panel
        As for :func:`outcome_frame`.
    names
        Some of ``log_return``, ``traded_return``, ``outcome_5d``, ``volatility``, ``excess`` and ``range_variance``.
    """
    found: dict[str, np.ndarray] = {}
    if "log_return" in names:
        found["log_return"] = np.asarray(next_session_return(panel), dtype=np.float64)
    if "traded_return" in names:
        found["traded_return"] = np.asarray(traded_return(panel), dtype=np.float64)
    if "outcome_5d" in names:
        found["outcome_5d"] = return_ahead(panel, SESSIONS_5D)
    if "range_variance" in names:
        found["range_variance"] = next_range_variance(panel)
    if {"volatility", "excess"} & {*names}:
        from financial_assets.models.training_data import panel_volatility  # torch: seconds, for who needs it only

        volatility = panel_volatility(panel).double().numpy()
        scaled = {"volatility": volatility, "excess": next_excess_return(panel) / volatility}
        found |= {name: values for name, values in scaled.items() if name in names}
    return found


def frame_names(scaled: bool) -> tuple[str, ...]:
    """What :func:`outcome_frame` needs of :func:`outcome_matrices`."""
    return _OUTCOMES + (SCALED if scaled else ())


def outcome_frame(
    panel: PricePanel,
    *,
    scaled: bool = False,
    sessions: Collection[pd.Timestamp] | None = None,
    matrices: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """One row for each session and ticker whose label is known.

    It covers the whole universe: build it once per evaluation and pass it on.

    Parameters
    ----------
    panel
        Prices up to the session that is evaluated: nothing later can enter the outcomes.
    scaled
        Add ``volatility``, ``excess``, ``range_variance`` and ``previous``.
    sessions
        Only the rows of these; the prices before them are what a volatility looks back to. Default: all.
    matrices
        Those of the panel by :func:`frame_names`, where they are known. Default: computed.

    Returns
    -------
    pandas.DataFrame
        ``session``, ``ticker``, ``log_return`` (adjusted close t to t+1), ``up`` (bool: it is positive),
        ``traded_return`` (simple return from the open of t+1 to the open of t+2; NaN while unknown) and ``outcome_5d``
        (log return of the adjusted close t to t+5; NaN until that session is over, or where the ticker did not trade).
        With ``scaled`` also ``volatility`` (daily, known at the close of t: ``features.bars.causal_volatility``, which
        looks back 129 sessions), ``excess`` (log return t to t+1 less that of the market, in units of it),
        ``range_variance`` (of the session t+1, by :func:`next_range_variance`) and
        ``previous`` (the session before; NaT at the first).
    """
    found = outcome_matrices(panel, frame_names(scaled)) if matrices is None else matrices
    labels = found["log_return"]
    # A label is NaN where the next session is missing or not over yet: such rows are not due.
    due = np.isfinite(labels)
    if sessions is not None:
        due &= panel.sessions.isin(list(sessions))
    ticker, session = np.nonzero(due)
    columns: dict[str, object] = {
        "session": panel.sessions[session],
        "ticker": np.array(panel.tickers, dtype=object)[ticker],
        "log_return": labels[ticker, session],
        "up": labels[ticker, session] > 0,
    }
    columns |= {name: values[ticker, session] for name, values in found.items() if name not in columns}
    if scaled:
        columns["previous"] = panel.sessions.to_series().shift().to_numpy()[session]
    return pd.DataFrame(columns)


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
    joined = predictions[known]  # a copy already: to number its rows anew must not make another
    joined.index = pd.RangeIndex(len(joined))
    settled = outcomes.columns.drop(["session", "ticker"])
    found = {name: outcomes[name].to_numpy()[place[known]] for name in settled}
    # Columns as they are, put together at once: one after the other costs more than all else, where there are few rows.
    return pd.DataFrame(dict(joined.items()) | found, index=joined.index, copy=False)
