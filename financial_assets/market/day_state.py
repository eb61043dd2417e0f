"""The file behind trading days: sessions of runs, the claim on a new session, and the last complete one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import MarketDataError
from financial_assets.market import calendar
from financial_assets.market.clock import read_entries

_KEPT = 100
"""Runs whose session is remembered: more than can be under way, or be repeated from a failed step."""


@dataclass(frozen=True)
class Claim:
    """The right of one run to move the market clock.

    Attributes
    ----------
    run
        Its name.
    session
        The session that it brings; ``None`` for a replay, which brings many.
    owner
        Tags of the process that executes it, see ``tracking.owners``.
    since
        When the claim was made (UTC).
    """

    run: str
    session: pd.Timestamp | None
    owner: Mapping[str, str]
    since: datetime


@dataclass(frozen=True)
class RunSession:
    """The session that a run works on, and whether the run brings it as a new one."""

    session: pd.Timestamp
    is_new: bool


@dataclass(frozen=True)
class DayState:
    """All that is kept.

    Attributes
    ----------
    claim
        Who may move the clock, if anybody.
    completed
        The last session of which everything is done.
    sessions
        Run to its session, in the order in which they were last set.
    """

    claim: Claim | None = None
    completed: pd.Timestamp | None = None
    sessions: Mapping[str, RunSession] = field(default_factory=dict)

    def keeping(self, run: str, kept: RunSession) -> DayState:
        """A copy with the session of ``run``; the oldest runs are forgotten."""
        others = {name: one for name, one in self.sessions.items() if name != run}
        return replace(self, sessions=dict([*others.items(), (run, kept)][-_KEPT:]))


def read_days(path: Path) -> DayState:
    """What the file holds; nothing when there is none.

    Raises
    ------
    MarketDataError
        The file is damaged.
    """
    entries = read_entries(path)
    try:
        return DayState(
            claim=_claim(entries.get("claim")),
            completed=_session(entries.get("completed")),
            sessions={
                str(name): RunSession(calendar.as_session(one["session"]), bool(one["new"]))
                for name, one in entries.get("sessions", {}).items()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError, MarketDataError) as error:
        raise MarketDataError(f"{path} is damaged ({error!r}); remove it, with no run under way") from error


def write_days(path: Path, state: DayState) -> None:
    """Write the file atomically."""
    claim = state.claim
    entries = {
        "claim": claim
        and {
            "run": claim.run,
            "session": _iso(claim.session),
            "owner": dict(claim.owner),
            "since": claim.since.isoformat(timespec="seconds"),
        },
        "completed": _iso(state.completed),
        "sessions": {
            name: {"session": _iso(kept.session), "new": kept.is_new} for name, kept in state.sessions.items()
        },
    }
    atomic_write_text(path, json.dumps(entries, indent=2) + "\n")


def _claim(entry: Any) -> Claim | None:
    if entry is None:
        return None
    owner = {str(name): str(value) for name, value in entry["owner"].items()}
    since = datetime.fromisoformat(entry["since"])
    if since.tzinfo is None:
        raise ValueError(f"{entry['since']} carries no time zone")
    return Claim(str(entry["run"]), _session(entry["session"]), owner, since)


def _session(text: Any) -> pd.Timestamp | None:
    return None if text is None else calendar.as_session(text)


def _iso(session: pd.Timestamp | None) -> str | None:
    return None if session is None else calendar.as_session(session).date().isoformat()
