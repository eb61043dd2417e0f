"""Replay: one session through the gateway, as of that session; many in a row; the same code runs live.

For each session, in order: intents are committed, one routed request a ticker is sent to the experiment's endpoint by
``workers`` threads, results are committed as they arrive; then every arm and shadow scores the same bars in one
batch each (the pairs). Interrupted at any point, a replay goes on where it was: what has a result is never sent again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from financial_assets.errors import InferenceError, ReplayError
from financial_assets.experiment.arms import Arm, WeightEpoch
from financial_assets.experiment.gateway import Connect, Gateway, Retry, ask_direct, ask_routed
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.progress import ReplayProgress
from financial_assets.experiment.records import DirectIntent, Result, RoutedIntent
from financial_assets.experiment.worklist import SessionWork, plan_work
from financial_assets.market.panel import PricePanel

__all__ = ["ReplayReport", "replay"]

_BATCH = 256  # rows of a gRPC request: 256 x 256 x 7 float32 = 1.8 MiB, below the usual limit of 4 MiB


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
    repeated
        Whole requests that were sent more than once.
    direct, direct_failed
        Paired scorings of this call.
    wall_s
        Seconds.
    """

    sessions: int
    worked: int = 0
    sent: int = 0
    ok: int = 0
    failed: int = 0
    unattributed: int = 0
    repeated: int = 0
    direct: int = 0
    direct_failed: int = 0
    wall_s: float = 0.0


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
    on_session: Callable[[pd.Timestamp], None] | None = None,
    target_of: Callable[[pd.Timestamp], pd.Timestamp] | None = None,
    progress: bool = True,
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
        Opens a connection to the gateway; called once a worker.
    lookback
        Bars in a request.
    workers
        Requests in flight at a time.
    retry
        How failed requests are repeated; default :class:`Retry`.
    on_session
        Called with each session that has something to send, before it is sent (to move the market clock).
    target_of
        The session after a session; default the exchange calendar.
    progress
        Show a progress bar on the terminal.

    Raises
    ------
    ReplayError
        If a session is not after the data cut-offs or not in the panel, or the gateway gives no answer: then every
        request of one session failed, or paired scoring has no answer. What was done is in the log.
    LogError
        If the log refuses.
    """
    started = time.perf_counter()
    retry = retry or Retry()
    if workers < 1:
        raise ReplayError(f"workers is {workers}; allowed: 1 or more")
    work = plan_work(log, epoch, panel, sessions, lookback, target_of)
    run = _Run(log, epoch, panel, lookback, retry)
    with ExitStack() as stack, ReplayProgress(len(work), enabled=progress) as bar:
        if work:
            run.open(stack, connect, workers)
        for item in work:
            if on_session is not None:
                on_session(item.session)
            run.session(item)
            bar.advance(item.session, run.counts)
    counts = run.counts
    return ReplayReport(sessions=len(sessions), worked=len(work), wall_s=time.perf_counter() - started, **counts)


@dataclass
class _Run:
    """State of one replay: connections, threads and counts."""

    log: PredictionLog
    epoch: WeightEpoch
    panel: PricePanel
    lookback: int
    retry: Retry
    stop: threading.Event = field(default_factory=threading.Event)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("sent", "ok", "failed", "unattributed", "repeated", "direct", "direct_failed"), 0
        )
    )

    def open(self, stack: ExitStack, connect: Connect, workers: int) -> None:
        self.clients: queue.SimpleQueue[Gateway] = queue.SimpleQueue()
        for _ in range(workers):
            self.clients.put(stack.enter_context(connect()))
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="replay")
        stack.callback(self.close)

    def close(self) -> None:
        self.stop.set()
        self.pool.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def client(self) -> Iterator[Gateway]:
        client = self.clients.get()
        try:
            yield client
        finally:
            self.clients.put(client)

    def session(self, item: SessionWork) -> None:
        visible = self.panel.until(item.session)
        wanted = sorted({*item.routed, *(ticker for tickers in item.direct.values() for ticker in tickers)})
        tickers, windows = visible.windows(item.session, self.lookback, wanted)
        bars = dict(zip(tickers, windows, strict=True))
        if missing := sorted(set(wanted) - set(bars)):
            raise ReplayError(
                f"session {item.session.date()}: no window of {self.lookback} bars for {', '.join(missing)}"
            )
        self.routed(item, bars)
        self.direct(item, bars)

    def routed(self, item: SessionWork, bars: dict[str, np.ndarray]) -> None:
        intents = self.log.begin_routed(self.epoch, item.session, item.target, item.routed)
        futures = {self.pool.submit(self.ask, intent, bars[intent.ticker][None]) for intent in intents}
        silent = 0
        try:
            while futures:
                done, futures = wait(futures, return_when=FIRST_COMPLETED)
                silent += self.record(done)
        except BaseException:  # interrupted: keep the answers that did arrive, then go down
            self.stop.set()
            for future in futures:
                future.cancel()
            self.record(wait(futures).done)
            raise
        if intents and silent == len(intents):
            raise ReplayError(
                f"session {item.session.date()}: none of {silent} requests to {self.epoch.experiment} got an answer; "
                "they are logged as failed. See `financial-assets status`, start the serving plane with "
                "`financial-assets serve`, then replay again: it goes on with the next session"
            )

    def ask(self, intent: RoutedIntent, bars: np.ndarray) -> Result | None:
        with self.client() as client:
            return ask_routed(client, intent, bars, self.retry, self.stop)

    def record(self, done: set[Future[Result | None]]) -> int:
        """Commit what arrived; the number of requests that the gateway did not answer at all."""
        failures = [error for future in done if not future.cancelled() and (error := future.exception())]
        results = [
            result
            for future in done
            if not future.cancelled() and not future.exception() and (result := future.result()) is not None
        ]
        if results:
            self.log.complete_routed(results)
        for result in results:
            self.counts["sent"] += 1
            self.counts["repeated"] += result.extra_attempts > 0
            if result.route not in self.epoch.weights:
                self.counts["unattributed"] += 1
            else:
                self.counts["ok" if result.failure is None else "failed"] += 1
        if failures:
            raise failures[0]
        return sum(result.failure in ("failed", "timeout") and result.route is None for result in results)

    def direct(self, item: SessionWork, bars: dict[str, np.ndarray]) -> None:
        arms = [arm for arm in self.epoch.arms if item.direct.get(arm.model)]
        for arm in arms:
            intents = self.log.begin_direct([arm], item.session, item.target, item.direct[arm.model])
            for start in range(0, len(intents), _BATCH):
                self.score(arm, item.session, list(intents[start : start + _BATCH]), bars)

    def score(self, arm: Arm, session: pd.Timestamp, intents: list[DirectIntent], bars: dict[str, np.ndarray]) -> None:
        batch = np.stack([bars[intent.ticker] for intent in intents])
        try:
            with self.client() as client:
                results = ask_direct(client, intents, batch, self.retry, self.stop)
        except InferenceError as error:
            raise ReplayError(
                f"session {session.date()}: {arm.model} gives no answer for paired scoring ({error}). See "
                "`financial-assets status`; replaying again goes on here"
            ) from error
        self.log.complete_direct(results)
        self.counts["direct"] += len(results)
        self.counts["direct_failed"] += sum(result.failure is not None for result in results)
