"""Prices: their source, their store, and what the clock lets be seen of them."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import Field

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import MarketDataError, SettingsError
from financial_assets.installation.trading_days import TradingDays
from financial_assets.market import calendar
from financial_assets.market.clock import ClockGap, HistoricalClock, PinnedSession
from financial_assets.market.index.coverage import Coverage
from financial_assets.market.panel import PricePanel, build_layout, panel_of
from financial_assets.market.panels.continued import continued
from financial_assets.market.panels.layout import Layout
from financial_assets.market.panels.lineage import Lineage
from financial_assets.market.panels.stored import Basis, StoredPanel
from financial_assets.market.restatement import is_same_market
from financial_assets.market.sources import PriceSource
from financial_assets.market.sources.simulated import SimulatedMarket, SimulatedPrices
from financial_assets.market.store import PriceStore, UpsertReport
from financial_assets.market.universe import Universe, read_universe
from financial_assets.settings.state_folder import RESOLVED, SETTINGS, marker_path, read_marker

if TYPE_CHECKING:
    from financial_assets.features.graph import FeaturePanel
    from financial_assets.market.ingestion import Ingestion
    from financial_assets.market.quality.notes import QualityNote

__all__ = ["MarketState", "make_source"]


class MarketState(TradingDays):
    """Prices of one market: their source, their store, and what the clock lets be seen of them."""

    tickers: list[str]
    price_files: str | None = None
    universe_file: str | None = None
    market_calendar: str = "XNYS"
    adjustment: str | None = None
    date_order: str | None = None
    decimal_mark: str | None = None
    start: str | None = None
    end: str | None = None
    quality_policy: Literal["quarantine", "strict"] = "quarantine"
    quality_overrides: str | None = None
    evaluation_share: float
    seed: int
    simulated_sessions: int
    simulated_signal: float
    simulated_pattern: Literal["momentum", "volume_reversal", "parity"] = "momentum"
    simulated_regime_shift: int | None = None
    log_url: str | None = None
    remembered: dict[str, str] = Field(default={})
    """Settings, by variable, that the state folder keeps for later commands."""

    def source(self) -> PriceSource:
        """The configured price source."""
        return make_source(self)

    @property
    def bayes_accuracy(self) -> float | None:
        """What the best possible predictor gets right, where it is known: in a simulated market."""
        source = self.source()
        return source.bayes_accuracy if isinstance(source, SimulatedPrices) else None

    def store(self) -> PriceStore:
        """The price store; refuses a state folder that was filled from another market.

        The folder belongs to a market from the first prices on that are stored in it: a run that stores nothing binds
        it to nothing. A market is known by its source and its bars, not by the path of its files.
        """
        marker = read_marker(self.folder)
        if marker is not None and _content(marker) != _content(self._identity()):
            raise self._other_market(marker)
        return _BindingStore(self.folder / "prices", self._bind)

    def _other_market(self, marker: Mapping[str, Any]) -> SettingsError:
        return SettingsError(
            f"FINANCIAL_ASSETS_HOME: {self.home} holds the state of {_described(marker)}, but the settings say "
            f"{_described(self._identity())}; set these back, set FINANCIAL_ASSETS_HOME to another folder, or "
            "remove this one"
        )

    def _bind(self, store: PriceStore, delivered: pd.DataFrame) -> None:
        """Make the state folder this market's; called before prices are stored, so that none are without owner.

        Files are the same market wherever they lie: those of another path are compared with the stored bars.
        """
        marker, content = read_marker(self.folder), self._identity() | {SETTINGS: self.remembered}
        if marker == content:
            return
        if marker is not None and not self._is_same_path(marker) and not is_same_market(store.read(), delivered):
            raise self._other_market(marker)
        atomic_write_text(marker_path(self.folder), json.dumps(content))

    def _is_same_path(self, marker: Mapping[str, Any]) -> bool:
        if self.price_files is None:
            return True
        # A relative path names other files in another folder. Earlier versions have kept nothing but what was set.
        is_clear = RESOLVED not in marker or Path(self.price_files).is_absolute()
        is_as_set = is_clear and marker.get("PRICE_FILES") == self.price_files
        return is_as_set or marker.get(RESOLVED) == self._identity()[RESOLVED]

    def _identity(self) -> dict[str, Any]:
        """What makes prices of two runs the same market."""
        identity: dict[str, Any] = {"PRICE_SOURCE": self.price_source}
        if self.market_calendar != "XNYS":  # not named in folders that were made before there was a choice
            identity["MARKET_CALENDAR"] = self.market_calendar
        if self.price_source == "files" and self.price_files is not None:
            identity["PRICE_FILES"] = self.price_files
            identity[RESOLVED] = os.path.realpath(Path(self.price_files).expanduser())
        if self.price_source == "simulated":
            names = ("seed", "simulated_sessions", "simulated_signal", "simulated_pattern", "simulated_regime_shift")
            identity |= {name.upper(): getattr(self, name) for name in names}
        return identity

    def ingest(self) -> Ingestion:
        """Bring the store up to date; see ``market.ingestion.ingest``."""
        from financial_assets.market.ingestion import REJUDGED, ingest  # pandera
        from financial_assets.market.quality.notes import notes_of, notes_to_json, still_left_out
        from financial_assets.market.quality.overrides import load_overrides

        overrides = load_overrides(None if self.quality_overrides is None else Path(self.quality_overrides))
        source = self.source()
        outcome = ingest(
            source,
            self.store(),
            self.tickers,
            _date(self.start),
            _date(self.end),
            policy=self.quality_policy,
            overrides=overrides,
        )
        if outcome.report is not None:
            notes = notes_of(outcome.screening)
            if source.live:
                # A live source delivers the last days only, and bars are judged again with those around them.
                earlier = still_left_out(self._notes(), outcome.prices["date"].min() - REJUDGED, overrides)
                notes = tuple(sorted((*earlier, *notes), key=lambda note: note.ticker))
            atomic_write_text(self._notes_path, notes_to_json(notes))
        return outcome

    @property
    def _notes_path(self) -> Path:
        return self.folder / "prices" / "quality.json"

    def waiting_tickers(self) -> tuple[str, ...]:
        """Tickers of which the last ingestion took nothing, because too much of it cannot be used."""
        return tuple(dict.fromkeys(note.ticker for note in self._notes() if note.outcome == "waits"))

    def quality_notes(self, sessions: pd.DatetimeIndex) -> tuple[QualityNote, ...]:
        """What the last ingestion noted about bars of ``sessions`` (sorted); none about later ones.

        Empty for a state folder whose prices were stored before there were notes.
        """
        from financial_assets.market.quality.notes import notes_within

        return notes_within(self._notes(), sessions[0], sessions[-1])

    def _notes(self) -> tuple[QualityNote, ...]:
        from financial_assets.market.quality.notes import notes_from_json

        try:
            return notes_from_json(self._notes_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ()
        except ValueError as error:
            raise MarketDataError(f"{self._notes_path} is damaged ({error}); materialize raw_prices again") from error

    def clock_gap(self) -> ClockGap:
        """The market clock beside the newest bar."""
        return ClockGap(self.clock().now(), self.coverage().sessions[-1])

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
        past = sessions[sessions <= self.clock().now()]
        before = self.cutoff_of(learner)
        moved = max(past[-1:].tolist() + ([] if before is None else [before]))
        self.own_cutoff(learner).set(moved)
        return moved

    def first_cutoff(self) -> PinnedSession:
        """The data cut-off of the first training: what a replay starts after. Retraining does not move it."""
        return PinnedSession(self.folder / "training.json", "first_data_cutoff")

    def begin(self, sessions: pd.DatetimeIndex) -> None:
        """On the first run, put data cut-off and historical clock before the evaluation share of ``sessions``.

        Lost ones are put back from the prediction log first.
        """
        self._recover()
        first = sessions[max(0, int(len(sessions) * (1 - self.evaluation_share)) - 1)]
        for pin in (self.first_cutoff(), self.cutoff()):
            if pin.get() is None:
                pin.set(first)
        clock = self._clock()
        if isinstance(clock, HistoricalClock):
            clock.start(first)

    def _recover(self) -> None:
        from financial_assets.installation.recovery import recover_clock, recover_cutoffs

        clock, lost = self._clock(), list[str]()
        if self.log_url is not None:
            lost.append(recover_cutoffs(self.folder / "training.json", self.log_url, self.folder / "models"))
            if isinstance(clock, HistoricalClock):
                lost.append(recover_clock(clock, self.log_url))
        for line in filter(None, lost):
            self._warn(line)

    def _warn(self, line: str) -> None:
        logging.getLogger("financial_assets").warning(line)

    def prices(self) -> pd.DataFrame:
        """Stored prices of the universe, sorted by ticker and date, without bars that a later ingestion left out."""
        frame = self._read(None, None, None)
        if frame.empty:
            raise self._no_prices()
        return frame

    def coverage(self) -> Coverage:
        """Which bars ``prices`` has."""
        from financial_assets.market.quality.notes import left_out_days

        held = self.store().coverage()
        found = held.within(self.tickers, _date(self.start), _date(self.end), left_out_days(self._notes()))
        if not held.within(self.tickers, _date(self.start), _date(self.end), {}).bars:
            raise self._no_prices()
        return found

    def _no_prices(self) -> MarketDataError:
        return MarketDataError(f"no prices of {', '.join(self.tickers)} in {self.home}; run `financial-assets run`")

    def _read(self, tickers: Sequence[str] | None, first: dt.date | None, last: dt.date | None) -> pd.DataFrame:
        """Part of ``prices``: of some tickers, within a span of days."""
        from financial_assets.market.quality.notes import without_left_out

        begins, ends = (
            [day for day in (_date(self.start), first) if day],
            [day for day in (_date(self.end), last) if day],
        )
        names = self.tickers if tickers is None else tickers
        frame = self.store().read(names, max(begins, default=None), min(ends, default=None))
        return without_left_out(frame, self._notes())

    def whole_panel(self) -> PricePanel:
        """All stored sessions, also those that lie after a historical clock: for outcomes and replays only."""
        return panel_of(self._whole_layout())

    def _whole_layout(self) -> Layout:
        universe = self.universe()
        return build_layout(self.prices(), None if universe is None else universe.members)

    def current_panel(self) -> StoredPanel:
        """The panel up to the clock; where one is stored, only what has changed since is laid out."""
        from financial_assets.market.quality.notes import left_out_days

        store, now = self.store(), self.clock().now()
        changes = store.history()
        basis = Basis(
            changes=len(changes),
            content_hash=changes[-1].new_hash if changes else "",
            settings=(calendar.name(), *map(str, (self.start, self.end)), *sorted(set(self.tickers))),
            left_out=left_out_days(self._notes()),
        )
        stored, universe = StoredPanel.load(self.panel_path), self.universe()
        if stored is not None:
            members = None if universe is None else universe.members
            longer = continued(stored, store, basis, self._read, members, now)
            if longer is not None:
                return longer
        return StoredPanel(self._whole_layout(), basis).until(now)

    def universe(self) -> Universe | None:
        """Who belongs to the universe when; ``None``: all of ``TICKERS``, always."""
        return None if self.universe_file is None else read_universe(Path(self.universe_file))

    def panel(self) -> PricePanel:
        """Everything up to the clock."""
        return self.current_panel().panel

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

    def load_panel_and_lineage(self) -> tuple[PricePanel, Lineage | None]:
        """The same, and what it has in common with earlier ones; ``None`` where that is not known."""
        stored = StoredPanel.load(self.panel_path)
        if stored is not None and stored.layout.sessions[-1] == self.clock().now():
            return stored.panel, stored.lineage
        return self.load_panel(), None

    def load_features(self) -> FeaturePanel:
        """The materialized ``features``; computed anew where another run, on another session, has written them."""
        from financial_assets.features.appending import load_features  # torch
        from financial_assets.features.graph import FeatureGraph, compute_panel

        stored = load_features(self.features_path)
        if stored.sessions[-1] == self.clock().now():
            return stored
        panel = self.load_panel()
        is_same = stored.sessions.equals(panel.sessions) and stored.tickers == panel.tickers
        return stored if is_same else compute_panel(panel, FeatureGraph())


class _BindingStore(PriceStore):
    """A price store whose folder is bound to its market before anything is stored."""

    def __init__(self, root: Path, bind: Callable[[PriceStore, pd.DataFrame], None]) -> None:
        super().__init__(root)
        self._bind = bind

    def upsert(self, frame: pd.DataFrame, gone: pd.DataFrame | None = None) -> UpsertReport:
        """See ``PriceStore.upsert``."""
        self._bind(self, frame)
        return super().upsert(frame, gone)


def _content(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a market is known by before any bar is read: all but the path of its files."""
    return {name: value for name, value in identity.items() if name not in ("PRICE_FILES", RESOLVED, SETTINGS)}


def _described(identity: Mapping[str, Any]) -> str:
    """``PRICE_SOURCE=files, PRICE_FILES=bars (/data/bars)``: a relative path means nothing by itself."""
    shown = {
        name: "(not set)" if value is None else value
        for name, value in identity.items()
        if name not in (RESOLVED, SETTINGS)
    }
    if RESOLVED in identity and not Path(str(shown.get("PRICE_FILES"))).is_absolute():
        shown["PRICE_FILES"] = f"{shown.get('PRICE_FILES')} ({identity[RESOLVED]})"
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def make_source(market: MarketState) -> PriceSource:
    """The price source that the settings name."""
    from financial_assets.market.sources.files import FilePrices, FileRules
    from financial_assets.market.sources.sample import SamplePrices
    from financial_assets.market.sources.yahoo import YahooPrices

    match market.price_source:
        case "sample":
            return SamplePrices()
        case "yahoo":
            return YahooPrices()
        case "files" if market.price_files:
            mark = {"point": ".", "comma": ","}.get(market.decimal_mark or "")
            rules = FileRules(
                adjustment=market.adjustment, date_order=market.date_order, decimal_mark=mark, zone=calendar.zone()
            )
            return FilePrices(market.price_files, rules)
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
