"""Replay: sessions through the gateway, each as of its own close; the same code serves one live session.

For each session, in order: intents are committed, one routed request per ticker goes to the experiment's endpoint, and
results are committed as they arrive. Then every arm and shadow scores the same bars in one batch each (the pairs), a
decision may be taken, and the replay continues in the weight epoch that it leads to. A replay may be interrupted at any
point and continues there: what has a result is never sent again.

A request that no model answered because the serving plane was away has no result: the replay waits until all arms
answer and sends it again. An open loop keeps its schedule meanwhile and sends it afterwards, outside the latencies.

A closed loop sends routed requests as fast as the workers get answers; an open loop sends them at instants fixed
beforehand. An open loop does not wait for a session's answers before it starts the next; its pairs are scored after the
traffic. If each session ends with a decision, the next one starts when all answers have arrived, but its requests are
due when the timeline has them: that wait counts as latency.
"""

from __future__ import annotations

import dataclasses
import time

from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.counts import Counts, ReplayReport
from financial_assets.experiment.replay.live_view import LiveView
from financial_assets.experiment.replay.open_loop import Timeline, summarize
from financial_assets.experiment.replay.pending import is_undecided, pending_sessions
from financial_assets.experiment.replay.request import ReplayHooks, ReplayRequest
from financial_assets.experiment.replay.runner import EpochRun, ReplayContext
from financial_assets.experiment.replay.scoreboard import PAIR_COLUMNS, Scoreboard
from financial_assets.market.panel import PricePanel
from financial_assets.serving.client.inference import Connect


def replay(
    request: ReplayRequest, log: PredictionLog, panel: PricePanel, connect: Connect, hooks: ReplayHooks | None = None
) -> ReplayReport:
    """Send what is missing of the requested sessions through the gateway.

    Parameters
    ----------
    request
        What is asked.
    log
        The prediction log.
    panel
        Prices; each session sees ``panel.until(session)`` only.
    connect
        Opens a connection to the gateway; called at most once per worker and weight epoch.
    hooks
        Where the caller takes part.

    Raises
    ------
    ReplayError
        If a session is not after the data cut-offs or not in the panel, or no model answers: within ``ready_timeout``,
        or within their deadline 20 requests in a row or all of a session, or paired scoring. Everything done so far is
        in the log.
    LogError
        If the log refuses, or another replay of the experiment is running.
    LockLostError
        If another replay has taken over meanwhile.
    """
    started, hooks, counts = time.perf_counter(), hooks or ReplayHooks(), Counts()
    epoch = request.epoch
    with log.exclusive(epoch.experiment) as lock:
        # Planned under the lock: what another replay has sent until then is in the log.
        pending = pending_sessions(request, log, panel, epoch)
        if hooks.decide is not None and is_undecided(request, log, pending):
            decisions, epoch = hooks.decide()
            counts.decisions, counts.epochs = len(decisions), int(epoch != request.epoch)
            pending = pending_sessions(request, log, panel, epoch)
        if pending:
            timeline = None if request.load is None else Timeline(request.load, time.perf_counter)
            board = Scoreboard(epoch, panel, total=len(pending))
            if hooks.console is not None:
                board.score_logged(log.direct(epoch.weights, columns=PAIR_COLUMNS))
            with LiveView(board, hooks.console) as view:
                context = ReplayContext(request, hooks, log, panel, connect, lock, counts, timeline, board, view)
                while pending:
                    with EpochRun(context, epoch) as run:
                        opened = run.work_through(pending)
                    if opened is None:
                        break
                    epoch, last_session = opened
                    pending = pending_sessions(request, log, panel, epoch, after=last_session)
    return ReplayReport(
        **dataclasses.asdict(counts),
        sessions=len(request.sessions),
        wall_s=time.perf_counter() - started,
        load=None if request.load is None else summarize(hooks.timings),
    )
