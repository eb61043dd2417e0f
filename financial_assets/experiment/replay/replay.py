"""Replay: sessions through the gateway, each as of itself; many in a row; the same code runs live.

For each session, in order: intents are committed, one routed request a ticker is sent to the experiment's endpoint,
results are committed as they arrive; then every arm and shadow scores the same bars in one batch each (the pairs); then
a decision may be taken, and what follows goes on in the weight epoch that it leads to. Interrupted at any point, a
replay goes on where it was: what has a result is never sent again.

What no model has answered, because the plane was away, is no result: the replay waits until all arms answer, and sends
it again. An open loop keeps its schedule meanwhile and sends it after that, apart from the latencies.

Routed requests are sent in a closed loop, as fast as the workers get answers, or in an open one, at instants that were
fixed beforehand. An open loop does not wait for a session's answers before it goes on to the next; its pairs are scored
after the traffic. Where each session ends with a decision, the next begins when all answers have come, but its requests
are due when the timeline says: that wait counts as latency.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
from rich.console import Console

from financial_assets.errors import ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.open_loop import OpenLoop, Timeline, Timing, summarize
from financial_assets.experiment.replay.pending import plan_work
from financial_assets.experiment.replay.requests import Connect, Retry
from financial_assets.experiment.replay.runner import Decide, EpochRun, ReplayState
from financial_assets.experiment.rollout.regimes import RequestRegimes
from financial_assets.market.panel import PricePanel

__all__ = ["Mode", "ReplayReport", "replay"]

Mode = Literal["split", "shadow", "paired"]
"""``split``: routed by the weights. ``shadow``: the champion answers, the challenger gets copies. ``paired``: every arm
scores the same bars, nothing is routed."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did.

    Attributes
    ----------
    sessions
        Sessions asked for.
    worked
        Sessions in which something was sent; the others were complete.
    sent, ok, failed, unattributed
        Routed requests of this call, and how they ended; ``sent`` is their sum.
    unanswered
        Times that a request was sent and no model answered; the request stays open and is sent again.
    repeated
        Requests that were sent again because of that and have ended.
    waits, waited_s
        How often the replay waited until all arms answered again, and for how many seconds in all.
    direct, direct_failed
        Paired scorings of this call.
    wall_s
        Seconds.
    decisions, epochs
        Decisions taken, and weight epochs that they opened.
    late, sent_again, most_in_flight, longest_delay_s, from_schedule, service
        Of an open loop: see :class:`~financial_assets.experiment.replay.open_loop.LoadSummary`; otherwise empty.
    """

    sessions: int
    worked: int = 0
    sent: int = 0
    ok: int = 0
    failed: int = 0
    unattributed: int = 0
    unanswered: int = 0
    repeated: int = 0
    waits: int = 0
    waited_s: float = 0.0
    direct: int = 0
    direct_failed: int = 0
    wall_s: float = 0.0
    decisions: int = 0
    epochs: int = 0
    late: int = 0
    sent_again: int = 0
    most_in_flight: int = 0
    longest_delay_s: float = 0.0
    from_schedule: Mapping[str, float] = field(default_factory=dict)
    service: Mapping[str, float] = field(default_factory=dict)


def replay(
    *,
    log: PredictionLog,
    epoch: WeightEpoch,
    panel: PricePanel,
    sessions: Sequence[pd.Timestamp] | pd.DatetimeIndex,
    connect: Connect,
    lookback: int,
    workers: int = 2,
    retry: Retry | None = None,
    ready_timeout: float = 120.0,
    on_session: Callable[[pd.Timestamp], None] | None = None,
    target_of: Callable[[pd.Timestamp], pd.Timestamp] | None = None,
    routed_after: pd.Timestamp | None = None,
    mode: Mode | None = None,
    load: OpenLoop | None = None,
    timings: list[Timing] | None = None,
    decide: Decide | None = None,
    regimes: RequestRegimes | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> ReplayReport:
    """Send what is missing of the given sessions through the gateway.

    Parameters
    ----------
    log
        The prediction log.
    epoch
        Weight epoch in force; its weights must be those of the serving plane.
    panel
        Prices; each session sees ``panel.until(session)`` only.
    sessions
        Sessions to predict from, in order, all after the data cut-off of every arm.
    connect
        Opens a connection to the gateway; called at most once a worker and weight epoch.
    lookback
        Bars in a request.
    workers
        Most requests in flight at a time.
    retry
        How paired scoring is repeated; default :class:`Retry`.
    ready_timeout
        Seconds to wait for a plane that gives no answers.
    on_session
        Called with each session that has something to send, before it is sent (to move the market clock).
    target_of
        The session after a session; default the exchange calendar.
    routed_after
        Sessions up to this one are scored in pairs only: an earlier weight epoch has routed them.
    mode
        What is sent; default what ``split`` and what ``paired`` send.
    load
        Instants of the routed requests; default a closed loop.
    timings
        Of an open loop: every request is appended as it ends, also when the replay is interrupted later.
    decide
        Called at the end of each session that had something to send.
    regimes
        Which regime each request is in, for epochs that split some of them by weights of their own.
    progress
        Show a live table on a terminal, lines elsewhere.
    console
        Where; default standard error.

    Raises
    ------
    ReplayError
        If a session is not after the data cut-offs or not in the panel, or no model answers: within ``ready_timeout``,
        or within their deadline 20 requests in a row or all of a session, or paired scoring. What was done is in the
        log.
    LogError
        If the log refuses, or another replay of the experiment is running.
    LockLostError
        If another replay has taken over meanwhile.
    """
    started = time.perf_counter()
    if workers < 1:
        raise ReplayError(f"workers is {workers}; allowed: 1 or more")
    _check_shadow(mode, epoch)
    asked = pd.DatetimeIndex(list(sessions))
    left, pair = asked, mode in (None, "paired")
    with ExitStack() as stack:
        lock = stack.enter_context(log.exclusive(epoch.experiment))
        retry = retry or Retry()
        state = ReplayState(log, panel, connect, lookback, workers, retry, ready_timeout, lock, on_session, decide)
        state.timings = timings if timings is not None else []
        state.timeline = None if load is None else Timeline(load, time.perf_counter)
        while True:
            route = mode != "paired"
            work = plan_work(
                log, epoch, panel, left, lookback, target_of, routed_after, route=route, pair=pair, regimes=regimes
            )
            if not work:
                break
            if state.view is None:
                state.show(stack, epoch, len(work), progress, console)
            with EpochRun(state, epoch) as run:
                opened = run.through(work)
            if opened is None:
                break
            epoch, routed_after = opened
            left = left[left > routed_after]
    return _report(state, len(asked), time.perf_counter() - started)


def _check_shadow(mode: Mode | None, epoch: WeightEpoch) -> None:
    if mode != "shadow":
        return
    routed = [arm.model for arm in epoch.challengers if arm.weight]
    if not epoch.challengers or routed:
        who = f"{routed[0]} is routed to" if routed else "there is no challenger"
        raise ReplayError(f"shadow: {who} in weight epoch {epoch.number}; a mirror needs a challenger with weight 0")


def _report(state: ReplayState, sessions: int, wall_s: float) -> ReplayReport:
    values: dict[str, Any] = dataclasses.asdict(state.counts)
    if state.timeline is not None:
        load = dataclasses.asdict(summarize(state.timings, state.most_in_flight))
        values |= {name: value for name, value in load.items() if name != "requests"}
    return ReplayReport(
        sessions=sessions,
        worked=state.worked,
        decisions=state.decisions,
        epochs=state.epochs,
        wall_s=wall_s,
        waits=state.waits,
        waited_s=state.waited_s,
        **values,
    )
