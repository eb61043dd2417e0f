"""A sender whose clock moves by itself: what takes a second takes none."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future

from financial_assets.experiment.replay.sender import Completion, Job
from tests.experiment.builders import FakeGateway


class VirtualSender:
    """Asks at once, and delivers the answer after the service time that ``served`` gives for the instant of sending.

    Parameters
    ----------
    gateway
        Who is asked.
    served
        Instant of sending -> seconds until the answer.
    limit
        Requests served at a time; more wait before they count as sent.
    """

    def __init__(self, gateway: FakeGateway, served: Callable[[float], float], limit: int = 10_000) -> None:
        self.gateway, self.served, self.limit = gateway, served, limit
        self.time = 0.0
        self.sent_at: list[float] = []
        self._due: dict[Future[Completion], tuple[float, Job]] = {}
        self._waiting: list[tuple[Future[Completion], Job]] = []

    def now(self) -> float:
        return self.time

    def send(self, job: Job) -> Future[Completion]:
        future: Future[Completion] = Future()
        self._waiting.append((future, job))
        self._fill()
        return future

    def wait(self, in_flight: Collection[Future[Completion]], until: float | None = None) -> set[Future[Completion]]:
        done = {future for future in in_flight if future.done()}
        if done:
            return done
        nearest = min((end for end, _ in self._due.values()), default=float("inf"))
        if until is not None and until < nearest:
            self.time = until
            return set()
        assert nearest < float("inf"), "waiting for nothing"
        self._move_to(nearest)
        return {future for future in in_flight if future.done()}

    def wait_all(self, in_flight: Collection[Future[Completion]]) -> set[Future[Completion]]:
        while self._due:
            self._move_to(min(end for end, _ in self._due.values()))
        return {future for future in in_flight if future.done()}

    def _move_to(self, instant: float) -> None:
        self.time = instant
        for future, (end, job) in list(self._due.items()):
            if end <= instant:
                del self._due[future]
                try:
                    future.set_result((job(self.gateway), end))
                except Exception as error:
                    future.set_exception(error)
        self._fill()

    def _fill(self) -> None:
        while self._waiting and len(self._due) < self.limit:
            future, job = self._waiting.pop(0)
            if future.set_running_or_notify_cancel():
                self.sent_at.append(self.time)
                self._due[future] = (self.time + self.served(self.time), job)
