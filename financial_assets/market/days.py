"""Trading days of a state folder: which session each run works on, and who brings a new one.

A run keeps its session from its first step to its last, in whatever process a step runs and whoever moves the market
clock meanwhile. One run at a time brings a new session: it claims the day and works on it, and the clock moves when all
of the day is done. A claim ends with its run: when the run has ended by its record, or the process that executed it is
gone. What a run that broke off has left undone is done by the next one, on the same session.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from financial_assets.errors import MarketDataError
from financial_assets.market.clock import HistoricalClock, LiveClock, held
from financial_assets.market.day_state import Claim, DayState, RunSession, read_days, write_days
from financial_assets.tracking.owners import OWNER_HOST, OWNER_PID, owner_is_alive, owner_tags

_FOREIGN = timedelta(hours=24)
"""A claim of another host, whose processes cannot be seen, is over after this time: many times the longest run."""


def _never_recorded(run: str) -> bool:
    return False


@dataclass(frozen=True)
class TradingRun:
    """Who works on a session.

    Attributes
    ----------
    name
        Names the run, the same in all its processes.
    parent
        The run whose failed steps this one repeats; it keeps that run's session.
    owner
        Gives the tags of the process that executes the run, see ``tracking.owners``; empty when it cannot be known.
    has_ended
        Whether another run, by its name, has ended by its record; ``False`` when there is no record.
    """

    name: str
    parent: str | None = None
    owner: Callable[[], Mapping[str, str]] = owner_tags
    has_ended: Callable[[str], bool] = _never_recorded


class Days:
    """Sessions of runs and the claim on a new one, kept in a JSON file across processes.

    Parameters
    ----------
    path
        The file.
    clock
        The market clock of the state folder.
    """

    def __init__(self, path: Path, clock: HistoricalClock | LiveClock) -> None:
        self.path, self.clock = path, clock

    def completed(self) -> pd.Timestamp | None:
        """The last session of which everything is done: a historical clock stands on it. ``None`` before the first."""
        return self._completed(read_days(self.path))

    def session_of(self, run: TradingRun) -> pd.Timestamp:
        """The session that ``run`` works on, fixed when it is first asked for: its parent's, or that of the clock.

        Raises
        ------
        MarketDataError
            The parent's day is worked on by another run, or later days are complete.
        """
        kept = read_days(self.path).sessions.get(run.name)
        return self._fix(run) if kept is None else kept.session

    def _fix(self, run: TradingRun) -> pd.Timestamp:
        with held(self.path):
            state = read_days(self.path)
            kept = state.sessions.get(run.name)
            if kept is not None:  # another step was quicker
                return kept.session
            kept = state.sessions.get(run.parent or "") or RunSession(self.clock.now(), is_new=False)
            if kept.is_new:  # an unfinished day goes over to the run that repeats its failed steps
                last = self._completed(state)
                if last is not None and kept.session < last:
                    raise MarketDataError(
                        f"run {run.parent} was at work on session {kept.session.date()}, but later ones are complete, "
                        f"up to {last.date()}: launch the job `daily` anew"
                    )
                kept = replace(kept, is_new=kept.session != last)
            if kept.is_new:
                state = self._claimed(state, run, kept.session)
            write_days(self.path, state.keeping(run.name, kept))
        return kept.session

    def begin(self, run: TradingRun, choose: Callable[[], pd.Timestamp], *, is_new: bool) -> pd.Timestamp:
        """Fix the session of a run at its first step; a step that is tried again keeps it.

        Parameters
        ----------
        run
            The run.
        choose
            Gives the session; nobody completes one meanwhile.
        is_new
            Whether the run brings a new session, which one run at a time may do.

        Raises
        ------
        MarketDataError
            Another run is bringing one, or an earlier step of this run has worked on the session of the clock.
        """
        with held(self.path):
            state = read_days(self.path)
            kept = state.sessions.get(run.name)
            if kept is not None and is_new and not kept.is_new:
                raise MarketDataError(
                    f"a step of run {run.name} has worked on session {kept.session.date()} before the run has brought "
                    "a new one: raw_prices must come first"
                )
            if kept is None:
                if is_new:
                    self._refuse_second(state, run)
                kept = RunSession(choose(), is_new)
                if is_new:
                    state = self._claimed(state, run, kept.session)
                write_days(self.path, state.keeping(run.name, kept))
        return kept.session

    def claim(self, run: TradingRun) -> bool:
        """Take the right to move the market clock, for a replay; whether ``run`` did not have it before.

        Raises
        ------
        MarketDataError
            Another run has it.
        """
        with held(self.path):
            state = read_days(self.path)
            if state.claim is not None and state.claim.run == run.name:
                return False
            write_days(self.path, self._claimed(state, run, None))
        return True

    def release(self, run: TradingRun) -> None:
        """Give the claim back; one that another run has taken over stays."""
        with held(self.path):
            state = read_days(self.path)
            if state.claim is not None and state.claim.run == run.name:
                write_days(self.path, replace(state, claim=None))

    def move(self, run: TradingRun | None, session: pd.Timestamp) -> None:
        """Move a historical clock forward to ``session``, and with it the session of the run that replays."""
        with held(self.path):
            self._advance(session)
            if run is not None:
                write_days(self.path, read_days(self.path).keeping(run.name, RunSession(session, is_new=False)))

    def complete(self, run: TradingRun | None, session: pd.Timestamp) -> None:
        """All of ``session`` is done: the clock moves there, and the run's claim ends.

        Raises
        ------
        MarketDataError
            The run brought a new session, and another run has taken its claim over: the clock stays.
        """
        name = "" if run is None else run.name
        with held(self.path):
            state = read_days(self.path)
            holds = state.claim is not None and state.claim.run == name
            kept = state.sessions.get(name)
            last = self._completed(state)
            if kept is not None and kept.is_new and not holds and (last is None or session > last):
                taker = "nobody" if state.claim is None else state.claim.run
                raise MarketDataError(
                    f"run {name} has lost session {session.date()}, which {taker} is at work on now: the market "
                    "clock stays where it is"
                )
            self._advance(session)
            # The claim ends after the move: a crash between the two leaves a claim of a dead owner, not a day twice.
            write_days(
                self.path,
                replace(
                    state,
                    claim=None if holds else state.claim,
                    completed=session if last is None else max(last, session),
                ),
            )

    def _completed(self, state: DayState) -> pd.Timestamp | None:
        return self.clock.now() if isinstance(self.clock, HistoricalClock) else state.completed

    def _advance(self, session: pd.Timestamp) -> None:
        if isinstance(self.clock, HistoricalClock) and session > self.clock.now():
            self.clock.advance_to(session)

    def _claimed(self, state: DayState, run: TradingRun, session: pd.Timestamp | None) -> DayState:
        self._refuse_second(state, run)
        return replace(state, claim=Claim(run.name, session, run.owner(), datetime.now(UTC)))

    def _refuse_second(self, state: DayState, run: TradingRun) -> None:
        claim = state.claim
        if claim is None or claim.run == run.name or _is_over(claim, run):
            return
        owner = claim.owner
        process = f" (process {owner[OWNER_PID]} on {owner[OWNER_HOST]})" if OWNER_PID in owner else ""
        work = "moving the market clock" if claim.session is None else f"at work on session {claim.session.date()}"
        raise MarketDataError(
            f"run {claim.run}{process} has been {work} of {self.path.parent} since {claim.since:%Y-%m-%d %H:%M} UTC. "
            "One run at a time brings a new session; this one has changed nothing. Launch it again when that one has "
            f"ended. If that one can no longer be running, remove the entry `claim` of {self.path}"
        )


@dataclass(frozen=True)
class RunClock:
    """The market clock as one run sees it: it stands on the run's session, and only the run itself moves it.

    Attributes
    ----------
    days
        Where the run's session is kept.
    run
        The run.
    """

    days: Days
    run: TradingRun

    def now(self) -> pd.Timestamp:
        """The session of the run."""
        return self.days.session_of(self.run)


def _is_over(claim: Claim, run: TradingRun) -> bool:
    if run.has_ended(claim.run) or not owner_is_alive(claim.owner):
        return True
    is_foreign = claim.owner.get(OWNER_HOST) != socket.gethostname()
    return is_foreign and datetime.now(UTC) - claim.since > _FOREIGN
