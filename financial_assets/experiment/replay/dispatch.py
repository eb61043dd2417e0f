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
from financial_assets.experiment.replay.open_loop import Timeline, Timing
from financial_assets.experiment.replay.pending import SessionWork
from financial_assets.experiment.replay.requests import Gateway, Unanswered, ask_routed
from financial_assets.experiment.replay.sender import Ended, RequestSender

__all__ = ["Counts", "RequestDispatcher"]

_SILENCE = 20  # requests in a row without any answer after which a replay gives up
_COMMIT_S = 0.1  # an open loop commits results this often, so that commits do not hold up requests
_MOST_TRIES = 3  # the last of them with no other request under way: one that takes a server down is found alone
_SILENT = (
    "session {}: {} requests in a row to {} got no answer and are logged as failed. See `financial-assets status`, "
    "start the serving plane with `financial-assets serve`, then replay again: it goes on with what was not sent"
)
_DARK = (
    "session {}: no answer from the serving plane for {:.0f} s (READY_TIMEOUT is {:g} s): {}. Nothing is lost: what "
    "was not answered stays open in the log. See `financial-assets status`, start the plane with `financial-assets "
    "serve`, then replay again: it goes on there"
)


@dataclass(slots=True)
class Counts:
    """How the requests of a replay ended; see ``ReplayReport``."""

    sent: int = 0
    ok: int = 0
    failed: int = 0
    unattributed: int = 0
    unanswered: int = 0
    repeated: int = 0
    direct: int = 0
    direct_failed: int = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    intent: RoutedIntent
    due: float
    sent: float


