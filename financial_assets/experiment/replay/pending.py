"""Which sessions an experiment has to predict, and what of them a replay still has to send.

That is sessions x tickers with a window, minus what has a result in the log; of routed requests only the session's
sample. Sessions that the log notes as complete are not looked at row by row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
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
        Tickers of the session's sample without a routed result.
    direct
        Model -> tickers without a direct result.
    regimes
        Ticker -> regime of its routed request, where it is known.
    inclusion
        Probability of each ticker to be in the sample.
    """

    session: pd.Timestamp
    target: pd.Timestamp
    routed: tuple[str, ...]
    direct: Mapping[str, tuple[str, ...]]
    regimes: Mapping[str, str] = field(default_factory=dict)
    inclusion: float = 1.0


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
    begun: dict[pd.Timestamp, set[str]] = {}
    for session, ticker in log.begun_routed(epoch.experiment, epoch.number):
        begun.setdefault(session, set()).add(ticker)
    # A window needs `lookback` bars of a listed ticker and a trade on the session itself.
    usable = (panel.valid & (panel.listed_bars() >= request.lookback))[:, panel.sessions.get_indexer(sessions)]
    paired = _unpaired(log, models, sessions, panel.tickers, usable)
    pending: list[PendingSession] = []
    for column, session in enumerate(sessions):
        is_routed = request.mode != "paired" and (routed_before is None or session > routed_before)
        direct = paired.get(session, {})
        if not is_routed and not direct:
            continue
        routed, inclusion = (), 1.0
        if is_routed:
            tickers = [panel.tickers[row] for row in np.flatnonzero(usable[:, column]).tolist()]
            sample, inclusion = request.sample.draw(session, tickers, begun.get(session, ()))
            routed = tuple(ticker for ticker in sample if (session, ticker) not in routed_done)
        if routed or direct:
            labels = request.regimes.labels(session, routed) if request.regimes and epoch.regimes else {}
            pending.append(PendingSession(session, next_session(session), routed, direct, labels, inclusion))
    return pending


def _unpaired(
    log: PredictionLog,
    models: Sequence[str],
    sessions: pd.DatetimeIndex,
    tickers: Sequence[str],
    usable: np.ndarray,
) -> dict[pd.Timestamp, dict[str, tuple[str, ...]]]:
    """Session -> model -> tickers without a direct result; what turns out to be complete is noted in the log."""
    noted = log.complete_sessions(models)
    names = hashlib.sha256("\0".join(tickers).encode()).digest()
    digests = {
        session: hashlib.sha256(names + np.packbits(usable[:, column]).tobytes()).hexdigest()
        for column, session in enumerate(sessions)
    }
    doubtful = [
        (column, session)
        for column, session in enumerate(sessions)
        if any(noted.get((session, model)) != digests[session] for model in models)
    ]
    done = log.completed_direct(models, [session for _, session in doubtful])
    unpaired: dict[pd.Timestamp, dict[str, tuple[str, ...]]] = {}
    complete: dict[str, dict[pd.Timestamp, str]] = {}
    for column, session in doubtful:
        asked = [tickers[row] for row in np.flatnonzero(usable[:, column]).tolist()]
        for model in models:
            missing = tuple(ticker for ticker in asked if (session, ticker, model) not in done)
            if missing:
                unpaired.setdefault(session, {})[model] = missing
            else:
                complete.setdefault(model, {})[session] = digests[session]
    log.record_complete(complete)
    return unpaired


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
