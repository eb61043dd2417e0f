"""Prices: their source, their store, and what the clock lets be seen of them."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import pandas as pd
from pydantic import PrivateAttr

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import MarketDataError, SettingsError
from financial_assets.features.graph import FeatureGraph, FeaturePanel, compute_panel
from financial_assets.market.clock import ClockGap, HistoricalClock, LiveClock, MarketClock, PinnedSession
from financial_assets.market.days import Days, Run, RunClock
from financial_assets.market.ingestion import Ingestion, ingest
from financial_assets.market.panel import PricePanel, build_panel
from financial_assets.market.sources import PriceSource
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.market.store import PriceStore
from financial_assets.resources.dagster_run import run_of

__all__ = ["Market", "make_source"]


_MOST_CAUGHT_UP = 252
"""Sessions whose signals one run makes up for at most: a year."""


class Market(dg.ConfigurableResource):
    """Prices of one market: their source, their store, and what the clock lets be seen of them."""

    home: str
    price_source: str
    tickers: list[str]
    price_files: str | None = None
    start: str | None = None
    end: str | None = None
    evaluation_share: float
    seed: int
    simulated_sessions: int
    simulated_signal: float
    simulated_pattern: Literal["momentum", "volume_reversal", "parity"] = "momentum"
    simulated_regime_shift: int | None = None

    _run: Run | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Learn which run this is: a run keeps its session."""
        self._run = run_of(context)

    @property
    def folder(self) -> Path:
        """The state folder."""
        return Path(self.home)

    def source(self) -> PriceSource:
        """The configured price source."""
        return make_source(self)

    @property
    def bayes_accuracy(self) -> float | None:
        """What the best possible predictor gets right, where it is known: in a simulated market."""
        source = self.source()
        return source.bayes_accuracy if isinstance(source, SimulatedPrices) else None

    def store(self) -> PriceStore:
        """The price store; refuses a state folder that was filled from another source."""
        marker = self.folder / "market.json"
        identity = self._identity()
        if marker.exists():
            found = _read_marker(marker)
            if found != identity:
                raise SettingsError(
                    f"FINANCIAL_ASSETS_HOME: {self.home} holds the state of {found}, but the settings say {identity}; "
                    "set FINANCIAL_ASSETS_HOME to another folder, or remove this one"
                )
        else:
            atomic_write_text(marker, json.dumps(identity))
        return PriceStore(self.folder / "prices")

    def _identity(self) -> dict[str, Any]:
        """What makes prices of two runs the same market."""
        identity: dict[str, Any] = {"PRICE_SOURCE": self.price_source}
        if self.price_source == "files":
            identity["PRICE_FILES"] = self.price_files
        if self.price_source == "simulated":
            names = ("seed", "simulated_sessions", "simulated_signal", "simulated_pattern", "simulated_regime_shift")
            identity |= {name.upper(): getattr(self, name) for name in names}
        return identity

    def ingest(self) -> Ingestion:
        """Bring the store up to date; see ``market.ingestion.ingest``."""
        return ingest(self.source(), self.store(), self.tickers, _date(self.start), _date(self.end))

    def clock(self) -> MarketClock:
        """Which session is now; in a run, the session of that run from its first step to its last."""
        return self._clock() if self._run is None else RunClock(self._days(), self._run)

    def _clock(self) -> HistoricalClock | LiveClock:
        return LiveClock() if self.price_source == "yahoo" else HistoricalClock(self.folder / "clock.json")

    def _days(self) -> Days:
        return Days(self.folder / "days.json", self._clock())

    @property
    def is_historical(self) -> bool:
        """Whether the clock is moved session by session; a live one moves by itself."""
        return isinstance(self._clock(), HistoricalClock)

    def clock_gap(self) -> ClockGap:
        """The market clock beside the newest bar."""
        return ClockGap(self.clock().now(), pd.Timestamp(self.prices()["date"].max()))

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
        days, run = self._days(), self._run or Run(f"replay-{os.getpid()}")
        is_mine = days.claim(run)
        try:
            yield
        finally:
            if is_mine:
                days.release(run)

    def cutoff(self) -> PinnedSession:
        """The last session that training may use, where the asset that learns has no cut-off of its own."""
        return PinnedSession(self.folder / "training.json", "data_cutoff")

    def own_cutoff(self, learner: str) -> PinnedSession:
        """The data cut-off of an asset that was trained again; the others keep theirs, and so their models."""
        return PinnedSession(self.folder / "training.json", f"data_cutoff of {learner}")

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
        known = sessions[sessions <= self.clock().now()]
        before = self.cutoff_of(learner)
        moved = max(known[-1:].tolist() + ([] if before is None else [before]))
        self.own_cutoff(learner).set(moved)
        return moved

    def first_cutoff(self) -> PinnedSession:
        """The data cut-off of the first training: what a replay starts after. Retraining does not move it."""
        return PinnedSession(self.folder / "training.json", "first_data_cutoff")

    def begin(self, sessions: pd.DatetimeIndex) -> None:
        """On the first run, put data cut-off and historical clock before the evaluation share of ``sessions``."""
        first = sessions[max(0, int(len(sessions) * (1 - self.evaluation_share)) - 1)]
        for pin in (self.first_cutoff(), self.cutoff()):
            if pin.get() is None:
                pin.set(first)
        clock = self._clock()
        if isinstance(clock, HistoricalClock):
            clock.start(first)

    def prices(self) -> pd.DataFrame:
        """Stored prices of the universe, sorted by ticker and date."""
        frame = self.store().read(self.tickers, _date(self.start), _date(self.end))
        if frame.empty:
            raise MarketDataError(
                f"no prices of {', '.join(self.tickers)} in {self.home}; materialize raw_prices first"
            )
        return frame

    def whole_panel(self) -> PricePanel:
        """All stored sessions, also those that lie after a historical clock: for outcomes and replays only."""
        return build_panel(self.prices())

    def panel(self) -> PricePanel:
        """Everything up to the clock."""
        return self.whole_panel().until(self.clock().now())

    @property
    def panel_path(self) -> Path:
        """Where ``price_panel`` is kept."""
        return self.folder / "panel" / "price_panel.npz"

    @property
    def features_path(self) -> Path:
        """Where ``features`` is kept."""
        return self.folder / "features" / "features.npz"

    def load_panel(self) -> PricePanel:
        """The materialized ``price_panel``; made anew where another run, on another session, has written it since."""
        stored = PricePanel.load(self.panel_path)
        return stored if stored.sessions[-1] == self.clock().now() else self.panel()

    def load_features(self) -> FeaturePanel:
        """The materialized ``features``; computed anew where another run, on another session, has written them."""
        stored = FeaturePanel.load(self.features_path)
        if stored.sessions[-1] == self.clock().now():
            return stored
        panel = self.load_panel()
        is_same = stored.sessions.equals(panel.sessions) and stored.tickers == panel.tickers
        return stored if is_same else compute_panel(panel, FeatureGraph())


def _read_marker(marker: Path) -> Any:
    try:
        return json.loads(marker.read_text())
    except ValueError as error:
        raise SettingsError(
            f"FINANCIAL_ASSETS_HOME: {marker} is damaged ({error}); remove it if the folder's prices come from the "
            "configured source"
        ) from error


def make_source(market: Market) -> PriceSource:
    """The price source that the settings name."""
    from financial_assets.market.sources.files import FilePrices
    from financial_assets.market.sources.sample import SamplePrices
    from financial_assets.market.sources.yahoo import YahooPrices

    match market.price_source:
        case "sample":
            return SamplePrices()
        case "yahoo":
            return YahooPrices()
        case "files" if market.price_files:
            return FilePrices(market.price_files)
        case "simulated":
            return SimulatedPrices(
                SimulatedMarket(
                    sessions=market.simulated_sessions,
                    seed=market.seed,
                    signal_strength=market.simulated_signal,
                    signal=market.simulated_pattern,
                    regime_shift_session=market.simulated_regime_shift,
                )
            )
        case other:
            raise SettingsError(f"PRICE_SOURCE: {other!r} is not known")


def _date(text: str | None) -> dt.date | None:
    return None if text is None else dt.date.fromisoformat(text)
