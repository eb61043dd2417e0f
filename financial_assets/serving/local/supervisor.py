"""One detached process a home that keeps the plane's processes alive.

``python -m financial_assets.serving.local.supervisor <home>`` detaches and takes over.

It holds a file lock for as long as it lives, so a second one ends at once and a dead one blocks nobody. Each child
has a keeper thread that starts it, asks its health, kills it when it hangs and starts it again with growing delays.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from financial_assets.serving.local.layout import Layout
from financial_assets.serving.local.processes import (
    ChildState,
    Identity,
    ProcessSpec,
    SupervisorState,
    answers,
    end_process,
    read_specs,
)

__all__ = ["Keeper", "main", "supervise"]

_FIRST_DELAY_S = 0.2
_LAST_DELAY_S = 10.0
_STABLE_S = 30.0
_POLL_S = 0.05
_HOME_CHECK_S = 2.0
_LOG_BYTES = 20 * 2**20
_log = logging.getLogger("supervisor")


class Keeper(threading.Thread):
    """Keeps one process alive.

    Parameters
    ----------
    spec
        What to run.
    logs
        Folder of the log files.
    changed
        Called whenever :attr:`state` has changed.
    """

    def __init__(self, spec: ProcessSpec, logs: Path, changed: Callable[[], None]) -> None:
        super().__init__(name=f"keeper-{spec.name}", daemon=True)
        self._spec = spec
        self._log_path = logs / f"{spec.name}.log"
        self._changed = changed
        self._ending = threading.Event()
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
            except Exception as error:  # whatever it was, the process must not stay without a keeper
                _log.exception("%s: the keeper failed", self._spec.name)
                last_exit = f"the keeper failed: {error!r}"
            if self._ending.is_set():
                break
            if time.monotonic() - started > _STABLE_S:
                delay = 0.0
            delay = min(max(2 * delay, _FIRST_DELAY_S), _LAST_DELAY_S)
            _log.warning("%s: %s; starting again in %.1f s", self._spec.name, last_exit, delay)
            self._set(None, "back-off", restarts=self.state.restarts + 1, last_exit=last_exit)
            self._ending.wait(delay)
        self._set(None, "stopped")

    def _run_once(self) -> str:
        """Run the process until it ends; say why it did."""
        try:
            process = self._spawn()
        except OSError as error:
            return f"could not be started: {error}"
        try:
            self._set(Identity.of(process.pid), "starting")
            reason = self._watch(process)
        finally:
            end_process(process, self._spec.stop_grace_s if self._ending.is_set() else 0)
        return reason or _describe(process.returncode)

    def _watch(self, process: subprocess.Popen[bytes]) -> str | None:
        """Return when the process has ended (``None``), hangs (the reason) or shall end."""
        spec, failures, well = self._spec, 0, False
        deadline = time.monotonic() + spec.start_grace_s
        next_check = time.monotonic()
        while not self._ending.wait(_POLL_S):
            if process.poll() is not None:
                return None
            if time.monotonic() < next_check:
                continue
            next_check = time.monotonic() + (spec.health_interval_s if well else _POLL_S)
            if answers(spec.health_url, spec.health_timeout_s):
                failures = 0
                if not well:
                    well = True
                    self._set(self.state.identity, "running")
                    _log.info("%s: running as %d", spec.name, process.pid)
                continue
            failures += 1
            if well and failures >= spec.health_failures:
                return f"did not answer {spec.health_url} {failures} times in a row"
            if not well and time.monotonic() > deadline:
                return f"did not answer {spec.health_url} within {spec.start_grace_s:g} s of its start"
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


def supervise(layout: Layout, wait_for_end: Callable[[], object]) -> None:
    """Keep the processes of ``layout.specs`` alive until ``wait_for_end`` returns; the caller holds the lock."""
    me = Identity.of(os.getpid())
    assert me is not None
    writing = threading.Lock()
    keepers: list[Keeper] = []

    def write_state() -> None:
        if not layout.root.is_dir():  # removed: do not make it again
            return
        with writing:
            try:
                SupervisorState(me, tuple(keeper.state for keeper in keepers)).write(layout.supervisor_state)
            except OSError:  # a full disk must not end the supervision; the next change tries again
                _log.exception("cannot write %s", layout.supervisor_state)

    keepers += [Keeper(spec, layout.logs, write_state) for spec in read_specs(layout.specs)]
    write_state()
    for keeper in keepers:
        keeper.start()
    wait_for_end()
    _end_in_order(keepers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Detach, take the lock and supervise; 0 also when another supervisor has the lock."""
    home = Path((sys.argv[1:] if arguments is None else arguments)[0])
    layout = Layout(home)
    if os.fork() > 0:  # the caller's child ends here, so that nobody has to wait for the supervisor
        os._exit(0)
    os.setsid()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with layout.supervisor_lock.open("a") as lock:
        if not _take(lock):
            return 0
        # A pipe, because a handler that sets an event can deadlock with the very thread that waits for it.
        told, tell = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.write(tell, b"."))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        _log.info("supervisor %d of %s", os.getpid(), layout.root)
        supervise(layout, lambda: _wait_for_end(told, layout.supervisor_lock, os.fstat(lock.fileno()).st_ino))
        _log.info("supervisor %d ends", os.getpid())
    return 0


def _wait_for_end(told: int, lock: Path, inode: int) -> None:
    """Wait for a signal, or for the home to be removed: nobody could find this plane again to stop it."""
    while not select.select([told], [], [], _HOME_CHECK_S)[0]:
        try:
            gone = lock.stat().st_ino != inode
        except FileNotFoundError:
            gone = True
        if gone:
            return


def _take(lock: TextIO) -> bool:
    """Take the lock; tried for a while, because somebody who asks whether it is held has it for an instant."""
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False


def _end_in_order(keepers: Sequence[Keeper]) -> None:
    """The first spec ends first: the gateway stops taking requests before the servers behind it go."""
    for keeper in keepers:
        keeper.end()
        keeper.join()


def _describe(code: int | None) -> str:
    if code is not None and code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"
    return f"ended with exit status {code}"


if __name__ == "__main__":
    sys.exit(main())
