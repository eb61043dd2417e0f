"""Work in processes forked from one that has imported everything and started no thread: only the work itself costs."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")
_PATIENCE_S = 900.0
FAILED = 99


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or minus the signal; what it printed; its seconds."""

    code: int
    output: str
    seconds: float

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def start(work: Callable[[], int], log: Path) -> int:
    """Run ``work`` in a process of its own, with its output in ``log``; its process id.

    Its exit code is what ``work`` returns, or that of the ``SystemExit`` that it raises.
    """
    # Libraries have helpers of their own, which expect a fork; a thread of Python may hold any lock.
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = FAILED
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the matrix has a handler of its own
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = _worked(work)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _worked(work: Callable[[], int]) -> int:
    try:
        return work()
    except SystemExit as end:
        return int(end.code or 0) if isinstance(end.code, (int, type(None))) else 1
    except BaseException:
        traceback.print_exc()
        return FAILED


def wait(child: int, log: Path, began: float) -> Ended:
    """Wait until a process of :func:`start` has ended; one that hangs, or whose matrix is interrupted, is killed."""
    try:
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() - began > _PATIENCE_S:
                raise TimeoutError(f"no end after {_PATIENCE_S:g} s; it said {log.read_text()[-2000:]}")
            time.sleep(0.02)
    except (TimeoutError, KeyboardInterrupt):
        kill(child)
        raise
    return Ended(os.waitstatus_to_exitcode(status), log.read_text(errors="replace"), time.monotonic() - began)


def kill(child: int) -> None:
    """Kill a process of :func:`start` that nobody has waited for."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def is_alive(child: int) -> bool:
    """Whether a process of :func:`start` has not ended; it may still be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def run(work: Callable[[], int], log: Path) -> Ended:
    """``start`` and ``wait``."""
    began = time.monotonic()
    return wait(start(work, log), log, began)


def note_modules(work: Callable[[], int], path: Path) -> Callable[[], int]:
    """``work``, which also writes down what has been imported when it ends, for :func:`preload`."""

    def noting() -> int:
        try:
            return work()
        finally:
            known = set(path.read_text().split()) if path.exists() else set[str]()
            path.write_text("\n".join(sorted(known | set(sys.modules))))

    return noting


def preload(path: Path) -> None:
    """Import what earlier processes imported late, so that the coming ones need not."""
    for name in path.read_text().split() if path.exists() else ():
        if name.split(".")[0] not in ("__main__", "benchmarks", "tests"):
            with suppress(Exception):  # not every entry of `sys.modules` is a module that can be imported
                importlib.import_module(name)


def ask(question: Callable[[], _T], folder: Path) -> _T:
    """The answer of a function that opens databases or starts threads, given by a process of its own."""
    answer, log = folder / "answer.pickle", folder / "answer.log"

    def work() -> int:
        answer.write_bytes(pickle.dumps(question()))
        return 0

    ended = run(work, log)
    if ended.code != 0:
        raise RuntimeError(f"the question has failed: {ended.output[-2000:]}")
    value: Any = pickle.loads(answer.read_bytes())
    return value
