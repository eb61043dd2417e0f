"""One detached process per home that keeps the plane's processes alive.

``python -m financial_assets.serving.local.supervisor <home>`` detaches and takes over.

It holds a file lock for as long as it lives, so a second one ends at once and a dead one blocks nobody. Each child
has a watchdog thread. Children survive a killed supervisor and continue to serve; the next one adopts them as they are,
so that taking over interrupts no request.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from financial_assets.serving.local.layout import Layout
from financial_assets.serving.local.processes.orphans import find_processes, mark
from financial_assets.serving.local.processes.process import Identity, SupervisorState, read_specs
from financial_assets.serving.local.processes.watchdog import ProcessWatchdog

_HOME_CHECK_S = 2.0
_log = logging.getLogger("supervisor")


def supervise(layout: Layout, wait_for_end: Callable[[], object]) -> None:
    """Keep the processes of ``layout.specs`` alive until ``wait_for_end`` returns; the caller holds the lock."""
    me = Identity.of(os.getpid())
    assert me is not None
    writing = threading.Lock()
    watchdogs: list[ProcessWatchdog] = []

    def write_state() -> None:
        if not layout.root.is_dir():  # somebody removed it: writing would make it again
            return
        with writing:
            try:
                SupervisorState(me, tuple(watchdog.state for watchdog in watchdogs)).write(layout.supervisor_state)
            except OSError:  # a full disk must not end the supervision; the next change tries again
                _log.exception("cannot write %s", layout.supervisor_state)

    left = find_processes(layout)
    for spec in read_specs(layout.specs):
        marked = replace(spec, environment={**spec.environment, **mark(layout.root, spec.name)})
        watchdogs.append(ProcessWatchdog(marked, layout.logs, write_state, left.get(spec.name)))
    write_state()
    for watchdog in watchdogs:
        watchdog.start()
    wait_for_end()
    # The first spec ends first: the gateway stops taking requests before the servers behind it go.
    for watchdog in watchdogs:
        watchdog.end()
        watchdog.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Detach, take the lock and supervise; 0 also when another supervisor has the lock."""
    home = Path((sys.argv[1:] if arguments is None else arguments)[0])
    layout = Layout(home)
    with layout.supervisor_lock.open("a") as lock:
        if not _take(lock):
            return 0
        # The caller's child ends here, so that nobody waits for the supervisor. A lock belongs to the open file, which
        # the fork shares, so the caller finds it held without a gap.
        if os.fork() > 0:
            os._exit(0)
        os.setsid()
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        # A pipe, because a handler that sets an event can deadlock with the very thread that waits for it.
        signalled, signal_end = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.write(signal_end, b"."))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        _log.info("supervisor %d of %s", os.getpid(), layout.root)
        supervise(layout, lambda: _wait_for_end(signalled, layout.supervisor_lock, os.fstat(lock.fileno()).st_ino))
        _log.info("supervisor %d ends", os.getpid())
    return 0


def _wait_for_end(signalled: int, lock: Path, inode: int) -> None:
    """Wait for a signal, or for the home to be removed: without it nobody could find this plane to stop it."""
    while not select.select([signalled], [], [], _HOME_CHECK_S)[0]:
        try:
            gone = lock.stat().st_ino != inode
        except FileNotFoundError:
            gone = True
        if gone:
            return


def _take(lock: TextIO) -> bool:
    """Take the lock; repeated for a while, because asking whether it is held takes it for an instant."""
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False


if __name__ == "__main__":
    sys.exit(main())
