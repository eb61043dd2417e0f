"""Which sessions an experiment still has to predict."""

from __future__ import annotations

import pandas as pd

from financial_assets.experiment.arms import WeightEpoch

__all__ = ["due_sessions", "replay_horizon"]


def replay_horizon(sessions: pd.DatetimeIndex, cutoff: pd.Timestamp, now: pd.Timestamp, count: int) -> pd.Timestamp:
    """The last session of a replay of historical sessions.

    Parameters
    ----------
    sessions
        All sessions of the source, sorted.
    cutoff
        Data cut-off of the first training: the replay begins after it, so asking again does not move the horizon.
    now
        The market clock; the horizon is never before it.
    count
        Sessions to replay; 0 for all.
    """
    after = sessions[sessions > cutoff]
    if len(after) == 0:
        return now
    return max(now, after[-1] if count == 0 else after[min(count, len(after)) - 1])


def due_sessions(sessions: pd.DatetimeIndex, horizon: pd.Timestamp, epoch: WeightEpoch) -> pd.DatetimeIndex:
    """Sessions that the arms of the current epoch can be judged on, in order.

    Parameters
    ----------
    sessions
        Candidates, sorted.
    horizon
        Nothing later is due.
    epoch
        The current weight epoch: only sessions after its arms' data cut-offs count as evidence.
    """
    return sessions[(sessions > epoch.data_cutoff) & (sessions <= horizon)]
