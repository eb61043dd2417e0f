"""Reasons to train again, and retrainings that were asked for before: the two things that a decision looks at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

__all__ = ["LONGEST_RUN", "PastRun", "RunState", "Source", "Trigger", "episode_of"]

Source = Literal["alert", "drift"]
RunState = Literal["queued", "running", "succeeded", "failed"]

LONGEST_RUN = timedelta(hours=1)
"""A run whose process cannot be known and that was started longer ago counts as killed: it is in nobody's way."""


@dataclass(frozen=True)
class Trigger:
    """A reason to train again.

    Attributes
    ----------
    source
        Who noticed.
    cause
        Name of the alert, or what has drifted.
    experiment, model
        Whose served model.
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
    """A retraining that was asked for, by a sensor or by hand.

    Attributes
    ----------
    run_id
        Its identity.
    number
        Runs are numbered in the order in which they were asked for.
    episode
        What it answers; ``None`` if a person asked.
    attempt
        1 for the first one of its episode.
    status
        ``queued`` waits for its turn, however long; ``running`` has begun, or is about to.
    asked_at, started_at, ended_at
        UTC instants; the last two are ``None`` as long as they have not come.
    is_lost
        Its process was killed. It counts as a failed attempt, ``ended_at`` is when that was noticed, and it says
        nothing about the model: the next attempt need not wait.
    """

    run_id: str
    number: int
    episode: str | None
    attempt: int
    status: RunState
    asked_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    is_lost: bool = False

    def is_dead(self, now: datetime) -> bool:
        """Whether it began too long ago to be still running."""
        return self.status == "running" and now - self._began > LONGEST_RUN

    def is_under_way(self, now: datetime) -> bool:
        """Whether it waits for its turn or is running."""
        return self.status in ("queued", "running") and not self.is_dead(now)

    @property
    def latest_end(self) -> datetime:
        """When it ended; of a run that died without a word, when its time was up."""
        if self.ended_at is not None:
            return self.ended_at
        return self._began + LONGEST_RUN if self.status == "running" else self._began

    @property
    def _began(self) -> datetime:
        return self.asked_at if self.started_at is None else self.started_at


def episode_of(trigger: Trigger) -> str:
    """The name of the episode that a trigger belongs to."""
    return f"{trigger.experiment}/{trigger.model}"
