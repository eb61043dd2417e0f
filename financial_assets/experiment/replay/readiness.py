"""Waiting for a serving plane that does not answer, until every arm answers again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from financial_assets.errors import InferenceError, ReplayError, TargetError
from financial_assets.experiment.replay.counts import Counts
from financial_assets.serving.client.inference import Connect

__all__ = ["await_ready"]

_POLL_S = 0.25


def await_ready(
    connect: Connect,
    models: Sequence[str],
    timeout_s: float,
    *,
    show: Callable[[str], None],
    check: Callable[[], None],
    stop: threading.Event,
    counts: Counts,
) -> None:
    """Return when all ``models`` answer.

    Nothing is sent again before *all* arms answer. If only some did, the requests of the others would move to them, and
    the split would reflect the outage instead of the weights.

    Parameters
    ----------
    connect
        Opens a connection to the gateway, wherever it is by now.
    models, timeout_s
        Who must answer, and the longest wait.
    show
        Called with the state of the wait as a sentence; with an empty text when it is over.
    check
        Called meanwhile; may raise.
    stop
        Ends a pause between two looks when set.
    counts
        Counts the waits and their seconds.

    Raises
    ------
    ReplayError
        They do not answer in time; all intents without an answer stay open.
    """
    began = time.monotonic()
    try:
        while problem := _problem(connect, models):
            waited = time.monotonic() - began
            if waited > timeout_s:
                raise ReplayError(
                    f"no answer from the serving plane: waited {timeout_s:g} s (READY_TIMEOUT) for all arms "
                    f"({problem}). Nothing is lost: unanswered requests stay open in the log. See "
                    "`financial-assets status`, start the plane with `financial-assets serve`, then replay again: "
                    "it continues here"
                )
            show(f"waiting for the gateway ({waited:.0f} s of {timeout_s:g} s): {problem}")
            check()
            stop.wait(_POLL_S)
    finally:
        counts.waits += 1
        counts.waited_s += time.monotonic() - began
        show("")


def _problem(connect: Connect, models: Sequence[str]) -> str:
    try:
        # A new connection each time: the gateway may come back at another address.
        with connect() as client:
            for model in models:
                client.check_ready(model)
    except (TargetError, InferenceError) as error:
        return str(error)
    return ""
