"""One replay with the configured resources: the asset ``predictions`` and the command ``replay`` both run it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich.console import Console

from financial_assets.atomic import atomic_path
from financial_assets.errors import NotReadyError, ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.outcomes import KnownPrices
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.counts import ReplayReport
from financial_assets.experiment.replay.open_loop import OpenLoop, Timing, timing_frame
from financial_assets.experiment.replay.pending import due_sessions, replay_horizon
from financial_assets.experiment.replay.replay import replay
from financial_assets.experiment.replay.request import Decide, Mode, ReplayHooks, ReplayRequest
from financial_assets.experiment.rollout.regimes import request_regimes
from financial_assets.experiment.rollout.routing import apply_epoch, repair_routing
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.installation.ab_test import ABTestState
from financial_assets.installation.market import MarketState
from financial_assets.installation.models import ModelStore
from financial_assets.installation.serving import ServingAccess
from financial_assets.market.panel import PricePanel
from financial_assets.models.request_shape import SERVED_LOOKBACK
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.workflows.decisions import BaselinePredictions, decide_as_of, take_step, update_allocation

OPEN_LOOP_LIMIT = 64
"""Most requests in flight of an open loop that names no other limit."""

# Reasons of the weight epochs of a replay in which the challenger only gets copies. The log records with them what was
# routed how, and a replay that was killed in between is recognised by the first.
_SHADOW_BEGINS = "replay --mode shadow: the challenger gets copies only"
_SHADOW_ENDS = "replay --mode shadow has ended"


def run_replay(
    market: MarketState,
    serving: ServingAccess,
    ab_test: ABTestState,
    *,
    sessions: int | None,
    workers: int | None = None,
    mode: Mode | None = None,
    load: OpenLoop | None = None,
    deciding: Callable[[PricePanel], Decide] | None = None,
) -> ReplayReport:
    """Predict what is due through the gateway.

    Parameters
    ----------
    market, serving, ab_test
        Where prices come from, where predictions come from, where they go.
    sessions
        Sessions after the first data cut-off to replay, 0 for all; ``None`` to stop at the market clock.
    workers
        Concurrent requests; by default the setting, or 64 in an open loop.
    mode
        What is sent; by default routed requests and pairs. ``shadow`` opens a weight epoch without a share for the
        challenger, and another one with the previous weights when it ends.
    load
        Instants of an open loop; the times of all requests are then kept under ``reports/load``.
    deciding
        Gives, for the prices, what decides after every session, such as :func:`decide_between_sessions`.

    Raises
    ------
    ReplayError, LogError
        See :func:`~financial_assets.experiment.replay.replay.replay`; or decisions are wanted of a shadow.
    MarketDataError
        Another run is at work on a new session, and this one would move the clock.
    """
    if deciding is not None and mode == "shadow":
        raise ReplayError("decisions change the weights, but --mode shadow keeps the challenger's at 0: choose one")
    clock, first_cutoff = market.clock().now(), market.first_cutoff().get()
    if sessions is not None and market.is_historical and first_cutoff is not None:
        panel = market.whole_panel()
        horizon = replay_horizon(panel.sessions, first_cutoff, clock, sessions)
    else:
        # Up to the clock, a stored panel only has to be continued; what lies after it would be laid out as a whole.
        panel, horizon = market.panel(), clock
    timings: list[Timing] = []
    with (
        market.moving_clock(until=horizon),
        ab_test.log() as log,
        _routed_epoch(mode, log, serving, ab_test) as epoch,
        _kept(timings, Path(ab_test.home)),
    ):
        request = ReplayRequest(
            epoch,
            due_sessions(panel.sessions, horizon, epoch),
            SERVED_LOOKBACK,
            clock=clock,
            mode=mode,
            load=load,
            workers=workers or (ab_test.replay_workers if load is None else OPEN_LOOP_LIMIT),
            ready_timeout=serving.ready_timeout,
            regimes=request_regimes(ab_test.policy(), panel),
            sample=ab_test.routed_sample(),
        )
        hooks = ReplayHooks(
            on_session=market.move_clock,
            decide=None if deciding is None else deciding(panel),
            timings=timings,
            console=Console(stderr=True) if ab_test.progress else None,
        )
        return replay(request, log, panel, Connector(serving), hooks)


def score_sessions(
    sessions: pd.DatetimeIndex, market: MarketState, serving: ServingAccess, ab_test: ABTestState
) -> ReplayReport:
    """Ask every arm of the current epoch about past sessions, in pairs, for what the log lacks; no clock moves.

    Raises
    ------
    ReplayError
        A session is not one of the prices, or an arm has learned from it; or no model answers.
    """
    with ab_test.log() as log:
        request = ReplayRequest(
            ab_test.current_epoch(log),
            sessions,
            SERVED_LOOKBACK,
            mode="paired",
            workers=ab_test.replay_workers,
            ready_timeout=serving.ready_timeout,
        )
        return replay(request, log, market.panel(), Connector(serving))


def decide_between_sessions(
    market: MarketState, models: ModelStore, serving: ServingAccess, ab_test: ABTestState, panel: PricePanel
) -> Decide:
    """What decides as of the market clock and applies the decisions, after each session of a replay.

    A step that an earlier process left half done is finished at once.
    """
    take_step((), models, serving, ab_test)
    baselines = BaselinePredictions(models, panel)  # computed once per replay, not once per session

    def decide() -> tuple[tuple[Decision, ...], WeightEpoch]:
        as_of = market.clock().now()
        known = KnownPrices.of(panel.until(as_of), as_of)
        judgements = decide_as_of(known, baselines, models, ab_test)
        update_allocation(judgements, known, ab_test)
        decisions = tuple(judgement.decision for judgement in judgements)
        return decisions, take_step(decisions, models, serving, ab_test, always=False).epoch

    return decide


class Connector:
    """Opens connections to the gateway, wherever the target currently has it.

    A gateway may outlive what manages it: while the target names none, the last one is asked, and its answers show
    whether it still serves which models.

    Parameters
    ----------
    serving
        The target, and how long a request may take.
    """

    def __init__(self, serving: ServingAccess) -> None:
        self._serving = serving
        self._last: InferenceClient | None = None

    def __call__(self) -> InferenceClient:
        """A connection; ``NotReadyError`` if there was never a gateway."""
        try:
            self._last = self._serving.connect()
        except NotReadyError:
            if self._last is None:
                raise
            return InferenceClient(self._last.endpoint, timeout_s=self._serving.request_timeout)
        return self._last


@contextmanager
def _routed_epoch(
    mode: Mode | None, log: PredictionLog, serving: ServingAccess, ab_test: ABTestState
) -> Generator[WeightEpoch]:
    """The current epoch, routed as it says; for a shadow one without a share for the challenger, until the block ends.

    An earlier replay may have been killed in its shadow, or a step before it was routed: both are finished here.
    """
    rollout, current = Rollout(log, ab_test.policy(), ab_test.switch), ab_test.current_epoch(log)
    target, namespace, timeout_s = serving.target(), serving.kubernetes_namespace, serving.ready_timeout

    def settle(step: Callable[[Rollout], WeightEpoch]) -> WeightEpoch:
        with log.exclusive(current.experiment):
            epoch = step(rollout)
            apply_epoch(epoch, target, namespace, timeout_s, former=rollout.former_regimes())
        return epoch

    if mode == "shadow":
        ab_test.switch.check()  # it takes the challenger's share away, and a halt freezes the shares
        if len(current.challengers) != 1:
            challengers = ", ".join(arm.model for arm in current.challengers) or "none"
            raise ReplayError(f"--mode shadow sends copies to one challenger, but the experiment has: {challengers}")
        try:
            yield settle(enter_shadow)
        finally:
            settle(_leave_shadow)
    elif current.reason == _SHADOW_BEGINS:
        yield settle(_leave_shadow)
    else:
        with log.exclusive(current.experiment):
            repair_routing(current, target, namespace, timeout_s, former=rollout.former_regimes())
        yield current


def enter_shadow(rollout: Rollout) -> WeightEpoch:
    """The epoch in which the challenger has no share; the current one if it has none already."""
    return rollout.take_step(0, _SHADOW_BEGINS)


def _leave_shadow(rollout: Rollout) -> WeightEpoch:
    """The epoch with the previous weights; the current one unless a replay has withdrawn the challenger's share."""
    current = rollout.started()
    if current.reason != _SHADOW_BEGINS:
        return current
    previous = rollout.log.known_epoch(current.experiment, current.number - 1)
    return rollout.change_weights(previous.weights, _SHADOW_ENDS, regimes=previous.regimes)


@contextmanager
def _kept(timings: list[Timing], home: Path) -> Generator[None]:
    """Keeps the times of all requests, including those of a replay that was interrupted."""
    try:
        yield
    finally:
        if timings:
            path = home / "reports" / "load" / f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}.parquet"
            with atomic_path(path) as temporary:
                timing_frame(timings).to_parquet(temporary, index=False)
