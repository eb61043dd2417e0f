"""Who carries requests to the gateway: threads with a connection each, under the machine's clock."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from typing import Protocol, Self, TypeVar

from financial_assets.errors import InferenceError, TargetError
from financial_assets.experiment.prediction_log.records import Result
from financial_assets.experiment.replay.requests import Connect, Gateway, Unanswered

__all__ = ["Ended", "Job", "RequestSender", "ThreadCourier"]

Job = Callable[[Gateway], Result | Unanswered | None]
Ended = tuple[Result | Unanswered | None, float]
"""What a job returned, and when."""

_T = TypeVar("_T")
_Connection = tuple[AbstractContextManager[Gateway], Gateway]
_LOOK_AGAIN_S = 0.1


class RequestSender(Protocol):
    """Carries requests; tests put another one in its place, whose clock moves by itself."""

    def now(self) -> float:
        """The clock, in seconds."""
        ...

    def send(self, job: Job) -> Future[Ended]:
        """Begin to ask, as soon as there is a place."""
        ...

    def wait(self, flying: Collection[Future[Ended]], until: float | None = None) -> set[Future[Ended]]:
        """Wait for the first end among ``flying``, no longer than ``until``; those that have ended."""
        ...

    def wait_all(self, flying: Collection[Future[Ended]]) -> set[Future[Ended]]:
        """Wait until all have ended or were called off; those that have."""
        ...


class ThreadCourier:
    """Threads that share a bounded number of connections; use as a context manager.

    A connection over which no answer came is not used again: the next one asks anew where the gateway is.

    Parameters
    ----------
    connect
        Opens a connection.
    places
        Requests under way at a time.
    eager
        Open all connections at once, so that none is opened while something is measured; otherwise when needed.
    """

    def __init__(self, connect: Connect, places: int, *, eager: bool) -> None:
        self._connect, self._places, self._eager = connect, places, eager
        self._idle: queue.SimpleQueue[_Connection] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = 0
        self._pool = ThreadPoolExecutor(places, thread_name_prefix="replay")

    def __enter__(self) -> Self:
        try:
            for _ in range(self._places if self._eager else 1):
                if (made := self._another()) is not None:
                    self._idle.put(made)
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

    def ask(self, job: Callable[[Gateway], _T]) -> _T:
        """Run ``job`` here, with a connection of its own.

        Raises
        ------
        TargetError
            There is no gateway to connect to.
        """
        connection = self._take()
        answered = False
        try:
            result = job(connection[1])
            answered = not isinstance(result, Unanswered)
            return result
        except InferenceError as error:
            answered = error.answered
            raise
        finally:
            if answered:
                self._idle.put(connection)
            else:
                self._discard(connection)

    def send(self, job: Job) -> Future[Ended]:
        """Run ``job`` in a thread."""

        def timed() -> Ended:
            try:
                result = self.ask(job)
            except TargetError as error:
                result = Unanswered(str(error), asked=False)
            return result, time.perf_counter()

        return self._pool.submit(timed)

    def renew(self) -> None:
        """Close all connections that are not in use; the next ones ask anew where the gateway is."""
        with suppress(queue.Empty):
            while True:
                self._discard(self._idle.get_nowait())

    def wait(self, flying: Collection[Future[Ended]], until: float | None = None) -> set[Future[Ended]]:
        """See :meth:`RequestSender.wait`."""
        left = None if until is None else max(0.0, until - time.perf_counter())
        if flying:
            return wait(flying, timeout=left, return_when=FIRST_COMPLETED).done
        if left:
            time.sleep(left)
        return set()

    def wait_all(self, flying: Collection[Future[Ended]]) -> set[Future[Ended]]:
        """See :meth:`RequestSender.wait_all`."""
        return wait(flying).done

    def _take(self) -> _Connection:
        while True:
            try:
                return self._idle.get_nowait()
            except queue.Empty:
                if (made := self._another()) is not None:
                    return made
            with suppress(queue.Empty):  # all places are taken; a connection may be thrown away instead of given back
                return self._idle.get(timeout=_LOOK_AGAIN_S)

    def _another(self) -> _Connection | None:
        """A new connection, ``None`` if there are as many as places."""
        with self._lock:
            if self._open >= self._places:
                return None
            self._open += 1
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
