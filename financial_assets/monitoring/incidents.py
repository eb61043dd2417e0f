"""Reasons to retrain, and retrainings that were requested before: the inputs of a retraining decision."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Source = Literal["alert", "drift"]
RunState = Literal["queued", "running", "succeeded", "failed"]

LONGEST_RUN = timedelta(hours=1)
"""A run whose process cannot be identified counts as killed after this time: it blocks no other run."""


@dataclass(frozen=True)
class Trigger:
    """A reason to retrain.

    Attributes
    ----------
    source
        Who noticed it.
    cause
        Name of the alert, or what has drifted.
    experiment, model
        The served model and its experiment.
    since
        UTC instant from which it is degraded.
    """

    source: Source
    cause: str
    experiment: str
    model: str
    since: datetime


@dataclass(frozen=True)
class PastRun:
    """A retraining that a sensor or a person requested.

    Attributes
    ----------
    run_id
        Its identity.
    number
        Runs are numbered in the order of their requests.
    incident
        What it answers; ``None`` if a person launched it.
    attempt
        1 for the first run of its incident.
    status
        ``queued`` waits for its turn, however long; ``running`` has begun, or is about to.
    asked_at, started_at, ended_at
        UTC instants; the last two are ``None`` until they happen.
    is_lost
        Its process was killed. It counts as a failed attempt and ``ended_at`` is when that was noticed. It says nothing
        about the model, so the next attempt need not wait.
    """

    run_id: str
    number: int
    incident: str | None
    attempt: int
    status: RunState
    asked_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    is_lost: bool = False

    def is_under_way(self, now: datetime) -> bool:
        """Whether it waits for its turn or is running; what began too long ago is dead."""
        return self.status == "queued" or (self.status == "running" and now - self._began <= LONGEST_RUN)

    @property
    def latest_end(self) -> datetime:
        """When it ended; for a run that died unnoticed, the end of its longest possible time."""
        if self.ended_at is not None:
            return self.ended_at
        return self._began + LONGEST_RUN if self.status == "running" else self._began

    @property
    def _began(self) -> datetime:
        return self.asked_at if self.started_at is None else self.started_at


def incident_of(trigger: Trigger) -> str:
    """The incident that a trigger belongs to, ``<experiment>/<model>``, whoever noticed it."""
    return f"{trigger.experiment}/{trigger.model}"
