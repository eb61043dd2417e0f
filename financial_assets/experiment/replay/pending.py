"""What a replay still has to send: sessions x tickers that have a window, less what has a result in the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from financial_assets.errors import ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.rollout.regimes import RequestRegimes
from financial_assets.market.calendar import next_session
from financial_assets.market.panel import PricePanel

__all__ = ["SessionWork", "plan_work"]


@dataclass(frozen=True, slots=True)
class SessionWork:
    """What one session lacks.

    Attributes
    ----------
    session, target
        The session as of which is predicted, and the predicted one.
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


def plan_work(
    log: PredictionLog,
    epoch: WeightEpoch,
    panel: PricePanel,
    sessions: Sequence[pd.Timestamp] | pd.DatetimeIndex,
    lookback: int,
    target_of: Callable[[pd.Timestamp], pd.Timestamp] | None = None,
    routed_after: pd.Timestamp | None = None,
    *,
    route: bool = True,
    pair: bool = True,
    regimes: RequestRegimes | None = None,
) -> list[SessionWork]:
    """The sessions, in order, that have something left to send; up to ``routed_after`` in pairs only.

    Without ``route`` nothing goes through the experiment, without ``pair`` nothing is scored in pairs. ``regimes``
    tells the regime of each routed request, where the epoch splits some of them by weights of their own.

    Raises
    ------
    ReplayError
        If the sessions are not in order, not in the panel, or not after the data cut-off of every arm.
    """
    wanted = pd.DatetimeIndex(list(sessions))
    _check_sessions(wanted, epoch, panel)
    target_of = target_of or next_session
    models = [arm.model for arm in epoch.arms]
    routed_done = log.completed_routed(epoch.experiment, epoch.number)
    direct_done = log.completed_direct(models)
    usable = panel.valid & (panel.listed_bars() >= lookback)
    work: list[SessionWork] = []
    for session, column in zip(wanted, panel.sessions.get_indexer(wanted), strict=True):
        tickers = [ticker for ticker, usable_now in zip(panel.tickers, usable[:, column], strict=True) if usable_now]
        is_routed = route and (routed_after is None or session > routed_after)
        routed = tuple(ticker for ticker in tickers if is_routed and (session, ticker) not in routed_done)
        direct = {
            model: missing
            for model in (models if pair else ())
            if (missing := tuple(ticker for ticker in tickers if (session, ticker, model) not in direct_done))
        }
        if routed or direct:
            of = regimes.labels(session, routed) if regimes is not None and epoch.regimes else {}
            work.append(SessionWork(session, target_of(session), routed, direct, of))
    return work


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
