"""Waiting for a serving plane that does not answer, until every arm answers again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from financial_assets.errors import InferenceError, ReplayError, TargetError
from financial_assets.experiment.replay.counts import Counts
from financial_assets.serving.client.inference import Connect

__all__ = ["ReadinessWait"]

_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class ReadinessWait:
    """Waits until arms answer again.

    Nothing is sent again before *all* arms answer. If only some did, the requests of the others would move to them, and
    the split would reflect the outage instead of the weights.

    Attributes
    ----------
    connect
        Opens a connection to the gateway, wherever it is by now.
    timeout_s
        Longest wait.
    show
        Called with the state of the wait as a sentence; with an empty text when it is over.
    stop
        Ends a wait when set.
    counts
        Counts the waits and their seconds.
    """

    connect: Connect
    timeout_s: float
    show: Callable[[str], None]
    stop: threading.Event
    counts: Counts

    def wait(self, models: Sequence[str], check: Callable[[], None]) -> None:
        """Return when all ``models`` answer; ``check`` is called meanwhile and may raise.

        Raises
        ------
        ReplayError
            They do not answer in time; all intents without an answer stay open.
        """
        began = time.monotonic()
        try:
            while problem := self._problem(models):
                waited = time.monotonic() - began
                if waited > self.timeout_s:
                    raise ReplayError(
                        f"no answer from the serving plane: waited {self.timeout_s:g} s (READY_TIMEOUT) for all arms "
                        f"({problem}). Nothing is lost: unanswered requests stay open in the log. See "
                        "`financial-assets status`, start the plane with `financial-assets serve`, then replay again: "
                        "it continues here"
                    )
                self.show(f"waiting for the gateway ({waited:.0f} s of {self.timeout_s:g} s): {problem}")
                check()
                self.stop.wait(_POLL_S)
        finally:
            self.counts.waits += 1
            self.counts.waited_s += time.monotonic() - began
            self.show("")

    def _problem(self, models: Sequence[str]) -> str:
        try:
            # A new connection each time: the gateway may come back at another address.
            with self.connect() as client:
                for model in models:
                    client.check_ready(model)
        except (TargetError, InferenceError) as error:
            return str(error)
        return ""
