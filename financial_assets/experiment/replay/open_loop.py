"""Load: when requests are due, and how long they took from then on.

A closed loop sends the next request when an answer has come, so that a stalled gateway is asked less often exactly
while it stalls, and the log misses the waits that users would have had (coordinated omission: Tene, How not to measure
latency, 2013). An open loop fixes the instants beforehand and measures from them: a request that had to wait before it
could be sent counts from the instant at which a user would have sent it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from financial_assets.errors import ReplayError

__all__ = ["LATE_S", "Arrivals", "LoadSummary", "OpenLoop", "Timeline", "Timing", "summarize", "timing_frame"]

Arrivals = Literal["poisson", "uniform"]

LATE_S = 0.01
"""A request that is sent later than this after its instant counts as late; a busy machine is late by a millisecond."""


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests at scheduled instants, whether earlier ones have been answered or not.

    Attributes
    ----------
    rate
        Requests a second.
    arrivals
        ``poisson``: independent exponential gaps, as many independent users make them; ``uniform``: equal gaps.
    seed
        Of the gaps.
    """

    rate: float
    arrivals: Arrivals = "poisson"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):  # also false for NaN
            raise ReplayError(f"rate is {self.rate}; allowed: a positive number of requests a second")
        if self.arrivals not in ("poisson", "uniform"):
            raise ReplayError(f"arrivals are {self.arrivals!r}; allowed: poisson, uniform")

    def gaps(self) -> Generator[float]:
        """Seconds from each request to the next; the same in every run."""
        rng = np.random.default_rng(self.seed)
        while True:
            yield float(rng.exponential(1 / self.rate)) if self.arrivals == "poisson" else 1 / self.rate


class Timeline:
    """The instants at which requests are due.

    It begins with the first request. It never waits for an answer; it stands still only while the replay itself is at
    something else than traffic (:meth:`paused`).

    Parameters
    ----------
    load
        Rate and kind of the arrivals.
    now
        The clock, in seconds.
    """

    def __init__(self, load: OpenLoop, now: Callable[[], float]) -> None:
        self._gaps, self._now = load.gaps(), now
        self._due: float | None = None

    def next(self) -> float:
        """The instant of the next request."""
        self._due = (self._now() if self._due is None else self._due) + next(self._gaps)
        return self._due

    @contextmanager
    def paused(self) -> Generator[None]:
        """No request falls due meanwhile."""
        began = self._now()
        try:
            yield
        finally:
            if self._due is not None:
                self._due += self._now() - began


@dataclass(frozen=True, slots=True)
class Timing:
    """One request of an open loop; instants in seconds of one clock.

    Attributes
    ----------
    request_id
        As in the prediction log.
    due, sent, ended
        When it should have been sent, when it was, and when answer or failure had come (after all repetitions).
    service_s
        Seconds from sending to answer or failure of the last attempt: ``latency_s`` of the prediction log.
    sent_again
        No model answered at its instant, and it was sent again when the plane was back: ``ended`` says when that was,
        not how long a user would have waited.
    """

    request_id: str
    due: float
    sent: float
    ended: float
    service_s: float | None
    sent_again: bool = False

    @property
    def late(self) -> bool:
        """Whether it could not be sent in time."""
        return self.sent - self.due > LATE_S

    @property
    def latency_s(self) -> float:
        """Seconds from the scheduled instant to the end: what a user would have waited."""
        return self.ended - self.due


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """Both latencies of an open loop.

    Attributes
    ----------
    requests, late
        All that ended, and those that were sent later than 10 ms after their instant.
    sent_again
        Those that got no answer at their instant and were sent again later; they are in no percentile.
    most_in_flight
        Largest number of requests under way at once.
    longest_delay_s
        From the scheduled instant to sending, at worst.
    from_schedule, service
        ``p50``, ``p95``, ``p99``, ``max`` in seconds; from the scheduled instant, and from sending.
    """

    requests: int
    late: int
    sent_again: int
    most_in_flight: int
    longest_delay_s: float
    from_schedule: Mapping[str, float]
    service: Mapping[str, float]


def summarize(timings: Sequence[Timing], most_in_flight: int) -> LoadSummary:
    """Percentiles of both latencies."""
    in_time = [timing for timing in timings if not timing.sent_again]
    return LoadSummary(
        requests=len(timings),
        late=sum(timing.late for timing in timings),
        sent_again=len(timings) - len(in_time),
        most_in_flight=most_in_flight,
        longest_delay_s=max((timing.sent - timing.due for timing in timings), default=0.0),
        from_schedule=percentiles([timing.latency_s for timing in in_time]),
        service=percentiles([timing.service_s for timing in in_time if timing.service_s is not None]),
    )


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95 and 99 % percentile and maximum; empty without values."""
    if not len(seconds):
        return {}
    values = np.percentile(seconds, [50, 95, 99, 100])
    return dict(zip(("p50", "p95", "p99", "max"), map(float, values), strict=True))


def timing_frame(timings: Sequence[Timing]) -> pd.DataFrame:
    """One row a request: ``request_id``, then seconds since the first was due, both latencies, whether sent again."""
    origin = min((timing.due for timing in timings), default=0.0)
    return pd.DataFrame(
        {
            "request_id": [timing.request_id for timing in timings],
            "due_s": [timing.due - origin for timing in timings],
            "sent_s": [timing.sent - origin for timing in timings],
            "ended_s": [timing.ended - origin for timing in timings],
            "service_s": pd.Series([timing.service_s for timing in timings], dtype="float64"),
            "latency_s": pd.Series([timing.latency_s for timing in timings], dtype="float64"),
            "sent_again": pd.Series([timing.sent_again for timing in timings], dtype="bool"),
        }
    )
