"""Routed requests of a replay: sent in a closed or an open loop, committed as they end, counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from financial_assets.errors import ReplayError
from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.gateway import Gateway, Retry, ask_routed
from financial_assets.experiment.load import Timeline, Timing
from financial_assets.experiment.load_courier import Courier, Ended
from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.records import Result, RoutedIntent
from financial_assets.experiment.worklist import SessionWork

__all__ = ["Counts", "Traffic"]

_SILENCE = 20  # requests in a row without any answer after which a replay gives up
_COMMIT_S = 0.1  # an open loop commits results this often, so that commits do not hold up requests
_SILENT = (
    "session {}: {} requests in a row to {} got no answer and are logged as failed. See `financial-assets status`, "
    "start the serving plane with `financial-assets serve`, then replay again: it goes on with what was not sent"
)


@dataclass(slots=True)
class Counts:
    """How the requests of a replay ended; see ``ReplayReport``."""

    sent: int = 0
    ok: int = 0
    failed: int = 0
    unattributed: int = 0
    repeated: int = 0
    direct: int = 0
    direct_failed: int = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    intent: RoutedIntent
    due: float
    sent: float


@dataclass
class Traffic:
    """Sends routed requests.

    Attributes
    ----------
    log
        The prediction log.
    epoch
        Weight epoch in force.
    courier
        Who carries the requests.
    retry
        How failed requests are repeated.
    counts
        Counted up.
    places
        Most requests under way at a time.
    timeline
        Instants of an open loop; ``None`` for a closed one.
    timings
        Of an open loop, appended.
    on_result
        Told each result and who was asked about which session.
    """

    log: PredictionLog
    epoch: WeightEpoch
    courier: Courier
    retry: Retry
    counts: Counts
    places: int
    timeline: Timeline | None = None
    timings: list[Timing] = field(default_factory=list)
    on_result: Callable[[RoutedIntent, Result], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    most_in_flight: int = 0
    _collected: float = -1.0
    _flying: dict[Future[Ended], _Sent] = field(default_factory=dict)
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
        except BaseException:  # interrupted: keep the answers that still arrive, leave the rest open, and go down
            self.stop.set()
            for future in self._flying:
                future.cancel()
            self._record(self.courier.wait_all(list(self._flying)))
            raise

    def begin(self, item: SessionWork) -> tuple[RoutedIntent, ...]:
        """Commit the intents of one session; what is still to be sent."""
        return self.log.begin_routed(self.epoch, item.session, item.target, item.routed, item.regimes)

    def send(self, intents: Iterable[RoutedIntent], bars: Mapping[str, np.ndarray]) -> None:
        """Send one session's requests; only inside :meth:`batch`."""
        for intent in intents:
            self._send(intent, bars[intent.ticker][None])

    def _send(self, intent: RoutedIntent, bars: np.ndarray) -> None:
        due = self.courier.now() if self.timeline is None else self._await_turn(self.timeline)

        def job(client: Gateway) -> Result | None:
            return ask_routed(client, intent, bars, self.retry, self.stop)

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
        self._silent = self._silent + len(results) if all(map(_is_silent, results)) else 0
        if results and self._silent >= self._patience:
            raise ReplayError(_SILENT.format(session.date(), self._silent, self.epoch.experiment))

    def _record(self, ended: Collection[Future[Ended]]) -> list[Result]:
        """Commit the results among ``ended``, and forget these requests."""
        found: list[tuple[Future[Ended], Result, float]] = []
        for future in ended:
            if future.cancelled() or future.exception() is not None:
                continue
            result, at = future.result()
            if result is not None:
                found.append((future, result, at))
        if found:
            self.log.complete_routed([result for _, result, _ in found])
        for future, result, at in found:  # after the commit: what is interrupted before it is recorded once more
            self._count(self._flying.pop(future), result, at)
        for future in ended:
            self._flying.pop(future, None)
        return [result for _, result, _ in found]

    def _count(self, sent: _Sent, result: Result, at: float) -> None:
        counts = self.counts
        counts.sent += 1
        counts.repeated += result.extra_attempts > 0
        if result.route not in self.epoch.weights:
            counts.unattributed += 1
        elif result.failure is None:
            counts.ok += 1
        else:
            counts.failed += 1
        if self.timeline is not None:
            self.timings.append(Timing(sent.intent.request_id, sent.due, sent.sent, at, result.latency_s))
        if self.on_result is not None:
            self.on_result(sent.intent, result)


def _is_silent(result: Result) -> bool:
    return result.failure in ("failed", "timeout") and result.route is None
