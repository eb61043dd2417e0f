"""Replay: one session through the gateway, as of that session; many in a row; the same code runs live.

For each session, in order: intents are committed, one routed request a ticker is sent to the experiment's endpoint by
``workers`` threads, results are committed as they arrive; then every arm and shadow scores the same bars in one
batch each (the pairs). Interrupted at any point, a replay goes on where it was: what has a result is never sent again.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.errors import InferenceError, ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.gateway import Connect, Gateway, Retry, ask_direct, ask_routed
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.progress import ReplayProgress
from financial_assets.experiment.records import DirectIntent, Result, RoutedIntent
from financial_assets.experiment.worklist import SessionWork, plan_work
from financial_assets.market.panel import PricePanel

__all__ = ["ReplayReport", "replay"]

_BATCH = 256  # rows of a gRPC request: 256 x 256 x 7 float32 = 1.8 MiB, below the usual limit of 4 MiB
_SILENCE = 20  # requests in a row without any answer after which a replay gives up
_SILENT = (
    "session {}: {} requests in a row to {} got no answer and are logged as failed. See `financial-assets status`, "
    "start the serving plane with `financial-assets serve`, then replay again: it goes on with what was not sent"
)


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
    routed_after: pd.Timestamp | None = None,
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
    routed_after
        Sessions up to this one are scored in pairs only: an earlier weight epoch has routed them.
    progress
        Show a progress bar on the terminal.

    Raises
    ------
    ReplayError
        If a session is not after the data cut-offs or not in the panel, or the gateway gives no answer: to 20 requests
        in a row or all of a session, or to paired scoring. What was done is in the log.
    LogError
        If the log refuses, or another replay of the experiment is running.
    """
    started = time.perf_counter()
    if workers < 1:
        raise ReplayError(f"workers is {workers}; allowed: 1 or more")
    counts = _Counts()
    with ExitStack() as stack:
        stack.enter_context(log.exclusive(epoch.experiment))
        work = plan_work(log, epoch, panel, sessions, lookback, target_of, routed_after)
        if work:
            clients = [stack.enter_context(connect()) for _ in range(workers)]
            run = _Run(log, epoch, panel, lookback, retry or Retry(), clients, counts)
            stack.callback(run.close)
            bar = stack.enter_context(ReplayProgress(len(work), enabled=progress))
            for item in work:
                if on_session is not None:
                    on_session(item.session)
                run.session(item)
                bar.advance(item.session, counts.sent, counts.failed + counts.unattributed)
    return ReplayReport(
        sessions=len(sessions), worked=len(work), wall_s=time.perf_counter() - started, **dataclasses.asdict(counts)
    )


@dataclass(slots=True)
class _Counts:
    sent: int = 0
    ok: int = 0
    failed: int = 0
    unattributed: int = 0
    repeated: int = 0
    direct: int = 0
    direct_failed: int = 0


class _Run:
    """The threads and connections of one replay."""

    def __init__(
        self,
        log: PredictionLog,
        epoch: WeightEpoch,
        panel: PricePanel,
        lookback: int,
        retry: Retry,
        clients: Sequence[Gateway],
        counts: _Counts,
    ) -> None:
        self.log, self.epoch, self.panel, self.lookback = log, epoch, panel, lookback
        self.retry, self.counts = retry, counts
        self.stop = threading.Event()
        self.clients: queue.SimpleQueue[Gateway] = queue.SimpleQueue()
        for client in clients:
            self.clients.put(client)
        self.pool = ThreadPoolExecutor(len(clients), thread_name_prefix="replay")

    def close(self) -> None:
        self.stop.set()
        self.pool.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def client(self) -> Generator[Gateway]:
        client = self.clients.get()
        try:
            yield client
        finally:
            self.clients.put(client)

    def session(self, item: SessionWork) -> None:
        """Send what one session lacks, from what was known at its close."""
        wanted = sorted({*item.routed, *(ticker for tickers in item.direct.values() for ticker in tickers)})
        tickers, windows = self.panel.until(item.session).windows(item.session, self.lookback, wanted)
        bars = dict(zip(tickers, windows, strict=True))
        if missing := sorted(set(wanted) - set(bars)):
            raise ReplayError(f"session {item.session.date()}: {', '.join(missing)} lack {self.lookback} bars")
        self.routed(item, bars)
        if item.direct:
            self.direct(item, bars)

    def routed(self, item: SessionWork, bars: Mapping[str, np.ndarray]) -> None:
        """Send one request a ticker, and commit results as they arrive."""
        intents = self.log.begin_routed(self.epoch, item.session, item.target, item.routed)
        flying: set[Future[Result | None]] = set()
        silent, patience = 0, min(len(intents), _SILENCE)
        try:
            for intent in intents:
                flying.add(self.pool.submit(self.ask, intent, bars[intent.ticker][None]))
            while flying:
                arrived = wait(flying, return_when=FIRST_COMPLETED).done
                results = self.record(arrived)
                flying -= arrived
                _raise_first_error(arrived)
                silent = silent + len(results) if all(map(_silent, results)) else 0
                if silent >= patience:
                    raise ReplayError(_SILENT.format(item.session.date(), silent, self.epoch.experiment))
        except BaseException:  # interrupted: keep the answers that still arrive, leave the rest open, and go down
            self.stop.set()
            for future in flying:
                future.cancel()
            self.record(wait(flying).done)
            raise

    def ask(self, intent: RoutedIntent, bars: np.ndarray) -> Result | None:
        with self.client() as client:
            return ask_routed(client, intent, bars, self.retry, self.stop)

    def record(self, ended: Iterable[Future[Result | None]]) -> list[Result]:
        """Commit the results among ``ended`` futures."""
        fine = [future for future in ended if not future.cancelled() and future.exception() is None]
        results = [result for future in fine if (result := future.result()) is not None]
        if results:
            self.log.complete_routed(results)
        for result in results:
            self.counts.sent += 1
            self.counts.repeated += result.extra_attempts > 0
            if result.route not in self.epoch.weights:
                self.counts.unattributed += 1
            elif result.failure is None:
                self.counts.ok += 1
            else:
                self.counts.failed += 1
        return results

    def direct(self, item: SessionWork, bars: Mapping[str, np.ndarray]) -> None:
        """Score every arm on the same bars; one commit before and one after."""
        arms = [arm for arm in self.epoch.arms if arm.model in item.direct]
        tickers = sorted({ticker for missing in item.direct.values() for ticker in missing})
        intents = self.log.begin_direct(arms, item.session, item.target, tickers)
        results: list[Result] = []
        try:
            for arm in arms:
                mine = [intent for intent in intents if intent.model == arm.model]
                for start in range(0, len(mine), _BATCH):
                    results += self.score(mine[start : start + _BATCH], bars)
        except InferenceError as error:
            raise ReplayError(
                f"session {item.session.date()}: no answer for paired scoring ({error}). See "
                "`financial-assets status`; replaying again goes on here"
            ) from error
        finally:
            self.log.complete_direct(results)
            self.counts.direct += len(results)
            self.counts.direct_failed += sum(result.failure is not None for result in results)

    def score(self, intents: Sequence[DirectIntent], bars: Mapping[str, np.ndarray]) -> list[Result]:
        with self.client() as client:
            stacked = np.stack([bars[intent.ticker] for intent in intents])
            return ask_direct(client, intents, stacked, self.retry, self.stop)


def _silent(result: Result) -> bool:
    return result.failure in ("failed", "timeout") and result.route is None


def _raise_first_error(ended: Iterable[Future[Result | None]]) -> None:
    for future in ended:
        if not future.cancelled() and (error := future.exception()) is not None:
            raise error
