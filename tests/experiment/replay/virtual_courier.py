"""A courier whose clock moves by itself: what takes a second takes none."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future

from financial_assets.experiment.replay.sender import Ended, Job
from tests.experiment.builders import FakeGateway


class VirtualCourier:
    """Asks at once, and delivers the answer after the service time that ``served`` gives for the instant of sending.

    Parameters
    ----------
    gateway
        Who is asked.
    served
        Instant of sending -> seconds until the answer.
    places
        Requests served at a time; more wait for a place before they count as sent.
    """

    def __init__(self, gateway: FakeGateway, served: Callable[[float], float], places: int = 10_000) -> None:
        self.gateway, self.served, self.places = gateway, served, places
        self.time = 0.0
        self.sent_at: list[float] = []
        self._due: dict[Future[Ended], tuple[float, Job]] = {}
        self._waiting: list[tuple[Future[Ended], Job]] = []

    def now(self) -> float:
        return self.time

    def send(self, job: Job) -> Future[Ended]:
        future: Future[Ended] = Future()
        self._waiting.append((future, job))
        self._fill()
        return future

    def wait(self, flying: Collection[Future[Ended]], until: float | None = None) -> set[Future[Ended]]:
        done = {future for future in flying if future.done()}
        if done:
            return done
        nearest = min((end for end, _ in self._due.values()), default=float("inf"))
        if until is not None and until < nearest:
            self.time = until
            return set()
        assert nearest < float("inf"), "waiting for nothing"
        self._move_to(nearest)
        return {future for future in flying if future.done()}

    def wait_all(self, flying: Collection[Future[Ended]]) -> set[Future[Ended]]:
        while self._due:
            self._move_to(min(end for end, _ in self._due.values()))
        return {future for future in flying if future.done()}

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
        while self._waiting and len(self._due) < self.places:
            future, job = self._waiting.pop(0)
            if future.set_running_or_notify_cancel():
                self.sent_at.append(self.time)
                self._due[future] = (self.time + self.served(self.time), job)
