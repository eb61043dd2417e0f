"""Waiting for a serving plane that gives no answers, until every arm answers again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from financial_assets.errors import InferenceError, ReplayError, TargetError
from financial_assets.experiment.replay.requests import Connect

__all__ = ["Outage"]

_LOOK_S = 0.25


@dataclass
class Outage:
    """The times at which no model answered, and the waits for their end.

    Nothing is sent again before *all* arms answer: if only some did, the requests of the others would move to them, and
    the split would say something about the outage, not about the weights.

    Attributes
    ----------
    connect
        Opens a connection to the gateway, wherever it is by now.
    timeout_s
        Longest wait.
    say
        Told how the wait goes, in a sentence; with an empty text when it is over.
    stop
        Ends a wait when set.
    waits, waited_s
        How often was waited, and for how many seconds in all.
    """

    connect: Connect
    timeout_s: float
    say: Callable[[str], None]
    stop: threading.Event
    waits: int = 0
    waited_s: float = 0.0

    def wait(self, models: Sequence[str], check: Callable[[], None]) -> None:
        """Return when all ``models`` answer; ``check`` is called meanwhile and may raise.

        Raises
        ------
        ReplayError
            They do not within the time; all intents without an answer stay open.
        """
        began = time.monotonic()
        try:
            while problem := self._problem(models):
                waited = time.monotonic() - began
                if waited > self.timeout_s:
                    raise ReplayError(
                        f"no answer from the serving plane: waited {self.timeout_s:g} s (READY_TIMEOUT) for all arms "
                        f"({problem}). Nothing is lost: what was not answered stays open in the log. See "
                        "`financial-assets status`, start the plane with `financial-assets serve`, then replay again: "
                        "it goes on here"
                    )
                self.say(f"waiting for the gateway ({waited:.0f} s of {self.timeout_s:g} s): {problem}")
                check()
                self.stop.wait(_LOOK_S)
        finally:
            self.waits += 1
            self.waited_s += time.monotonic() - began
            self.say("")

    def _problem(self, models: Sequence[str]) -> str:
        try:
            with self.connect() as client:
                for model in models:
                    client.check_ready(model)
        except (TargetError, InferenceError) as error:
            return str(error)
        return ""
