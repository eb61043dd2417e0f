"""Load: when requests are due, and how long they took from then on.

A closed loop sends the next request when an answer arrives, so a stalled gateway is asked less often exactly while it
stalls, and the log misses the waits that users would have had (coordinated omission: Tene, How not to measure latency,
2013). An open loop fixes the instants beforehand and measures from them: a request that could not be sent in time
counts from the instant at which a user would have sent it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from financial_assets.errors import ReplayError

Arrivals = Literal["poisson", "uniform"]

LATE_S = 0.01
"""A request sent later than this after its instant counts as late; a busy machine alone causes about a millisecond."""


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests at scheduled instants, whether earlier ones have been answered or not.

    Attributes
    ----------
    rate
        Requests per second.
    arrivals
        ``poisson``: independent exponential gaps, as many independent users make them; ``uniform``: equal gaps.
    seed
        Seed of the gaps.
    """

    rate: float
    arrivals: Arrivals = "poisson"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):  # also false for NaN
            raise ReplayError(f"rate is {self.rate}; allowed: a positive number of requests per second")
        if self.arrivals not in ("poisson", "uniform"):
            raise ReplayError(f"arrivals are {self.arrivals!r}; allowed: poisson, uniform")

    def gaps(self) -> Generator[float]:
        """Seconds from each request to the next; the same in every run."""
        rng = np.random.default_rng(self.seed)
        while True:
            yield float(rng.exponential(1 / self.rate)) if self.arrivals == "poisson" else 1 / self.rate


class Timeline:
    """The instants at which requests are due.

    It starts with the first request and never waits for an answer. It stops only while the replay itself does something
    other than sending requests (:meth:`paused`).

    Parameters
    ----------
    load
        Rate and distribution of the arrivals.
    now
        Clock, in seconds.
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
        """Within this block no request falls due."""
        began = self._now()
        try:
            yield
        finally:
            # Shift what is due, do not restart it: the gaps stay those of the seed.
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
        When it should have been sent, when it was sent first, and when its answer or failure arrived.
    service_s
        Seconds from sending to answer or failure of the last attempt: ``latency_s`` of the prediction log.
    sent_again
        No model answered at its instant, so it was sent again when the serving plane was back. ``ended`` then reflects
        the end of the outage, not how long a user would have waited.
    """

    request_id: str
    due: float
    sent: float
    ended: float
    service_s: float | None
    sent_again: bool = False

    @property
    def late(self) -> bool:
        """Whether it was not sent in time."""
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
        Requests that ended, and those sent more than 10 ms after their instant.
    sent_again
        Requests without an answer at their instant that were sent again later; no percentile includes them.
    longest_delay_s
        Longest time from the scheduled instant to sending.
    from_schedule, service
        ``p50``, ``p95``, ``p99``, ``max`` in seconds: from the scheduled instant, and from sending. Empty without
        requests.
    """

    requests: int
    late: int
    sent_again: int
    longest_delay_s: float
    from_schedule: Mapping[str, float]
    service: Mapping[str, float]


def summarize(timings: Sequence[Timing]) -> LoadSummary:
    """Percentiles of both latencies."""
    # What waited for the end of an outage would turn percentiles of latency into the length of the outage.
    in_time = [timing for timing in timings if not timing.sent_again]
    return LoadSummary(
        requests=len(timings),
        late=sum(timing.late for timing in timings),
        sent_again=len(timings) - len(in_time),
        longest_delay_s=max((timing.sent - timing.due for timing in timings), default=0.0),
        from_schedule=percentiles([timing.latency_s for timing in in_time]),
        service=percentiles([timing.service_s for timing in in_time if timing.service_s is not None]),
    )


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile, and maximum; empty without values."""
    if not len(seconds):
        return {}
    values = np.percentile(seconds, [50, 95, 99, 100])
    return dict(zip(("p50", "p95", "p99", "max"), map(float, values), strict=True))


def timing_frame(timings: Sequence[Timing]) -> pd.DataFrame:
    """One row per request: ``request_id``, seconds since the first was due, both latencies, whether sent again."""
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
