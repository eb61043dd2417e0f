"""Which sessions an experiment still has to predict."""

from __future__ import annotations

import pandas as pd

from financial_assets.experiment.arms import WeightEpoch

__all__ = ["due_sessions", "replay_horizon", "routed_before"]


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


def due_sessions(sessions: pd.DatetimeIndex, horizon: pd.Timestamp, epoch: WeightEpoch) -> pd.DatetimeIndex:
    """Sessions that the arms of the epoch in force can be judged on, in order.

    Parameters
    ----------
    sessions
        Candidates, sorted.
    horizon
        Nothing later is due.
    epoch
        The weight epoch in force: only sessions after its arms' data cut-offs count as evidence.
    """
    return sessions[(sessions > epoch.data_cutoff) & (sessions <= horizon)]


def routed_before(routed: pd.DataFrame, epoch: WeightEpoch) -> pd.Timestamp | None:
    """The last session that an earlier epoch of the experiment has routed.

    Traffic is routed once, when it comes: up to here, an epoch that opened later only scores its arms in pairs.

    Parameters
    ----------
    routed
        Routed predictions of the experiment: ``epoch``, ``session``.
    epoch
        The weight epoch in force.
    """
    earlier = routed.loc[routed["epoch"] < epoch.number, "session"]
    return None if earlier.empty else pd.Timestamp(earlier.max())
