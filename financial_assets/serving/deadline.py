"""A point in time that several calls share."""

from __future__ import annotations

import time
from collections.abc import Iterator


class Deadline:
    """The end of the time that a whole operation may take, however many calls it makes."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until it, never negative."""
        return max(self._end - time.monotonic(), 0.0)

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.left == 0.0

    def polls(self, pause_s: float) -> Iterator[None]:
        """One turn at once and one after each pause, the last when the deadline has passed."""
        yield
        while not self.passed:
            time.sleep(min(pause_s, self.left))
            yield
