"""Waits that end when progress stops: nobody knows how fast a machine is and what else it does.

Two things make a limit independent of the machine. Seconds are those of a free machine: one that runs three times as
many threads as it has cores counts a third of each second. And the limit is on the time *since the last progress*:
whoever waits for a process names what it leaves behind (rows, log lines), or its processor time is taken.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import IO, Any

import psutil

PATIENCE_S = 300.0
"""Without any progress; the longest honest silence is the start of a serving plane, seconds on a free machine."""
_TICK_S = 0.5  # of processor time: less is what a process that only polls uses in minutes


class FreeSeconds:
    """Seconds that a free machine would have had since :meth:`restart`.

    The load average counts the threads that run or wait to run; above one per core each gets that much less. It lags by
    a minute, so a limit must be long against the moment in which the load rises.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._elapsed, self._read_at = 0.0, time.monotonic()

    def read(self) -> float:
        now = time.monotonic()
        self._elapsed += (now - self._read_at) / max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
        self._read_at = now
        return self._elapsed


def processor_ticks(pid: int) -> int:
    """Processor time of a process and its descendants, in half seconds; 0 when it has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    used = 0.0
    for member in family:
        try:
            used += sum(member.cpu_times()[:4])  # user, system, and of children that it has waited for
        except psutil.NoSuchProcess:
            continue
    return int(used / _TICK_S)


def wait(
    what: str,
    condition: Callable[[], object],
    *,
    progress: Callable[[], object] = lambda: None,
    patience_s: float = PATIENCE_S,
    poll_s: float = 0.1,
) -> None:
    """Wait until ``condition`` holds; fail when ``progress`` has not changed for ``patience_s``, naming ``what``."""
    clock, last, looked_at = FreeSeconds(), progress(), 0.0
    while not condition():
        # Not on each round: to look at a family of processes is to read all processes of the machine.
        if (waited := clock.read()) - looked_at > patience_s / 20:
            looked_at = waited
            if (seen := progress()) != last:
                clock.restart()
                last, looked_at = seen, 0.0
        assert clock.read() < patience_s, f"{what}: no progress in {patience_s:g} s; last seen {last!r}"
        time.sleep(poll_s)


def wait_on(
    process: subprocess.Popen[Any],
    what: str,
    condition: Callable[[], object],
    *,
    log: Callable[[], str] = lambda: "",
    poll_s: float = 0.1,
) -> None:
    """Wait until ``condition`` holds while a process works; fail with ``log()`` when it ends or stops working."""

    def holds() -> bool:
        if condition():
            return True
        assert process.poll() is None, f"the process ended before {what}\n{log()}"
        return False

    try:
        wait(what, holds, progress=lambda: processor_ticks(process.pid), poll_s=poll_s)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log()}") from None


def finish(process: subprocess.Popen[str], what: str = "the process") -> tuple[str, str]:
    """What a process printed until it ended; one that stops working is killed with its group or by itself."""
    clock, last = FreeSeconds(), processor_ticks(process.pid)
    while True:
        try:
            return process.communicate(timeout=1)  # may be repeated: what was read is kept
        except subprocess.TimeoutExpired:
            if (seen := processor_ticks(process.pid)) != last:
                clock.restart()
                last = seen
            if clock.read() > PATIENCE_S:
                own_group = os.getpgid(process.pid) == process.pid
                (os.killpg if own_group else os.kill)(process.pid, signal.SIGKILL)
                printed = process.communicate()
                raise AssertionError(f"{what} hangs after {last * _TICK_S:g} s of processor time\n{printed}") from None


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run`` with captured text, in a process group of its own."""
    pipes: dict[str, IO[str] | int] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, start_new_session=True, **pipes, **options)
    try:
        stdout, stderr = finish(process, " ".join(command[1:]))
    finally:
        if process.poll() is None:  # interrupted
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
