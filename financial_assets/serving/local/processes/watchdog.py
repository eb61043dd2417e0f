"""Keeps one process alive: starts it, checks its health, distinguishes busy from hung, restarts it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from financial_assets.serving.local.processes.process import (
    ChildState,
    Identity,
    ProcessSpec,
    answers,
    busy_seconds,
    end_process,
    has_ended,
)

_FIRST_DELAY_S = 0.2
_LAST_DELAY_S = 10.0
_STABLE_S = 30.0
_POLL_S = 0.05
_BUSY_SHARE = 0.02  # of the time: a process that is stopped or waits for a lock uses none, a starved one still some
_LOG_BYTES = 20 * 2**20
_log = logging.getLogger("supervisor")
_Process = subprocess.Popen[bytes] | psutil.Process


class ProcessWatchdog(threading.Thread):
    """Keeps one process alive.

    Parameters
    ----------
    spec
        What to run.
    logs
        Folder of the log files.
    changed
        Called whenever :attr:`state` has changed.
    running
        The process that an earlier supervisor left: kept as it is until it ends.
    """

    def __init__(
        self, spec: ProcessSpec, logs: Path, changed: Callable[[], None], running: psutil.Process | None = None
    ) -> None:
        super().__init__(name=f"watchdog-{spec.name}", daemon=True)
        self._spec = spec
        self._log_path = logs / f"{spec.name}.log"
        self._changed = changed
        self._running = running
        self._ending = threading.Event()
        # Seconds from the start of the current process to its first healthy answer; None before that.
        self._start_s: float | None = None if running is None else 0.0
        self.state = ChildState(spec.name, None, "starting", 0, "")

    def end(self) -> None:
        """Begin to end the process; join the thread to wait for it."""
        self._ending.set()

    def run(self) -> None:
        """Start, watch, start again."""
        delay = 0.0
        while not self._ending.is_set():
            started = time.monotonic()
            try:
                last_exit = self._run_once()
            except Exception as error:  # whatever it was, the process must not stay without a watchdog
                _log.exception("%s: the watchdog failed", self._spec.name)
                last_exit = f"the watchdog failed: {error!r}"
            if self._ending.is_set():
                break
            if time.monotonic() - started > _STABLE_S:
                delay = 0.0
            # A process that has been healthy is back in less than twice its start-up time, however often it is killed;
            # only one that never gets healthy is tried less and less often.
            longest = _LAST_DELAY_S if self._start_s is None else self._start_s / 2
            delay = min(max(2 * delay, _FIRST_DELAY_S), longest)
            _log.warning("%s: %s; starting again in %.1f s", self._spec.name, last_exit, delay)
            self._set(None, "back-off", restarts=self.state.restarts + 1, last_exit=last_exit)
            self._start_s = None
            self._ending.wait(delay)
        self._set(None, "stopped")

    def _run_once(self) -> str:
        """Run the process until it ends; say why it did."""
        process, self._running = self._running, None
        try:
            process = process or self._spawn()
        except OSError as error:
            return f"could not be started: {error}"
        try:
            self._set(Identity.of(process.pid), "starting")
            reason = self._watch(process)
        finally:
            end_process(process, self._spec.stop_grace_s if self._ending.is_set() else 0)
        return reason or _describe(process)

    def _watch(self, process: _Process) -> str | None:
        """Return when the process has ended (``None``), hangs (the reason) or is to be ended."""
        spec, failures = self._spec, 0
        began = last_answer = next_check = time.monotonic()
        used = busy_seconds(process.pid)
        while not self._ending.wait(_POLL_S):
            if has_ended(process):
                return None
            if time.monotonic() < next_check:
                continue
            asked = time.monotonic()
            if answers(spec.health_url, spec.health_timeout_s):
                failures, last_answer = 0, time.monotonic()
                if self._start_s is None:
                    self._start_s = last_answer - began
                if self.state.state != "running":
                    self._set(self.state.identity, "running")
                    _log.info("%s: running as %d", spec.name, process.pid)
            else:
                failures += 1
            now, used_before, used = time.monotonic(), used, busy_seconds(process.pid)
            next_check = now + (_POLL_S if self._start_s is None else spec.health_interval_s)
            if failures == 0:
                continue
            # Not yet healthy: only its time to start counts. Then a process that uses the processor is busy (parsing a
            # large request, starved by others) and gets a grace period; one that does not is hung.
            if self._start_s is None:
                if now - began > spec.start_grace_s:
                    return f"did not answer {spec.health_url} within {spec.start_grace_s:g} s of its start"
            elif used - used_before > _BUSY_SHARE * (now - asked):
                failures = 0
                if now - last_answer > spec.busy_grace_s:
                    return f"did not answer {spec.health_url} for {spec.busy_grace_s:g} s, busy all the time"
            elif failures >= spec.health_failures:
                return f"did not answer {spec.health_url} {failures} times in a row"
        return None

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._log_path.exists() and self._log_path.stat().st_size > _LOG_BYTES:
            self._log_path.replace(self._log_path.with_suffix(".log.1"))
        environment = {**os.environ, **self._spec.environment}
        environment = {name: value for name, value in environment.items() if self._spec.environment.get(name) != ""}
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                self._spec.command,
                cwd=self._spec.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _set(
        self, identity: Identity | None, state: str, *, restarts: int | None = None, last_exit: str | None = None
    ) -> None:
        self.state = ChildState(
            self._spec.name,
            identity,
            state,
            self.state.restarts if restarts is None else restarts,
            self.state.last_exit if last_exit is None else last_exit,
        )
        self._changed()


def _describe(process: _Process) -> str:
    code = process.returncode if isinstance(process, subprocess.Popen) else None
    if code is None:
        return "ended; its exit status is known only to the supervisor that started it"
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"
    return f"ended with exit status {code}"
