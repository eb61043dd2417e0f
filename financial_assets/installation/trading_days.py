"""The market clock, the trading days and the data cut-offs of a state folder, as a run sees them."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, PrivateAttr

from financial_assets.market.clock import HistoricalClock, LiveClock, MarketClock, PinnedSession
from financial_assets.market.days import Days, RunClock, TradingRun

_MOST_CAUGHT_UP = 252
"""Most missed sessions for which one run makes signals: a year."""


_AS_STORED = {"reference_models": "baselines"}
"""Learners whose cut-offs are stored under the name that their asset had in earlier versions."""


class TradingDays(BaseModel):
    """Which session is now, which one this run works on, which was completed last, and up to which models may learn."""

    model_config = ConfigDict(frozen=True)

    home: str
    price_source: str

    _run: TradingRun | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """The state folder."""
        return Path(self.home)

    def clock(self) -> MarketClock:
        """Which session is now; in a run, the session of that run from its first step to its last."""
        return self._clock() if self._run is None else RunClock(self._days(), self._run)

    def _clock(self) -> HistoricalClock | LiveClock:
        return LiveClock() if self.price_source == "yahoo" else HistoricalClock(self.folder / "clock.json")

    def _days(self) -> Days:
        return Days(self.days_path, self._clock())

    @property
    def days_path(self) -> Path:
        """Where the sessions of runs, and the claim on a new one, are kept."""
        return self.folder / "days.json"

    @property
    def is_historical(self) -> bool:
        """Whether the clock is moved session by session; a live one moves by itself."""
        return isinstance(self._clock(), HistoricalClock)

    def claim_day(self) -> None:
        """Make sure that this run alone brings a new session; raises ``MarketDataError`` when another one does."""
        if self._run is not None:
            self._days().claim(self._run)

    def begin_session(self, sessions: pd.DatetimeIndex, advance: int) -> pd.Timestamp:
        """Fix the session that this run works on; the clock moves there when the day is complete.

        Parameters
        ----------
        sessions
            Sessions with prices, sorted.
        advance
            Sessions after a historical clock; the last one with prices at most. A live clock is where it is.
        """
        clock = self._clock()

        def choose() -> pd.Timestamp:
            now = clock.now()
            later = sessions[sessions > now][:advance]
            return later[-1] if len(later) and isinstance(clock, HistoricalClock) else now

        return choose() if self._run is None else self._days().begin(self._run, choose, is_new=advance > 0)

    def last_completed(self) -> pd.Timestamp | None:
        """The last session of which everything is done; a historical clock stands on it."""
        return self._days().completed()

    def uncompleted(self, sessions: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Those of ``sessions`` (sorted) after the last complete one, up to this run's, which is always among them.

        At most a year; where nothing is known of a complete one, only this run's.
        """
        past, last = sessions[sessions <= self.clock().now()], self.last_completed()
        due = past[-1:] if last is None else past[past > last][-_MOST_CAUGHT_UP:]
        return due if len(due) else past[-1:]

    def complete_session(self, session: pd.Timestamp) -> None:
        """All of ``session`` is done: a historical clock moves there, and another run may bring a new one."""
        self._days().complete(self._run, session)

    def move_clock(self, session: pd.Timestamp) -> None:
        """A replay has come to ``session``: a historical clock moves there, never back."""
        if self.is_historical and session > self.clock().now():
            self._days().move(self._run, session)

    @contextmanager
    def moving_clock(self, until: pd.Timestamp) -> Generator[None]:
        """Keep other runs from bringing a new session while a replay moves the clock to ``until``."""
        if until <= self.clock().now():
            yield
            return
        days, run = self._days(), self._run or TradingRun(f"replay-{os.getpid()}")
        is_mine = days.claim(run)
        try:
            # Another run may have replayed since this one began. Nothing is left to send then, and what follows must
            # not be evaluated as of a session that everybody else has left.
            if self._run is not None and (now := self._clock().now()) > self.clock().now():
                days.move(self._run, now)
            yield
        finally:
            if is_mine:
                days.release(run)

    def cutoff(self) -> PinnedSession:
        """The last session that training may use, where the asset that learns has no cut-off of its own."""
        return PinnedSession(self.folder / "training.json", "data_cutoff")

    def own_cutoff(self, learner: str) -> PinnedSession:
        """The data cut-off of an asset that was trained again; the others keep theirs, and so their models."""
        return PinnedSession(self.folder / "training.json", f"data_cutoff of {_AS_STORED.get(learner, learner)}")

    def cutoff_of(self, learner: str) -> pd.Timestamp | None:
        """The last session that the asset ``learner`` may learn from; ``None`` before anything was ingested."""
        own = self.own_cutoff(learner).get()
        return self.cutoff().get() if own is None else own

    def move_cutoff(self, learner: str, sessions: pd.DatetimeIndex) -> pd.Timestamp:
        """Move the data cut-off of ``learner`` up to the clock, to a session that has prices; it never goes back.

        Parameters
        ----------
        learner
            Name of an asset.
        sessions
            Sessions with prices, sorted.
        """
        past = sessions[sessions <= self.clock().now()]
        before = self.cutoff_of(learner)
        moved = max(past[-1:].tolist() + ([] if before is None else [before]))
        self.own_cutoff(learner).set(moved)
        return moved

    def first_cutoff(self) -> PinnedSession:
        """The data cut-off of the first training: what a replay starts after. Retraining does not move it."""
        return PinnedSession(self.folder / "training.json", "first_data_cutoff")
