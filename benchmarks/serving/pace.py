"""An open loop of requests, what came of them, and how the memory of a process moved meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .trend import Series, trend

HEADING = f"{'requests':>9}{'errors':>8}" + "".join(f"{name:>9}" for name in ("p50", "p95", "p99", "max"))
"""Of the columns of :meth:`Load.line`."""


class Asking(Protocol):
    """Whatever can send the n-th request and raises unless its answer is right."""

    async def send(self, number: int) -> None:
        """Ask once."""
        ...


@dataclass
class Load:
    """What came of a series of requests."""

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    async def ask(self, sender: Asking, number: int, scheduled: float) -> None:
        """Send one request and keep what came of it."""
        try:
            await sender.send(number)
        except Exception as error:  # whatever goes wrong is counted and printed
            self.errors[f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"] += 1
        self.latencies.append(time.perf_counter() - scheduled)

    def line(self, name: str) -> str:
        """One row of the table."""
        p50, p95, p99 = np.percentile(self.latencies, [50, 95, 99]) * 1e3
        most = max(self.latencies) * 1e3
        return f"{name:32}{len(self.latencies):9}{self.errors.total():8}{p50:9.1f}{p95:9.1f}{p99:9.1f}{most:9.1f}"

    def report_errors(self) -> None:
        """Print the most frequent errors."""
        for text, count in self.errors.most_common(5):
            print(f"  {count} times {text}")


async def paced(
    senders: Sequence[Asking], rate: float, count: int, each_second: Callable[[int], object] = lambda sent: None
) -> Load:
    """An open loop: each request is sent at its instant, however many are under way."""
    load, tasks, began, second = Load(), set[asyncio.Task[None]](), time.perf_counter(), 0
    for number in range(count):
        scheduled = began + number / rate
        await asyncio.sleep(max(scheduled - time.perf_counter(), 0))
        task = asyncio.create_task(load.ask(senders[number % len(senders)], number, scheduled))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if time.perf_counter() - began >= second:
            second += 1
            each_second(number)
    await asyncio.gather(*tasks)
    return load


@dataclass(frozen=True)
class Growth:
    """How the memory of a process moved, in MiB and MiB an hour.

    Attributes
    ----------
    mean, least, most
        Of all samples.
    slope, error
        Of a line through them, and its standard error; both 0 where nothing changed.
    """

    mean: float
    least: float
    most: float
    slope: float
    error: float

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval of the slope."""
        return self.slope - 1.96 * self.error

    @property
    def high(self) -> float:
        """Upper end of it."""
        return self.slope + 1.96 * self.error

    def __str__(self) -> str:
        size = f"{self.mean:4.0f} MiB, {self.least:.1f} to {self.most:.1f}"
        if self.least == self.most:
            return f"{size}: no change at all"
        verdict = "indistinguishable from 0" if self.low <= 0 <= self.high else "not 0"
        return (
            f"{size}; slope {self.slope:+.2f} MiB an hour, standard error {self.error:.2f}, 95 % interval "
            f"{self.low:+.2f} to {self.high:+.2f}: {verdict}"
        )


def growth(memory: Series) -> Growth:
    """Growth of a process that was looked at every second, with an error that allows for the likeness of neighbours.

    Memory moves in steps, so that samples near each other err alike; means of half a minute still do.

    Parameters
    ----------
    memory
        MiB, at least 8 samples.
    """
    means = np.array([part.mean() for part in np.array_split(memory, max(len(memory) // 30, 8))])
    size = float(memory.mean()), float(memory.min()), float(memory.max())
    if not np.ptp(means):
        return Growth(*size, 0.0, 0.0)
    found = trend(means)
    per_hour = 3600 * len(means) / len(memory)
    return Growth(*size, per_hour * found.slope, per_hour * (found.high - found.low) / (2 * 1.96))
