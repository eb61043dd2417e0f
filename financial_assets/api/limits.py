"""How many requests a caller may send: a token bucket for each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CALLERS = 10_000


class RateLimit:
    """Token buckets by caller, in the memory of one process.

    A bucket holds ``burst`` requests and fills at ``per_minute``. Of many callers, the one that was seen longest ago is
    forgotten, so that inventing names uses no memory.

    Parameters
    ----------
    per_minute
        Requests that a caller may send in a minute in the long run.
    burst
        Requests that may come at once after a pause.
    clock
        Seconds, never going back.
    """

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, per_minute: float | None = None) -> float:
        """Take one request of ``caller``: 0 if it may be answered, else the seconds after which the next one may.

        Parameters
        ----------
        per_minute
            A limit of the caller's own; its burst is at most a minute's worth of it.
        """
        now = self._clock()
        rate = self._per_second if per_minute is None else per_minute / 60
        burst = self._burst if per_minute is None else min(self._burst, max(per_minute, 1.0))
        left, seen = self._buckets.pop(caller, (burst, now))
        left = min(burst, left + (now - seen) * rate)
        wait = 0.0 if left >= 1 else (1 - left) / rate
        self._buckets[caller] = (left - 1 if wait == 0 else left, now)
        if len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        return wait