@dataclass
class RequestDispatcher:
    """Sends routed requests.

    Attributes
    ----------
    log
        The prediction log.
    epoch
        Weight epoch in force.
    courier
        Who carries the requests.
    counts
        Counted up.
    places
        Most requests under way at a time.
    patience_s
        How long an open loop keeps its schedule while no request is answered.
    guard
        Called before each request; raises if it must not be sent.
    timeline
        Instants of an open loop; ``None`` for a closed one.
    timings
        Of an open loop, appended.
    arms
        Models that requests are routed to.
    on_result
        Told each result and who was asked about which session.
    unanswered
        Sessions of the requests that no model has answered since it was cleared; their intents are open. A closed loop
        sends nothing more meanwhile.
    """

    log: PredictionLog
    epoch: WeightEpoch
    courier: RequestSender
    counts: Counts
    places: int
    patience_s: float
    guard: Callable[[], None]
    timeline: Timeline | None = None
    timings: list[Timing] = field(default_factory=list)
    arms: Sequence[str] = ()
    on_result: Callable[[RoutedIntent, Result], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    unanswered: set[pd.Timestamp] = field(default_factory=set)
    most_in_flight: int = 0
    _collected: float = -1.0
    _flying: dict[Future[Ended], _Sent] = field(default_factory=dict)
    _hold: threading.Event = field(default_factory=threading.Event)
    _tries: dict[int, int] = field(default_factory=dict)
    _first: dict[int, _Sent] = field(default_factory=dict)
    _sticky: dict[int, str] = field(default_factory=dict)
    _dark_since: float | None = None
    _said: str = ""
    _nobody_at: float = -math.inf
    _silent: int = 0
    _patience: int = _SILENCE

    @contextmanager
    def batch(self, requests: int) -> Generator[None]:
        """Around requests that end together: waits for all of them, and for those under way when it is interrupted.

        Raises
        ------
        ReplayError
            The gateway gives no answer: to 20 requests in a row, or to all ``requests``.
        """
        self._silent, self._patience = 0, min(requests, _SILENCE)
        try:
            yield
            while self._flying:
                self._collect(self.courier.wait(list(self._flying)))
        except BaseException as error:
            self.stop.set()  # interrupted: keep the answers that still arrive, leave the rest open, and go down
            for future in self._flying:
                future.cancel()
            try:
                self._record(self.courier.wait_all(list(self._flying)))
            except FinancialAssetsError as further:  # must not hide what happened
                error.add_note(f"and the answers that were under way are not in the log: {further}")
            raise

    def begin(self, item: SessionWork) -> tuple[RoutedIntent, ...]:
        """Commit the intents of one session; what is still to be sent."""
        return self.log.begin_routed(self.epoch, item.session, item.target, item.routed, item.regimes)

    def send(self, intents: Iterable[RoutedIntent], bars: Mapping[str, np.ndarray]) -> None:
        """Send one session's requests; only inside :meth:`batch`."""
        self._hold.clear()
        for intent in intents:
            self._send(intent, bars[intent.ticker][None], self.timeline)

    def send_again(self, intents: Sequence[RoutedIntent], bars: Mapping[str, np.ndarray]) -> None:
        """Send what no model has answered, all arms being back: at once, and what was in vain twice one at a time.

        Each request goes to the arm that the gateway had drawn for it, if it named one; otherwise it is drawn anew.
        """
        self.unanswered.clear()
        self._hold.clear()
        self._dark_since = None
        alone = any(self._tries.get(intent.id, 0) >= _MOST_TRIES - 1 for intent in intents)
        with self.batch(_SILENCE):
            for intent in intents:
                self._send(intent, bars[intent.ticker][None], None)
                while alone and self._flying:
                    self._collect(self.courier.wait(list(self._flying)))
                if alone and self.unanswered:  # it may have taken the server down: no other one is sent into that
                    break

    def _send(self, intent: RoutedIntent, bars: np.ndarray, timeline: Timeline | None) -> None:
        due = self.courier.now() if timeline is None else self._await_turn(timeline)
        sticky = self._sticky.get(intent.id)

        def job(client: Gateway) -> Result | Unanswered | None:
            if self.stop.is_set() or self._hold.is_set():
                return None
            self.guard()
            result = ask_routed(client, intent, bars, self.arms, sticky)
            if timeline is None and isinstance(result, Unanswered):
                self._hold.set()
            return result

        sent = _Sent(intent, due, self.courier.now())
        self._flying[self.courier.send(job)] = sent
        flying = self.places if self.timeline is None else sum(not future.done() for future in self._flying)
        self.most_in_flight = max(self.most_in_flight, flying)

    def _await_turn(self, timeline: Timeline) -> float:
        """Wait until the next request is due, and longer only while there is no place."""
        due = timeline.next()
        while (now := self.courier.now()) < due:
            if now >= self._collected + _COMMIT_S:
                self._collected = now
                self._collect(self.courier.wait(list(self._flying), now))
            else:
                self.courier.wait((), min(due, self._collected + _COMMIT_S))
        while len(self._flying) >= self.places:
            self._collect(self.courier.wait(list(self._flying)))
        return due

    def _collect(self, ended: Collection[Future[Ended]]) -> None:
        session = max((self._flying[future].intent.session for future in ended), default=pd.NaT)
        results = self._record(ended)
        for future in ended:
            if not future.cancelled() and (error := future.exception()) is not None:
                raise error
        self._silent = self._silent + len(results) if all(map(self._is_silent, results)) else 0
        if results and self._silent >= self._patience:
            raise ReplayError(_SILENT.format(session.date(), self._silent, self.epoch.experiment))
        if self._dark_since is not None and (dark := self.courier.now() - self._dark_since) > self.patience_s:
            raise ReplayError(_DARK.format(session.date(), dark, self.patience_s, self._said))

    def _record(self, ended: Collection[Future[Ended]]) -> list[Result]:
        """Commit the results among ``ended``, and forget these requests."""
        found: list[tuple[Future[Ended], Result, float]] = []
        well = [(future, *future.result()) for future in ended if not future.cancelled() and not future.exception()]
        self._nobody_at = max([self._nobody_at, *(at for _, result, at in well if isinstance(result, Unanswered))])
        for future, result, at in well:
            sent = self._flying[future]
            if isinstance(result, Result) and _is_unnamed_timeout(result) and sent.sent <= self._nobody_at:
                result = Unanswered(str(result.error))  # the gateway waited for the server that others missed too
            if isinstance(result, Unanswered):
                result = self._give_up(sent, result)
            if result is not None:
                found.append((future, result, at))
        if found:
            self.log.complete_routed([result for _, result, _ in found])
        for future, result, at in found:  # after the commit: what is interrupted before it is recorded once more
            self._count(self._flying.pop(future), result, at)
        for future in ended:
            self._flying.pop(future, None)
        return [result for _, result, _ in found]

    def _give_up(self, sent: _Sent, nothing: Unanswered) -> Result | None:
        """Note that no model has answered; a failure when that was so each time that the plane was well before."""
        id_ = sent.intent.id
        self.counts.unanswered += 1
        self.unanswered.add(sent.intent.session)
        self._first.setdefault(id_, sent)
        self._said = nothing.said
        if nothing.asked:
            self._tries[id_] = self._tries.get(id_, 0) + 1
            if nothing.sticky is not None and nothing.route in self.epoch.weights:
                self._sticky[id_] = nothing.sticky
            if self._tries[id_] >= _MOST_TRIES:
                said = f"sent {_MOST_TRIES} times to a plane that was ready, and never answered: {nothing.said}"
                return Result(id_, None, "failed", nothing.route, error=said)
        if self._dark_since is None:
            self._dark_since = self.courier.now()
        return None

    def _count(self, sent: _Sent, result: Result, at: float) -> None:
        counts, id_ = self.counts, sent.intent.id
        again = id_ in self._first
        counts.sent += 1
        counts.repeated += again
        self._dark_since = None
        if result.route not in self.epoch.weights:
            counts.unattributed += 1
        elif result.failure is None:
            counts.ok += 1
        else:
            counts.failed += 1
        if self.timeline is not None:
            first = self._first.get(id_, sent)
            self.timings.append(Timing(sent.intent.request_id, first.due, first.sent, at, result.latency_s, again))
        if self.on_result is not None:
            self.on_result(sent.intent, result)

    def _is_silent(self, result: Result) -> bool:
        """Whether it says nothing about any model: no arm is named, or it was given up."""
        unnamed = result.failure in ("failed", "timeout") and result.route is None
        return unnamed or self._tries.get(result.id, 0) >= _MOST_TRIES


def _is_unnamed_timeout(result: Result) -> bool:
    return result.failure == "timeout" and result.route is None
