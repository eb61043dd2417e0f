"""Sending requests to the gateway: threads with one connection each, timed by the machine's clock."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from typing import Self, TypeVar

from financial_assets.errors import InferenceError, TargetError
from financial_assets.experiment.prediction_log.records import Result
from financial_assets.experiment.replay.asking import Unanswered
from financial_assets.serving.client.inference import Connect, InferenceClient

Job = Callable[[InferenceClient], Result | Unanswered | None]
Completion = tuple[Result | Unanswered | None, float]
"""What a job returned, and the instant at which it did."""

_T = TypeVar("_T")
_Connection = tuple[AbstractContextManager[InferenceClient], InferenceClient]
_POLL_S = 0.1


class ThreadSender:
    """Threads that share a bounded number of connections; use as a context manager.

    A connection over which no answer came is not used again: the next one asks anew where the gateway is.

    Parameters
    ----------
    connect
        Opens a connection.
    limit
        Most requests in flight, and most connections.
    eager
        Open all connections at once, so that none is opened while latency is measured; otherwise when needed.
    """

    def __init__(self, connect: Connect, limit: int, *, eager: bool) -> None:
        self._connect, self._limit, self._eager = connect, limit, eager
        self._idle: queue.SimpleQueue[_Connection] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = 0
        self._pool = ThreadPoolExecutor(limit, thread_name_prefix="replay")

    def __enter__(self) -> Self:
        try:
            for _ in range(self._limit if self._eager else 1):
                if (connection := self._open_connection()) is not None:
                    self._idle.put(connection)
        except BaseException:
            self.renew()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.renew()

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return time.perf_counter()

    def run(self, job: Callable[[InferenceClient], _T]) -> _T:
        """Run ``job`` in this thread, with a connection of its own.

        Raises
        ------
        TargetError
            There is no gateway to connect to.
        """
        connection = self._take()
        is_answered = False
        try:
            result = job(connection[1])
            is_answered = not isinstance(result, Unanswered)
            return result
        except InferenceError as error:
            is_answered = error.answered
            raise
        finally:
            if is_answered:
                self._idle.put(connection)
            else:
                self._discard(connection)

    def send(self, job: Job) -> Future[Completion]:
        """Run ``job`` in one of the threads, as soon as a connection is free."""

        def timed() -> Completion:
            try:
                result = self.run(job)
            except TargetError as error:
                result = Unanswered(str(error), had_gateway=False)
            return result, time.perf_counter()

        return self._pool.submit(timed)

    def renew(self) -> None:
        """Close all idle connections; the next ones ask anew where the gateway is."""
        with suppress(queue.Empty):
            while True:
                self._discard(self._idle.get_nowait())

    def wait(self, in_flight: Collection[Future[Completion]], until: float | None = None) -> set[Future[Completion]]:
        """Wait for the first of ``in_flight`` to end, no longer than ``until``; returns those that have ended."""
        timeout = None if until is None else max(0.0, until - time.perf_counter())
        if in_flight:
            return wait(in_flight, timeout=timeout, return_when=FIRST_COMPLETED).done
        if timeout:
            time.sleep(timeout)
        return set()

    def wait_all(self, in_flight: Collection[Future[Completion]]) -> set[Future[Completion]]:
        """Wait until all have ended or were cancelled; returns those that have."""
        return wait(in_flight).done

    def _take(self) -> _Connection:
        while True:
            try:
                return self._idle.get_nowait()
            except queue.Empty:
                if (connection := self._open_connection()) is not None:
                    return connection
            # All connections are in use. One of them may be discarded instead of given back: look again soon.
            with suppress(queue.Empty):
                return self._idle.get(timeout=_POLL_S)

    def _open_connection(self) -> _Connection | None:
        """A new connection, ``None`` at the limit."""
        with self._lock:
            if self._open >= self._limit:
                return None
            self._open += 1
        # Outside the lock: opening may take seconds, and other threads must be able to give theirs back.
        try:
            context = self._connect()
            return context, context.__enter__()
        except BaseException:
            with self._lock:
                self._open -= 1
            raise

    def _discard(self, connection: _Connection) -> None:
        with self._lock:
            self._open -= 1
        connection[0].__exit__(None, None, None)
