"""Who carries requests to the gateway: threads with a connection each, under the machine's clock."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Protocol, Self, TypeVar

from financial_assets.experiment.gateway import Connect, Gateway
from financial_assets.experiment.records import Result

__all__ = ["Courier", "Ended", "Job", "ThreadCourier"]

Job = Callable[[Gateway], Result | None]
Ended = tuple[Result | None, float]
"""What a job returned, and when."""

_T = TypeVar("_T")


class Courier(Protocol):
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
        self._idle: queue.SimpleQueue[Gateway] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = 0
        self._stack = ExitStack()
        self._pool = ThreadPoolExecutor(places, thread_name_prefix="replay")

    def __enter__(self) -> Self:
        try:
            for _ in range(self._places if self._eager else 1):
                self._idle.put(self._another())
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._stack.close()

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return time.perf_counter()

    def ask(self, job: Callable[[Gateway], _T]) -> _T:
        """Run ``job`` here, with a connection of its own."""
        client = self._take()
        try:
            return job(client)
        finally:
            self._idle.put(client)

    def send(self, job: Job) -> Future[Ended]:
        """Run ``job`` in a thread."""

        def timed() -> Ended:
            result = self.ask(job)
            return result, time.perf_counter()

        return self._pool.submit(timed)

    def wait(self, flying: Collection[Future[Ended]], until: float | None = None) -> set[Future[Ended]]:
        """See :meth:`Courier.wait`."""
        left = None if until is None else max(0.0, until - time.perf_counter())
        if flying:
            return wait(flying, timeout=left, return_when=FIRST_COMPLETED).done
        if left:
            time.sleep(left)
        return set()

    def wait_all(self, flying: Collection[Future[Ended]]) -> set[Future[Ended]]:
        """See :meth:`Courier.wait_all`."""
        return wait(flying).done

    def _take(self) -> Gateway:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            with self._lock:
                if self._open < self._places:
                    return self._another()
            return self._idle.get()

    def _another(self) -> Gateway:
        client = self._stack.enter_context(self._connect())
        self._open += 1
        return client
