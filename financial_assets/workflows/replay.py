"""One replay, put together from the resources: the asset ``predictions`` and the command ``replay`` both run it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from financial_assets.atomic import atomic_path
from financial_assets.errors import NotReadyError, ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.outcomes import outcome_frame
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.open_loop import OpenLoop, Timing, timing_frame
from financial_assets.experiment.replay.pending import plan_work
from financial_assets.experiment.replay.replay import Mode, ReplayReport, replay
from financial_assets.experiment.replay.runner import Decide
from financial_assets.experiment.replay.sessions import due_sessions, replay_horizon, routed_before
from financial_assets.experiment.replay.shadow import enter_shadow, is_shadow_replay, leave_shadow
from financial_assets.experiment.rollout.regimes import RequestRegimes, request_regimes
from financial_assets.experiment.rollout.routing import apply_epoch, repair_routing
from financial_assets.experiment.rollout.state import Rollout
from financial_assets.market.panel import PricePanel
from financial_assets.models.predictor import SERVED_LOOKBACK
from financial_assets.resources.ab_test import ABTest
from financial_assets.resources.market import Market
from financial_assets.resources.models import Models
from financial_assets.resources.serving import Serving
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.workflows.decisions import BaselinePredictions, decide_as_of, take_step, update_allocation

__all__ = ["OPEN_LOOP_PLACES", "run_replay"]

OPEN_LOOP_PLACES = 64
"""Requests under way at most, in an open loop that names no other bound."""


def run_replay(
    market: Market,
    serving: Serving,
    ab_test: ABTest,
    *,
    sessions: int | None,
    workers: int | None = None,
    mode: Mode | None = None,
    load: OpenLoop | None = None,
    deciding: Models | None = None,
) -> ReplayReport:
    """Predict what is due through the gateway.

    Parameters
    ----------
    market, serving, ab_test
        Where prices come from, where predictions come from, where they go.
    sessions
        Sessions after the first data cut-off to replay, 0 for all; ``None`` to stop at the market clock.
    workers
        Concurrent requests; default: the setting, 64 in an open loop.
    mode
        What is sent; default: routed requests and pairs. ``shadow`` opens a weight epoch without a share for the
        challenger, and another one with the former weights when it ends.
    load
        Instants of an open loop; the time of every request is then kept under ``reports/load``.
    deciding
        With the models' workshop given, a decision is taken and carried out after every session.

    Raises
    ------
    ReplayError, LogError
        See :func:`~financial_assets.experiment.replay.replay`; or decisions are wanted of a shadow.
    MarketDataError
        Another run is at work on a new session, and this one would move the clock.
    """
    if deciding is not None and mode == "shadow":
        raise ReplayError("decisions change the weights, but --mode shadow keeps the challenger's at 0: choose one")
    panel = market.whole_panel()
    horizon = now = market.clock().now()
    cutoff = market.first_cutoff().get()
    if sessions is not None and market.is_historical and cutoff is not None:
        horizon = replay_horizon(panel.sessions, cutoff, now, sessions)
    timings: list[Timing] = []
    with (
        market.moving_clock(until=horizon),
        ab_test.log() as log,
        _weights(mode, log, serving, ab_test) as epoch,
        _kept(timings, Path(ab_test.home)),
    ):
        decide = None if deciding is None else _decide(market, deciding, serving, ab_test, panel)
        missed: Sequence[Decision] = ()
        before, regimes = epoch, request_regimes(ab_test.policy(), panel)
        if decide is not None and _is_undecided(log, epoch, panel, now, regimes):
            with log.exclusive(epoch.experiment):
                missed, epoch = decide()
        report = replay(
            log=log,
            epoch=epoch,
            panel=panel,
            sessions=due_sessions(panel.sessions, horizon, epoch),
            routed_after=routed_before(log.routed(epoch.experiment, columns=("epoch", "session")), epoch),
            connect=Connector(serving),
            ready_timeout=serving.ready_timeout,
            lookback=SERVED_LOOKBACK,
            workers=workers or (ab_test.workers if load is None else OPEN_LOOP_PLACES),
            on_session=market.move_clock,
            mode=mode,
            load=load,
            timings=timings,
            decide=decide,
            regimes=regimes,
            progress=ab_test.progress,
        )
    opened = report.epochs + (epoch != before)
    return dataclasses.replace(report, decisions=report.decisions + len(missed), epochs=opened)


def _is_undecided(
    log: PredictionLog, epoch: WeightEpoch, panel: PricePanel, now: pd.Timestamp, regimes: RequestRegimes | None
) -> bool:
    """Whether the present session is complete and was never decided: a replay was killed between the two."""
    session = due_sessions(panel.sessions[panel.sessions == now], now, epoch)
    if not len(session) or not epoch.challengers:
        return False
    routed = log.routed(epoch.experiment, columns=("epoch", "session"))
    if not (routed["session"] == now).any():
        return False
    after = routed_before(routed, epoch)
    left = plan_work(log, epoch, panel, session, SERVED_LOOKBACK, routed_after=after, regimes=regimes)
    return not left and all(pd.Timestamp(one.as_of) < now for one in log.decisions(epoch.experiment))


class Connector:
    """Opens connections to the gateway, wherever the target says that it is now.

    A gateway may outlive what manages it: while the target names none, the last one is asked. Whether it answers, and
    for which models, shows there.

    Parameters
    ----------
    serving
        The target, and how long a request may take.
    """

    def __init__(self, serving: Serving) -> None:
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
def _weights(mode: Mode | None, log: PredictionLog, serving: Serving, ab_test: ABTest) -> Generator[WeightEpoch]:
    """The epoch to replay in; for a shadow one without a share for the challenger, which gets it back afterwards."""
    rollout, before = Rollout(log, ab_test.policy()), ab_test.current_epoch(log)

    def settle(step: Callable[[Rollout], WeightEpoch]) -> WeightEpoch:
        with log.exclusive(before.experiment):
            epoch = step(rollout)
            former = rollout.former_regimes()
            apply_epoch(epoch, serving.target(), serving.namespace, serving.ready_timeout, former=former)
        return epoch

    if mode != "shadow":  # an earlier replay may have been killed in its shadow, or a step before it was routed
        if is_shadow_replay(before):
            yield settle(leave_shadow)
            return
        with log.exclusive(before.experiment):
            former = rollout.former_regimes()
            repair_routing(before, serving.target(), serving.namespace, serving.ready_timeout, former=former)
        yield before
        return
    if len(before.challengers) != 1:
        found = ", ".join(arm.model for arm in before.challengers) or "none"
        raise ReplayError(f"--mode shadow sends copies to one challenger, but the experiment has: {found}")
    try:
        yield settle(enter_shadow)
    finally:
        settle(leave_shadow)


def _decide(market: Market, workshop: Models, serving: Serving, ab_test: ABTest, panel: PricePanel) -> Decide:
    """Decide as of the market clock and carry it out."""
    take_step((), workshop, serving, ab_test)  # what an interrupted step has left undone
    baselines = BaselinePredictions(workshop, panel)

    def decide() -> tuple[tuple[Decision, ...], WeightEpoch]:
        as_of = market.clock().now()
        visible = panel.until(as_of)
        judgements = decide_as_of(as_of, visible.sessions, outcome_frame(visible), baselines, workshop, ab_test)
        update_allocation(judgements, visible, as_of, ab_test)
        decisions = tuple(judgement.decision for judgement in judgements)
        return decisions, take_step(decisions, workshop, serving, ab_test, always=False).epoch

    return decide


@contextmanager
def _kept(timings: list[Timing], home: Path) -> Generator[None]:
    """Whatever was measured is kept, also of a replay that was interrupted."""
    try:
        yield
    finally:
        if timings:
            path = home / "reports" / "load" / f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}.parquet"
            with atomic_path(path) as temporary:
                timing_frame(timings).to_parquet(temporary, index=False)
