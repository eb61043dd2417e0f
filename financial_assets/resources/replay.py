"""One replay, put together from the resources: the asset ``predictions`` and the command ``replay`` both run it."""

from __future__ import annotations

import pandas as pd

from financial_assets.experiment.replay import ReplayReport, replay
from financial_assets.experiment.schedule import due_sessions, replay_horizon, routed_before
from financial_assets.market.clock import HistoricalClock, MarketClock
from financial_assets.models.predictor import SERVED_LOOKBACK
from financial_assets.resources.experiment import Experiment
from financial_assets.resources.market import Market
from financial_assets.resources.serving import Serving

__all__ = ["run_replay"]


def run_replay(
    market: Market, serving: Serving, ab_test: Experiment, *, sessions: int | None, workers: int | None = None
) -> ReplayReport:
    """Predict what is due through the gateway.

    Parameters
    ----------
    market, serving, ab_test
        Where prices come from, where predictions come from, where they go.
    sessions
        Sessions after the first data cut-off to replay, 0 for all; ``None`` to stop at the market clock.
    workers
        Concurrent requests; default: the setting.
    """
    clock, panel = market.clock(), market.whole_panel()
    horizon = now = clock.now()
    cutoff = market.first_cutoff().get()
    if sessions is not None and isinstance(clock, HistoricalClock) and cutoff is not None:
        horizon = replay_horizon(panel.sessions, cutoff, now, sessions)
    with ab_test.log() as log:
        epoch = ab_test.current_epoch(log)
        return replay(
            log=log,
            epoch=epoch,
            panel=panel,
            sessions=due_sessions(panel.sessions, horizon, epoch),
            routed_after=routed_before(log.routed(epoch.experiment, columns=("epoch", "session")), epoch),
            connect=serving.connect,
            lookback=SERVED_LOOKBACK,
            workers=workers or ab_test.workers,
            on_session=lambda session: _move(clock, session),
            progress=ab_test.progress,
        )


def _move(clock: MarketClock, session: pd.Timestamp) -> None:
    if isinstance(clock, HistoricalClock) and session > clock.now():
        clock.advance_to(session)
