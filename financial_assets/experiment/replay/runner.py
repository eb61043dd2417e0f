"""The state of a replay, and its work in one weight epoch: traffic, pairs, decision, session by session."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from rich.console import Console

from financial_assets.errors import InferenceError, LogError, ReplayError, TargetError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.decision.record import Decision
from financial_assets.experiment.prediction_log.lock import ReplayLock
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import DirectIntent, Result, RoutedIntent
from financial_assets.experiment.replay.dispatch import Counts, RequestDispatcher
from financial_assets.experiment.replay.live_view import LiveView
from financial_assets.experiment.replay.open_loop import Timeline, Timing
from financial_assets.experiment.replay.outage import Outage
from financial_assets.experiment.replay.pending import SessionWork
from financial_assets.experiment.replay.requests import Connect, Gateway, Retry, ask_direct
from financial_assets.experiment.replay.scoreboard import Scoreboard
from financial_assets.experiment.replay.sender import ThreadCourier
from financial_assets.market.panel import PricePanel

__all__ = ["Decide", "EpochRun", "ReplayState"]

Decide = Callable[[], tuple[Sequence[Decision], WeightEpoch]]
"""Takes and carries out a decision; the epoch is that in force afterwards."""

_Prepared = tuple[Sequence[RoutedIntent], Mapping[str, np.ndarray]]

_AHEAD = 16  # sessions whose intents an open loop commits beforehand
_MOST_TRIES = 3  # of a batch that no model answers although the plane is ready each time
_BATCH = 256  # rows of a gRPC request: 256 x 256 x 7 float32 = 1.8 MiB, below the usual limit of 4 MiB


@dataclass
class ReplayState:
    """What all weight epochs of one replay share; parameters as in ``replay``."""

    log: PredictionLog
    panel: PricePanel
    connect: Connect
    lookback: int
    workers: int
    retry: Retry
    ready_timeout: float
    lock: ReplayLock
    on_session: Callable[[pd.Timestamp], None] | None
    decide: Decide | None
    counts: Counts = field(default_factory=Counts)
    timings: list[Timing] = field(default_factory=list)
    timeline: Timeline | None = None
    board: Scoreboard | None = None
    view: LiveView | None = None
    worked: int = 0
    decisions: int = 0
    epochs: int = 0
    most_in_flight: int = 0
    waits: int = 0
    waited_s: float = 0.0

    def show(self, stack: ExitStack, epoch: WeightEpoch, total: int, progress: bool, console: Console | None) -> None:
        """Begin the live view, with what the log holds of the pairs already."""
        self.board = board = Scoreboard(epoch, self.panel)
        board.total = total
        if progress:
            known = self.log.direct(epoch.weights, columns=("session", "ticker", "model", "status", "probability_up"))
            for model, rows in known[known["status"] == "ok"].groupby("model"):
                days = pd.DatetimeIndex(rows["session"])
                board.score_many(str(model), days, list(rows["ticker"]), rows["probability_up"].to_numpy(np.float64))
        self.view = stack.enter_context(LiveView(board, enabled=progress, console=console))


class EpochRun:
    """The part of a replay in one weight epoch: its threads and connections."""

    def __init__(self, state: ReplayState, epoch: WeightEpoch) -> None:
        self.state, self.epoch = state, epoch
        assert state.board is not None
        assert state.view is not None
        self.board, self.view = state.board, state.view
        self.board.enter(epoch)
        weights = (epoch.weights, *epoch.regimes.values())
        self.routed_to = [model for model in epoch.weights if any(one.get(model, 0) > 0 for one in weights)]
        self.courier = ThreadCourier(state.connect, state.workers, eager=state.timeline is None)
        self.traffic = RequestDispatcher(
            log=state.log,
            epoch=epoch,
            courier=self.courier,
            counts=state.counts,
            places=state.workers,
            patience_s=state.ready_timeout,
            guard=lambda: state.lock.check(self.traffic.stop),
            timeline=state.timeline,
            timings=state.timings,
            arms=self.routed_to,
            on_result=lambda intent, result: self.board.routed(result, intent.regime),
        )
        self.outage = Outage(state.connect, state.ready_timeout, self.view.waits, self.traffic.stop)

    def __enter__(self) -> EpochRun:
        try:
            self.courier.__enter__()
        except TargetError:
            if not self.state.worked:  # it was not there from the beginning: say so at once
                raise
            self._await(self.routed_to)
            self.courier.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.traffic.stop.set()
        self.courier.__exit__(*error)
        self.state.most_in_flight = max(self.state.most_in_flight, self.traffic.most_in_flight)
        self.state.waits += self.outage.waits
        self.state.waited_s += self.outage.waited_s

    def through(self, work: Sequence[SessionWork]) -> tuple[WeightEpoch, pd.Timestamp] | None:
        """Work through the sessions; the next epoch and the last session of this one, if a decision opened one."""
        if self.state.timeline is not None and self.state.decide is None:
            self._open_loop(work)
            return None
        for item in work:
            self._begin(item)
            bars = self._bars(item)
            if item.routed:
                with self.traffic.batch(len(item.routed)):
                    self.traffic.send(self.traffic.begin(item), bars)
            with self._pause():
                self._send_again(item, bars)
                if item.direct:
                    self._pairs(item, bars)
                opened = self._decide()
                self._end()
            if opened is not None:
                return opened, item.session
        return None

    def _open_loop(self, work: Sequence[SessionWork]) -> None:
        """All traffic at its instants, then what no model answered of it, then all pairs."""
        with self._ahead(work) as prepared, self.traffic.batch(sum(len(item.routed) for item in work)):
            for item in work:
                intents, bars = prepared(item) if item.routed else ((), {})
                self._begin(item)
                self.traffic.send(intents, bars)
                if not item.direct:
                    self._end()
        for item in work:
            if item.session in self.traffic.unanswered:
                self._send_again(item, self._bars(item, pair=False))
        for item in work:
            if item.direct:
                self.board.session = item.session
                self._pairs(item, self._bars(item))
                self._end()

    @contextmanager
    def _ahead(self, work: Sequence[SessionWork]) -> Generator[Callable[[SessionWork], _Prepared]]:
        """Intents and bars of the coming sessions, made by a thread of its own while others are sent."""
        coming = iter([item for item in work if item.routed])
        made: dict[pd.Timestamp, Future[_Prepared]] = {}
        pool = ThreadPoolExecutor(1, thread_name_prefix="replay-ahead")

        def make(item: SessionWork) -> _Prepared:
            return self.traffic.begin(item), self._bars(item, pair=False)

        def prepared(item: SessionWork) -> _Prepared:
            for another in itertools.islice(coming, _AHEAD - len(made)):
                made[another.session] = pool.submit(make, another)
            return made.pop(item.session).result()

        try:
            yield prepared
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _send_again(self, item: SessionWork, bars: Mapping[str, np.ndarray]) -> None:
        """Send what is open of a session until all has ended, each time when all arms answer again."""
        traffic = self.traffic
        while item.session in traffic.unanswered:
            self._await(self.routed_to)
            others = traffic.unanswered - {item.session}
            traffic.send_again(traffic.begin(item), bars)
            traffic.unanswered |= others

    def _await(self, models: Sequence[str]) -> None:
        """Wait until ``models`` answer, wherever the gateway is by then."""
        self.outage.wait(models, self.traffic.guard)
        self.courier.renew()

    def _begin(self, item: SessionWork) -> None:
        self.board.session = item.session
        if self.state.on_session is not None:
            self.state.on_session(item.session)

    def _end(self) -> None:
        self.state.worked += 1
        self.view.advance()

    def _pause(self) -> AbstractContextManager[None]:
        timeline = self.state.timeline
        return nullcontext() if timeline is None else timeline.paused()

    def _decide(self) -> WeightEpoch | None:
        """Take a decision, if that is wanted; the epoch that it opened, ``None`` if it stays."""
        if self.state.decide is None:
            return None
        decisions, epoch = self.state.decide()
        self.state.decisions += len(decisions)
        plans = [self.state.log.plan(one.experiment, one.champion, one.challenger) for one in decisions]
        self.board.decided(decisions, plans)
        if epoch == self.epoch:
            return None
        self.state.epochs += 1
        return epoch

    def _bars(self, item: SessionWork, *, pair: bool = True) -> dict[str, np.ndarray]:
        """What one session's requests hold: what was known at its close ``{ticker: [lookback, 7]}``."""
        pairs = {ticker for tickers in item.direct.values() for ticker in tickers} if pair else set[str]()
        wanted, lookback = sorted({*item.routed, *pairs}), self.state.lookback
        tickers, windows = self.state.panel.until(item.session).windows(item.session, lookback, wanted)
        bars = dict(zip(tickers, windows, strict=True))
        if missing := sorted(set(wanted) - set(bars)):
            raise ReplayError(f"session {item.session.date()}: {', '.join(missing)} lack {lookback} bars")
        return bars

    def _pairs(self, item: SessionWork, bars: Mapping[str, np.ndarray]) -> None:
        """Score every arm on the same bars; one commit before and one after."""
        log, counts = self.state.log, self.state.counts
        arms = [arm for arm in self.epoch.arms if arm.model in item.direct]
        tickers = sorted({ticker for missing in item.direct.values() for ticker in missing})
        intents = log.begin_direct(arms, item.session, item.target, tickers)
        results: list[Result] = []
        try:
            for arm in arms:
                mine = [intent for intent in intents if intent.model == arm.model]
                for start in range(0, len(mine), _BATCH):
                    results += self._score(mine[start : start + _BATCH], bars)
        except BaseException as error:
            try:
                log.complete_direct(results)
            except LogError as further:  # must not hide what happened
                error.add_note(f"and the scores of other arms are not in the log: {further}")
            if isinstance(error, InferenceError):
                raise ReplayError(
                    f"session {item.session.date()}: no answer for paired scoring ({error}). See "
                    "`financial-assets status`; replaying again goes on here"
                ) from error
            raise
        log.complete_direct(results)
        counts.direct += len(results)
        counts.direct_failed += sum(result.failure is not None for result in results)
        asked = {intent.id: intent for intent in intents}
        for result in results:
            if result.forecast is not None:
                one = asked[result.id]
                self.board.scored(one.model, one.session, one.ticker, result.forecast.probability_up)

    def _score(self, intents: Sequence[DirectIntent], bars: Mapping[str, np.ndarray]) -> list[Result]:
        stacked = np.stack([bars[intent.ticker] for intent in intents])

        def job(client: Gateway) -> list[Result]:
            self.traffic.guard()
            return ask_direct(client, intents, stacked, self.state.retry, self.traffic.stop)

        tries = 0
        while True:
            try:
                return self.courier.ask(job)
            except (InferenceError, TargetError) as error:
                if isinstance(error, InferenceError):
                    tries += 1
                    if error.answered or tries == _MOST_TRIES:
                        raise
            self._await([intents[0].model])
