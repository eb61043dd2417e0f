"""A replay's work in one weight epoch: traffic, pairs, decision, session by session."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import pandas as pd

from financial_assets.errors import InferenceError, ReplayError, TargetError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.lock import ReplayLock
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import DirectIntent, Result, RoutedIntent
from financial_assets.experiment.replay.asking import ask_direct, score_pairs
from financial_assets.experiment.replay.counts import Counts
from financial_assets.experiment.replay.dispatcher import RequestDispatcher
from financial_assets.experiment.replay.live_view import LiveView
from financial_assets.experiment.replay.open_loop import Timeline
from financial_assets.experiment.replay.pending import PendingSession
from financial_assets.experiment.replay.readiness import await_ready
from financial_assets.experiment.replay.request import ReplayHooks, ReplayRequest
from financial_assets.experiment.replay.scoreboard import Scoreboard
from financial_assets.experiment.replay.sender import ThreadSender
from financial_assets.market.panel import PricePanel
from financial_assets.serving.client.inference import Connect, InferenceClient

_Prepared = tuple[Sequence[RoutedIntent], Mapping[str, np.ndarray]]

_AHEAD = 16  # sessions whose intents an open loop commits beforehand
_MOST_TRIES = 3  # of a paired batch that no model answers although the plane is ready each time


@dataclass(frozen=True, slots=True)
class ReplayContext:
    """What all weight epochs of one replay share; only ``counts`` and what is shown change."""

    request: ReplayRequest
    hooks: ReplayHooks
    log: PredictionLog
    panel: PricePanel
    connect: Connect
    lock: ReplayLock
    counts: Counts
    timeline: Timeline | None
    board: Scoreboard
    view: LiveView


class EpochRun:
    """The part of a replay in one weight epoch, with its threads and connections; use as a context manager."""

    def __init__(self, context: ReplayContext, epoch: WeightEpoch) -> None:
        self.context, self.epoch, self.board = context, epoch, context.board
        request = context.request
        self.board.enter(epoch)
        # An arm without weight in the main split may have requests in a regime, and the reverse.
        all_weights = (epoch.weights, *epoch.regimes.values())
        self.routed_to = [m for m in epoch.weights if any(weights.get(m, 0) > 0 for weights in all_weights)]
        self.sender = ThreadSender(context.connect, request.workers, eager=context.timeline is None)
        self.dispatcher = RequestDispatcher(
            log=context.log,
            epoch=epoch,
            sender=self.sender,
            counts=context.counts,
            limit=request.workers,
            patience_s=request.ready_timeout,
            guard=lambda: context.lock.check(self.dispatcher.stop),
            timeline=context.timeline,
            timings=context.hooks.timings,
            arms=self.routed_to,
            on_result=lambda intent, result: self.board.routed(result, intent.regime),
        )

    def __enter__(self) -> EpochRun:
        try:
            self.sender.__enter__()
        except TargetError:
            if not self.context.counts.worked:  # the plane was away from the start: fail at once
                raise
            self._await_ready(self.routed_to)
            self.sender.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.dispatcher.stop.set()  # before the sender waits for its threads: queued jobs must not send any more
        self.sender.__exit__(*error)

    def work_through(self, pending: Sequence[PendingSession]) -> tuple[WeightEpoch, pd.Timestamp] | None:
        """Work through the sessions; the next epoch and the last session of this one, if a decision opened one."""
        timeline = self.context.timeline
        if timeline is not None and self.context.hooks.decide is None:
            self._open_loop(pending)
            return None
        for item in pending:
            self._start(item)
            bars = self._bars(item)
            with self.dispatcher.batch(len(item.routed)):
                self.dispatcher.send(self.dispatcher.begin(item), bars)
            # Pairs and decision are not traffic: no request falls due meanwhile.
            with nullcontext() if timeline is None else timeline.paused():
                self._send_again(item, bars)
                if item.direct:
                    self._pairs(item, bars)
                opened = self._decide()
                self._finish()
            if opened is not None:
                return opened, item.session
        return None

    def _open_loop(self, pending: Sequence[PendingSession]) -> None:
        """All traffic at its instants, then what no model answered of it, then all pairs."""
        requests = sum(len(item.routed) for item in pending)
        with self._prepared_ahead(pending) as prepared, self.dispatcher.batch(requests):
            for item in pending:
                intents, bars = prepared(item) if item.routed else ((), {})
                self._start(item)  # the clock moves session by session, also while earlier answers are under way
                self.dispatcher.send(intents, bars)
                if not item.direct:
                    self._finish()
        for item in pending:
            if item.session in self.dispatcher.unanswered:
                self._send_again(item, self._bars(item, with_pairs=False))
        for item in pending:
            if item.direct:
                self.board.session = item.session
                self._pairs(item, self._bars(item))
                self._finish()

    @contextmanager
    def _prepared_ahead(self, pending: Sequence[PendingSession]) -> Generator[Callable[[PendingSession], _Prepared]]:
        """Intents and bars of the coming sessions, made by a thread of its own: a commit would delay requests."""
        coming = iter([item for item in pending if item.routed])
        futures: dict[pd.Timestamp, Future[_Prepared]] = {}
        pool = ThreadPoolExecutor(1, thread_name_prefix="replay-ahead")

        def prepare(item: PendingSession) -> _Prepared:
            return self.dispatcher.begin(item), self._bars(item, with_pairs=False)

        def prepared(item: PendingSession) -> _Prepared:
            for later in itertools.islice(coming, _AHEAD - len(futures)):
                futures[later.session] = pool.submit(prepare, later)
            return futures.pop(item.session).result()

        try:
            yield prepared
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _send_again(self, item: PendingSession, bars: Mapping[str, np.ndarray]) -> None:
        """Send what is open of a session until all of it has ended, each time after all arms answer again."""
        dispatcher = self.dispatcher
        while item.session in dispatcher.unanswered:
            self._await_ready(self.routed_to)
            # send_again() clears the set for its own session; an open loop has others still waiting in it.
            other_sessions = dispatcher.unanswered - {item.session}
            dispatcher.send_again(dispatcher.begin(item), bars)
            dispatcher.unanswered |= other_sessions

    def _await_ready(self, models: Sequence[str]) -> None:
        """Wait until ``models`` answer; their connections are made anew."""
        await_ready(self.context, self.dispatcher, models)
        self.sender.renew()

    def _start(self, item: PendingSession) -> None:
        self.board.session = item.session
        self.context.hooks.on_session(item.session)

    def _finish(self) -> None:
        self.context.counts.worked += 1
        self.context.view.advance()

    def _decide(self) -> WeightEpoch | None:
        """Take a decision, if the caller wants one; the epoch that it opened, ``None`` if the epoch stays."""
        if self.context.hooks.decide is None:
            return None
        decisions, epoch = self.context.hooks.decide()
        plans = [self.context.log.plan_of(made) for made in decisions]
        self.board.decided(decisions, plans)
        newest = max((decision.as_of for decision in decisions), default="")  # an earlier answer may still stand
        self.context.counts.decisions += sum(decision.as_of == newest for decision in decisions)
        if epoch == self.epoch:
            return None
        self.context.counts.epochs += 1
        return epoch

    def _bars(self, item: PendingSession, *, with_pairs: bool = True) -> dict[str, np.ndarray]:
        """Bars of one session's requests, as known at its close: ticker -> ``[lookback, 7]``."""
        paired = {ticker for missing in item.direct.values() for ticker in missing} if with_pairs else set[str]()
        needed, lookback = sorted({*item.routed, *paired}), self.context.request.lookback
        tickers, windows = self.context.panel.until(item.session).windows(item.session, lookback, needed)
        bars = dict(zip(tickers, windows, strict=True))
        if missing := sorted(set(needed) - set(bars)):
            raise ReplayError(f"session {item.session.date()}: {', '.join(missing)} lack {lookback} bars")
        return bars

    def _pairs(self, item: PendingSession, bars: Mapping[str, np.ndarray]) -> None:
        counts, forecasts = self.context.counts, dict[str, dict[str, float]]()
        for intent, result in score_pairs(self.context.log, self.epoch, item, bars, self._ask_pairs):
            counts.direct += 1
            counts.direct_failed += result.failure is not None
            if result.forecast is not None:
                forecasts.setdefault(intent.model, {})[intent.ticker] = result.forecast.probability_up
        for model, own in forecasts.items():
            self.board.scored(model, item.session, own)

    def _ask_pairs(self, intents: Sequence[DirectIntent], bars: np.ndarray) -> list[Result]:
        """Score one batch, again whenever the plane was away; not without end if it only seems to be ready."""

        def job(client: InferenceClient) -> list[Result]:
            self.dispatcher.guard()
            return ask_direct(client, intents, bars, self.dispatcher.stop)

        unanswered = 0
        while True:
            try:
                return self.sender.run(job)
            except TargetError:
                pass  # there is no gateway to connect to, so no model had a chance
            except InferenceError as error:
                unanswered += 1
                if error.answered or unanswered == _MOST_TRIES:
                    raise
            self._await_ready([intents[0].model])
