"""Which sessions an experiment has to predict, and what of them a replay still has to send.

That is sessions x tickers with a window, minus what has a result in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from financial_assets.errors import ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.request import ReplayRequest
from financial_assets.market.calendar import next_session
from financial_assets.market.panel import PricePanel


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


@dataclass(frozen=True, slots=True)
class PendingSession:
    """What one session lacks.

    Attributes
    ----------
    session, target
        The session whose close is the latest known price, and the session that is predicted.
    routed
        Tickers without a routed result.
    direct
        Model -> tickers without a direct result.
    regimes
        Ticker -> regime of its routed request, where it is known.
    """

    session: pd.Timestamp
    target: pd.Timestamp
    routed: tuple[str, ...]
    direct: Mapping[str, tuple[str, ...]]
    regimes: Mapping[str, str] = field(default_factory=dict)


def pending_sessions(
    request: ReplayRequest, log: PredictionLog, panel: PricePanel, epoch: WeightEpoch, after: pd.Timestamp | None = None
) -> list[PendingSession]:
    """The sessions of ``request``, in order, that have something left to send in ``epoch``; only those ``after`` one.

    Traffic is routed once, when it arrives: sessions that an earlier epoch has routed are scored in pairs only.

    Raises
    ------
    ReplayError
        If the sessions are not in order, not in the panel, or not after the data cut-off of every arm.
    """
    sessions = request.sessions if after is None else request.sessions[request.sessions > after]
    _check_sessions(sessions, epoch, panel)
    # Both modes without pairs measure traffic only; pairs can follow in a later replay.
    models = [] if request.mode in ("split", "shadow") else [arm.model for arm in epoch.arms]
    routed_before = log.last_routed(epoch.experiment, before=epoch.number)
    routed_done = log.completed_routed(epoch.experiment, epoch.number)
    direct_done = log.completed_direct(models)
    # A window needs `lookback` bars of a listed ticker and a trade on the session itself.
    usable = panel.valid & (panel.listed_bars() >= request.lookback)
    pending: list[PendingSession] = []
    for session, column in zip(sessions, panel.sessions.get_indexer(sessions), strict=True):
        tickers = [ticker for ticker, is_usable in zip(panel.tickers, usable[:, column], strict=True) if is_usable]
        is_routed = request.mode != "paired" and (routed_before is None or session > routed_before)
        routed = tuple(ticker for ticker in tickers if is_routed and (session, ticker) not in routed_done)
        direct = {
            model: missing
            for model in models
            if (missing := tuple(ticker for ticker in tickers if (session, ticker, model) not in direct_done))
        }
        if routed or direct:
            labels = request.regimes.labels(session, routed) if request.regimes and epoch.regimes else {}
            pending.append(PendingSession(session, next_session(session), routed, direct, labels))
    return pending


def is_undecided(request: ReplayRequest, log: PredictionLog, pending: Sequence[PendingSession]) -> bool:
    """Whether the clock's session is complete but was never decided: a replay was killed between the two."""
    clock, epoch = request.clock, request.epoch
    if clock is None or not epoch.challengers or clock not in request.sessions:
        return False
    if any(item.session == clock for item in pending):
        return False
    # An open loop commits intents ahead of the clock, so later sessions may be in the log as well.
    routed = log.routed(epoch.experiment, since=clock, columns=("session",))
    decided = log.decisions(epoch.experiment)
    return clock in set(routed["session"]) and all(pd.Timestamp(decision.as_of) < clock for decision in decided)


def _check_sessions(sessions: pd.DatetimeIndex, epoch: WeightEpoch, panel: PricePanel) -> None:
    if not sessions.is_monotonic_increasing or not sessions.is_unique:
        raise ReplayError("the sessions of a replay must be in order, each once")
    unknown = sessions.difference(panel.sessions)
    if len(unknown):
        raise ReplayError(
            f"{len(unknown)} sessions are not in the price panel, the first is {unknown[0].date()}: materialize "
            "price_panel, or replay fewer sessions"
        )
    if len(sessions) and sessions[0] <= epoch.data_cutoff:
        latest = max(epoch.arms, key=lambda arm: arm.data_cutoff)
        raise ReplayError(
            f"session {sessions[0].date()} is not after {latest.data_cutoff.date()}, the data cut-off of "
            f"{latest.model}: a model must not be judged on what it has learned from"
        )
