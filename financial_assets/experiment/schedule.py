"""Which sessions an experiment still has to predict."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from financial_assets.experiment.arms import WeightEpoch

__all__ = ["due_sessions", "replay_horizon"]


def replay_horizon(sessions: pd.DatetimeIndex, cutoff: pd.Timestamp, now: pd.Timestamp, count: int) -> pd.Timestamp:
    """How far a replay of historical sessions goes.

    Parameters
    ----------
    sessions
        All sessions of the source, sorted.
    cutoff
        The first training's data cut-off: the replay begins after it, so asking again does not move the horizon.
    now
        The market clock; the horizon is never before it.
    count
        Sessions to replay; 0 for all.
    """
    after = sessions[sessions > cutoff]
    if len(after) == 0:
        return now
    return max(now, after[-1] if count == 0 else after[min(count, len(after)) - 1])


def due_sessions(
    sessions: pd.DatetimeIndex, horizon: pd.Timestamp, epoch: WeightEpoch, earlier: Iterable[pd.Timestamp]
) -> pd.DatetimeIndex:
    """Sessions that the epoch in force has to predict, in order.

    Parameters
    ----------
    sessions
        Candidates, sorted.
    horizon
        Nothing later is due.
    epoch
        The weight epoch in force: only sessions after its arms' data cut-offs count as evidence.
    earlier
        Sessions that earlier epochs of the experiment have predicted; a session is routed in one epoch only.
    """
    start = max([epoch.data_cutoff, *earlier])
    return sessions[(sessions > start) & (sessions <= horizon)]
