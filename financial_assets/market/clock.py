"""The market clock: which session is "now".

Nothing later than the clock is visible to any asset, except as an outcome that has become due.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import MarketDataError
from financial_assets.locking import exclusive
from financial_assets.market import calendar

_LOCK_SECONDS = 30.0


class MarketClock(Protocol):
    """Says which session is the last one whose bars may be seen."""

    def now(self) -> pd.Timestamp:
        """The current session (tz-naive)."""
        ...


@dataclass(frozen=True)
class ClockGap:
    """The market clock beside the newest bar: what is shown is as of the one, prices are known up to the other.

    Attributes
    ----------
    clock
        The session of the market clock.
    newest_bar
        The last session of which any bar is stored.
    """

    clock: pd.Timestamp
    newest_bar: pd.Timestamp

    @property
    def sessions(self) -> int:
        """Sessions of the calendar from the clock to the newest bar; negative when the prices end before the clock."""
        return calendar.sessions_later(self.clock, self.newest_bar)

    @property
    def sentence(self) -> str:
        """What people are told, with the way on; empty when clock and newest bar are the same session."""
        behind = self.sessions
        if behind == 0:
            return ""
        dates = f"Market clock: {self.clock:%Y-%m-%d}. Newest bar: {self.newest_bar:%Y-%m-%d}, {_count(abs(behind))} "
        if behind > 0:
            return dates + "later. `financial-assets replay` or the `daily` job moves the clock on."
        return dates + "earlier. The `daily` job fetches what is missing."

    @property
    def fields(self) -> dict[str, str | int]:
        """The same for programs: days as ISO dates, and the sessions between them."""
        return {
            "market_clock": f"{self.clock:%Y-%m-%d}",
            "newest_bar": f"{self.newest_bar:%Y-%m-%d}",
            "sessions_to_newest_bar": self.sessions,
        }


def _count(sessions: int) -> str:
    return f"{sessions:,} session" + ("" if sessions == 1 else "s")


def _utc_now() -> pd.Timestamp:
    return pd.Timestamp.now(tz="UTC")


@dataclass(frozen=True)
class LiveClock:
    """For live sources: the last completed session.

    Attributes
    ----------
    instant
        Gives the current instant (UTC-aware).
    """

    instant: Callable[[], pd.Timestamp] = _utc_now

    def now(self) -> pd.Timestamp:
        """The last session that has closed."""
        return calendar.last_completed_session(self.instant())


@dataclass(frozen=True)
class PinnedSession:
    """A session that outlives the process, e.g. the data cut-off of training: one entry of a JSON file.

    Attributes
    ----------
    path
        The file; other keys in it are left alone.
    key
        The entry's name.
    """

    path: Path
    key: str

    def get(self) -> pd.Timestamp | None:
        """The session, ``None`` when never set.

        Raises
        ------
        MarketDataError
            The file holds something else.
        """
        return _read(self.path, self.key)

    def set(self, session: pd.Timestamp) -> None:
        """Set it to a session of the calendar."""
        with held(self.path):
            _write(self.path, self.key, session)


class HistoricalClock:
    """For historical sources: a persisted session that only moves forward.

    Parameters
    ----------
    path
        JSON file that keeps it across processes.
    """

    _KEY = "as_of"

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def started(self) -> bool:
        """Whether the clock has a session."""
        return _read(self.path, self._KEY) is not None

    def start(self, session: pd.Timestamp) -> None:
        """Start at ``session``; a clock that has already started is left where it is."""
        with held(self.path):
            if not self.started:
                _write(self.path, self._KEY, session)

    def now(self) -> pd.Timestamp:
        """The current session.

        Raises
        ------
        MarketDataError
            The clock was never started.
        """
        session = _read(self.path, self._KEY)
        if session is None:
            raise MarketDataError(f"the market clock {self.path} was never started; run `financial-assets run`")
        return session

    def advance_to(self, session: pd.Timestamp) -> None:
        """Move forward to ``session``; staying is allowed.

        Raises
        ------
        MarketDataError
            ``session`` lies before the clock, is not a session of the calendar, or the clock was never started.
        """
        with held(self.path):
            now = self.now()
            if session < now:
                raise MarketDataError(
                    f"the market clock is at {now.date()} and cannot go back to {session.date()}; "
                    f"remove {self.path} to begin again"
                )
            _write(self.path, self._KEY, session)

    def next(self, sessions: pd.DatetimeIndex) -> pd.Timestamp | None:
        """The first of ``sessions`` (sorted) after now, ``None`` at their end; the clock does not move."""
        position = int(sessions.searchsorted(self.now(), side="right"))
        return None if position == len(sessions) else sessions[position]


def held(path: Path) -> AbstractContextManager[None]:
    """Keep other processes from writing ``path``.

    Raises
    ------
    MarketDataError
        Another process held it for half a minute.
    """
    lock = path.with_name(f".{path.name}.lock")
    return exclusive(lock, _LOCK_SECONDS, error=MarketDataError, purpose=f"writing {path.name}")


def read_entries(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``, empty when there is no file.

    Raises
    ------
    MarketDataError
        The file holds something else.
    """
    try:
        entries: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise MarketDataError(f"{path} is not JSON ({error}); remove it to begin again") from error
    if not isinstance(entries, dict):
        raise MarketDataError(f"{path} does not hold a JSON object; remove it to begin again")
    return dict(entries)


def _read(path: Path, key: str) -> pd.Timestamp | None:
    value = read_entries(path).get(key)
    if value is None:
        return None
    try:
        return calendar.as_session(str(value))
    except (ValueError, MarketDataError) as error:
        raise MarketDataError(f"{path}: {key} is {value!r} ({error}); remove the file to begin again") from error


def _write(path: Path, key: str, session: pd.Timestamp) -> None:
    entries = read_entries(path) | {key: calendar.as_session(session).date().isoformat()}
    atomic_write_text(path, json.dumps(entries, indent=2, sort_keys=True) + "\n")
