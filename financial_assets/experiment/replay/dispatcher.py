"""Routed requests of a replay: sent in a closed or an open loop, committed as they end, counted."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from financial_assets.errors import FinancialAssetsError, ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.prediction_log.records import Result, RoutedIntent
from financial_assets.experiment.replay.asking import Unanswered, ask_routed
from financial_assets.experiment.replay.counts import Counts
from financial_assets.experiment.replay.open_loop import Timeline, Timing
from financial_assets.experiment.replay.pending import PendingSession
from financial_assets.experiment.replay.sender import Completion, ThreadSender
from financial_assets.serving.client.inference import InferenceClient

_SILENCE = 20  # requests in a row without any answer after which a replay gives up
_COMMIT_S = 0.1  # an open loop commits results this often, so that commits do not delay requests
_MOST_TRIES = 3  # the last one with no other request in flight, to isolate a request that takes a server down
_SILENT = (
    "session {}: {} requests in a row to {} got no answer and are logged as failed. See `financial-assets status`, "
    "start the serving plane with `financial-assets serve`, then replay again: it continues with what was not sent"
)
_UNANSWERED = (
    "session {}: no answer from the serving plane for {:.0f} s (READY_TIMEOUT is {:g} s): {}. Nothing is lost: "
    "unanswered requests stay open in the log. See `financial-assets status`, start the plane with `financial-assets "
    "serve`, then replay again: it continues there"
)


@dataclass(frozen=True, slots=True)
class _Sent:
    intent: RoutedIntent
    due: float
    sent: float


@dataclass(slots=True)
class _Repeat:
    """A request that was sent and not answered: its first sending, fruitless tries, and the arm the gateway drew."""

    first: _Sent
    tries: int = 0
    drawn_arm: str | None = None


@dataclass
class RequestDispatcher:
    """Sends the routed requests of one weight epoch.

    Attributes
    ----------
    log
        The prediction log.
    epoch
        Current weight epoch.
    sender
        Carries the requests.
    counts
        Counts how the requests end.
    limit
        Most requests in flight.
    patience_s
        How long an open loop keeps its schedule while no request is answered.
    guard
        Called before each request; raises if it must not be sent.
    timeline
        Instants of an open loop; ``None`` for a closed one.
    timings
        In an open loop, every request that ended is appended.
    arms
        Models that requests are routed to.
    on_result
        Called with each intent and its result.
    stop
        Set when nothing more is to be sent.
    unanswered
        Sessions of the requests that no model has answered since it was cleared; their intents are open. A closed loop
        sends nothing more meanwhile.
    """

    log: PredictionLog
    epoch: WeightEpoch
    sender: ThreadSender
    counts: Counts
    limit: int
    patience_s: float
    guard: Callable[[], None]
    timeline: Timeline | None = None
    timings: list[Timing] = field(default_factory=list)
    arms: Sequence[str] = ()
    on_result: Callable[[RoutedIntent, Result], None] = lambda _intent, _result: None
    stop: threading.Event = field(default_factory=threading.Event)
    unanswered: set[pd.Timestamp] = field(default_factory=set)
    _in_flight: dict[Future[Completion], _Sent] = field(default_factory=dict)
    _collected_at: float = -1.0
    _on_hold: threading.Event = field(default_factory=threading.Event)
    _repeats: dict[int, _Repeat] = field(default_factory=dict)  # by intent id
    _unanswered_since: float | None = None
    _last_reason: str = ""
    _last_unanswered_at: float = -math.inf
    _silent_in_a_row: int = 0
    _silence_limit: int = _SILENCE

    @contextmanager
    def batch(self, requests: int) -> Generator[None]:
        """Around requests that end together: waits for all of them, and for those in flight when it is interrupted.

        Raises
        ------
        ReplayError
            The gateway gives no answer: to 20 requests in a row, or to all ``requests``.
        """
        self._silent_in_a_row, self._silence_limit = 0, min(requests, _SILENCE)
        try:
            yield
            while self._in_flight:
                self._collect(self.sender.wait(list(self._in_flight)))
        except BaseException as error:
            self.stop.set()  # interrupted: keep the answers that still arrive and leave the other intents open
            for future in self._in_flight:
                future.cancel()
            try:
                self._record(self.sender.wait_all(list(self._in_flight)))
            except FinancialAssetsError as log_error:  # must not hide the first error
                error.add_note(f"and the answers that were under way are not in the log: {log_error}")
            raise

    def begin(self, item: PendingSession) -> tuple[RoutedIntent, ...]:
        """Commit the intents of one session; returns those still to be sent."""
        return self.log.begin_routed(self.epoch, item.session, item.target, item.routed, item.regimes, item.inclusion)

    def send(self, intents: Iterable[RoutedIntent], bars: Mapping[str, np.ndarray]) -> None:
        """Send one session's requests; only inside :meth:`batch`."""
        self._on_hold.clear()
        for intent in intents:
            self._send(intent, bars[intent.ticker][None], self.timeline)

    def send_again(self, intents: Sequence[RoutedIntent], bars: Mapping[str, np.ndarray]) -> None:
        """Send what no model has answered, now that all arms are back; what failed twice goes one at a time.

        Each request goes to the arm that the gateway had drawn for it, if it named one; otherwise it is drawn anew.
        """
        self.unanswered.clear()
        self._on_hold.clear()
        self._unanswered_since = None
        one_at_a_time = any(self._tries(intent.id) >= _MOST_TRIES - 1 for intent in intents)
        with self.batch(_SILENCE):
            for intent in intents:
                self._send(intent, bars[intent.ticker][None], None)
                while one_at_a_time and self._in_flight:
                    self._collect(self.sender.wait(list(self._in_flight)))
                if one_at_a_time and self.unanswered:  # it may have taken the server down: send no other one into that
                    break

    def _send(self, intent: RoutedIntent, bars: np.ndarray, timeline: Timeline | None) -> None:
        # Taken before the job waits for a connection: in an open loop that wait belongs to the latency.
        due = self.sender.now() if timeline is None else self._await_turn(timeline)
        sticky = self._repeats[intent.id].drawn_arm if intent.id in self._repeats else None

        def job(client: InferenceClient) -> Result | Unanswered | None:
            if self.stop.is_set() or self._on_hold.is_set():
                return None
            self.guard()
            result = ask_routed(client, intent, bars, self.arms, sticky)
            # A closed loop stops here until all arms answer; an open one keeps its schedule through an outage.
            if timeline is None and isinstance(result, Unanswered):
                self._on_hold.set()
            return result

        sent = _Sent(intent, due, self.sender.now())
        self._in_flight[self.sender.send(job)] = sent
        if self.timeline is not None:
            in_flight = sum(not future.done() for future in self._in_flight)
            self.counts.most_in_flight = max(self.counts.most_in_flight, in_flight)

    def _await_turn(self, timeline: Timeline) -> float:
        """Wait until the next request is due, and longer only while the limit is reached."""
        due = timeline.next()
        while (now := self.sender.now()) < due:
            if now >= self._collected_at + _COMMIT_S:
                self._collected_at = now
                self._collect(self.sender.wait(list(self._in_flight), now))
            else:
                self.sender.wait((), min(due, self._collected_at + _COMMIT_S))
        while len(self._in_flight) >= self.limit:
            self._collect(self.sender.wait(list(self._in_flight)))
        return due

    def _collect(self, ended: Collection[Future[Completion]]) -> None:
        session = max((self._in_flight[future].intent.session for future in ended), default=pd.NaT)
        results = self._record(ended)
        # Only now: a defect in one job must not cost the results of the others.
        for future in ended:
            if not future.cancelled() and (error := future.exception()) is not None:
                raise error
        # Silent: it tells nothing about any model, because no arm is named or it was given up.
        is_silent = all(
            (result.failure in ("failed", "timeout") and result.route is None) or self._tries(result.id) >= _MOST_TRIES
            for result in results
        )
        self._silent_in_a_row = self._silent_in_a_row + len(results) if is_silent else 0
        if results and self._silent_in_a_row >= self._silence_limit:
            raise ReplayError(_SILENT.format(session.date(), self._silent_in_a_row, self.epoch.experiment))
        if self._unanswered_since is not None:
            waited = self.sender.now() - self._unanswered_since
            if waited > self.patience_s:
                raise ReplayError(_UNANSWERED.format(session.date(), waited, self.patience_s, self._last_reason))

    def _record(self, ended: Collection[Future[Completion]]) -> list[Result]:
        """Commit the results among ``ended``, and forget these requests."""
        returned = [(future, *future.result()) for future in ended if not future.cancelled() and not future.exception()]
        unanswered_at = (at for _, result, at in returned if isinstance(result, Unanswered))
        self._last_unanswered_at = max(self._last_unanswered_at, *unanswered_at, -math.inf)
        completed: list[tuple[Future[Completion], Result, float]] = []
        for future, result, at in returned:
            sent = self._in_flight[future]
            # A timeout without a route, of a request that was in flight when others met no server: the gateway held it
            # back for that same server. It is not the failure of an arm.
            if isinstance(result, Result) and result.failure == "timeout" and result.route is None:
                result = Unanswered(str(result.error)) if sent.sent <= self._last_unanswered_at else result
            if isinstance(result, Unanswered):
                result = self._note_unanswered(sent, result)
            if result is not None:
                completed.append((future, result, at))
        results = [result for _, result, _ in completed]
        if results:
            self.log.complete_routed(results)
        # Only after the commit: if it is interrupted, the results are still in flight here and are recorded once more.
        for future, result, at in completed:
            self._count(self._in_flight.pop(future), result, at)
        for future in ended:
            self._in_flight.pop(future, None)
        return results

    def _note_unanswered(self, sent: _Sent, unanswered: Unanswered) -> Result | None:
        """Keep the request for another try; it fails if the plane was ready before each of its tries."""
        self.counts.unanswered += 1
        self.unanswered.add(sent.intent.session)
        repeat = self._repeats.setdefault(sent.intent.id, _Repeat(sent))
        self._last_reason = unanswered.reason
        # Without a gateway no server saw the request, so it cannot have taken one down.
        if unanswered.had_gateway:
            repeat.tries += 1
            if unanswered.sticky is not None and unanswered.route in self.epoch.weights:
                repeat.drawn_arm = unanswered.sticky
            if repeat.tries >= _MOST_TRIES:
                error = f"sent {_MOST_TRIES} times to a plane that was ready, and never answered: {unanswered.reason}"
                return Result(sent.intent.id, None, "failed", unanswered.route, error=error)
        if self._unanswered_since is None:
            self._unanswered_since = self.sender.now()
        return None

    def _count(self, sent: _Sent, result: Result, at: float) -> None:
        counts, repeat = self.counts, self._repeats.get(sent.intent.id)
        counts.sent += 1
        counts.repeated += repeat is not None
        self._unanswered_since = None
        if result.route not in self.epoch.weights:
            counts.unattributed += 1
        elif result.failure is None:
            counts.ok += 1
        else:
            counts.failed += 1
        if self.timeline is not None:
            first, request_id = repeat.first if repeat else sent, sent.intent.request_id
            self.timings.append(Timing(request_id, first.due, first.sent, at, result.latency_s, repeat is not None))
        self.on_result(sent.intent, result)

    def _tries(self, id_: int) -> int:
        return self._repeats[id_].tries if id_ in self._repeats else 0
